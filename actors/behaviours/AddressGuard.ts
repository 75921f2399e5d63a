/**
 * Decides where a task may connect to: the wall between what tenants ask for and the network this node stands in.
 *
 * Invariant: only globally reachable unicast addresses, unless the agent's settings name others. Addresses are judged
 * as they go into the socket, never as they were written or resolved before, so that no spelling of an address and no
 * name server that changes its mind gets around it. It decides and resolves; it must not fetch.
 */
import { lookup as systemLookup } from "node:dns/promises"
import { isIP } from "node:net"
import { Context, Predicate, Result, Schema } from "effect"
import ipaddr from "ipaddr.js"

/** The destination is refused. Another attempt cannot help: only other settings can. */
export class DestinationRefused extends Schema.TaggedError<DestinationRefused>()("DestinationRefused", {
  message: Schema.String
}) {}

export interface ResolvedAddress {
  readonly address: string
  readonly family: number
}

/** Asks for all addresses of a name. The system's resolver, so that `/etc/hosts` and search domains hold. */
export const HostResolver = Context.Reference<(hostname: string) => Promise<ReadonlyArray<ResolvedAddress>>>(
  "datamcp/behaviours/HostResolver",
  { defaultValue: () => (hostname) => systemLookup(hostname, { all: true, order: "verbatim" }) }
)

type Entry =
  | {
      readonly _tag: "Network"
      readonly address: ipaddr.IPv4 | ipaddr.IPv6
      readonly bits: number
      readonly port: number | undefined
    }
  | { readonly _tag: "Host"; readonly name: string; readonly port: number | undefined }

/** Where an agent may connect to. Made by `networkPolicy`. */
export interface NetworkPolicy {
  readonly private: ReadonlyArray<Entry>
  /** Undefined: any public host. */
  readonly hosts: ReadonlyArray<Entry> | undefined
}

/** Most entries of one list. */
const entriesMax = 256

const EntryText = Schema.String.check(
  Schema.isMaxLength(300),
  Schema.makeFilter((text: string) => parseEntry(text) !== undefined, {
    expected:
      "a host name, an address or a network, with an optional port, such as files.internal, *.example.com:443, 10.0.0.0/8 or [fd00::/8]:8080"
  })
)

/** Fields of an agent's settings that make its `NetworkPolicy`. */
export const networkSettings = {
  /**
   * What may be reached although it is not public. A network admits its addresses; a name admits loopback and private
   * addresses that it resolves to. Without a port: every port.
   */
  allow_private: Schema.optionalKey(Schema.Array(EntryText).check(Schema.isMaxLength(entriesMax))),
  /** When given, the only public hosts that may be reached. `*.example.com` stands for every name below it. */
  allow_hosts: Schema.optionalKey(Schema.Array(EntryText).check(Schema.isMaxLength(entriesMax)))
}

/** `settings` have passed `networkSettings`. */
export const networkPolicy = (settings: {
  readonly allow_private?: ReadonlyArray<string>
  readonly allow_hosts?: ReadonlyArray<string>
}): NetworkPolicy => ({
  private: parseEntries(settings.allow_private ?? []),
  hosts: settings.allow_hosts === undefined ? undefined : parseEntries(settings.allow_hosts)
})

/**
 * The URL that a text means, when it means only one: http or https, no user information, no trailing dot, addresses in
 * their plain spelling. Says nothing about the address behind its name: that is judged when a socket is opened.
 */
export const parseUrl = (text: string): Result.Result<URL, string> => {
  if (text.length > urlCharactersMax) return Result.fail(`has more than ${urlCharactersMax} characters`)
  if (/[\p{Cc}\s\\]/u.test(text)) return Result.fail("holds white space, control characters or backslashes")
  const authority = /^https?:\/\/(?<authority>[^/?#]+)/iu.exec(text)?.groups?.["authority"]
  const url = URL.parse(text)
  if (authority === undefined || url === null) return Result.fail("must be a http or https URL with a host")
  if (authority.includes("@")) return Result.fail("must not hold a user name or password")
  if (url.hostname.endsWith(".")) return Result.fail("must not name a host with a dot at its end")
  if (url.port === "0") return Result.fail("must not name port 0")
  const written = authority.replace(/:\d*$/u, "")
  if (isIP(url.hostname) === 4 && written !== url.hostname) {
    return Result.fail(`must spell the address as ${url.hostname}`)
  }
  return Result.succeed(url)
}

/** Longest URL, in characters. */
export const urlCharactersMax = 8_192

export interface Destination {
  /** As in `URL.hostname`, or without the brackets of an IPv6 address. */
  readonly hostname: string
  readonly port: number
}

/**
 * The addresses of a destination, when a socket may be opened to every one of them: one that is refused refuses them
 * all. Give exactly these to the socket. The message of a refusal does not tell what a name resolved to.
 */
export const admitted = (
  policy: NetworkPolicy,
  destination: Destination,
  addresses: ReadonlyArray<ResolvedAddress>
): Result.Result<ReadonlyArray<ResolvedAddress>, DestinationRefused> => {
  const refused = addresses.map(({ address }) => refusalOf(policy, destination, address)).find(Predicate.isNotUndefined)
  return refused === undefined
    ? Result.succeed(addresses)
    : Result.fail(new DestinationRefused({ message: `${destination.hostname} port ${destination.port} ${refused}` }))
}

/** The same for a destination that still has to be resolved. Rejects with `DestinationRefused` or the resolver's error. */
export const resolveAdmitted = async (
  policy: NetworkPolicy,
  destination: Destination,
  resolve: (hostname: string) => Promise<ReadonlyArray<ResolvedAddress>>
): Promise<ReadonlyArray<ResolvedAddress>> => {
  const family = isIP(destination.hostname)
  const addresses = family === 0 ? await resolve(destination.hostname) : [{ address: destination.hostname, family }]
  return Result.getOrThrow(admitted(policy, destination, addresses))
}

/** True for addresses that belong to one host anywhere on the public internet. */
export const isGlobalUnicast = (text: string): boolean => {
  const address = parseAddress(text)
  if (address === undefined) return false
  // Whatever is not in 2000::/3 has not been given out for global unicast (RFC 4291 section 2.4, IANA registry).
  return address.range() === "unicast" && (isV4(address) || address.match(globalV6, 3))
}

const globalV6 = ipaddr.IPv6.parse("2000::")

const refusalOf = (policy: NetworkPolicy, destination: Destination, text: string): string | undefined => {
  const address = parseAddress(text)
  if (address === undefined) return "resolves to something that is no address"
  const to = { hostname: destination.hostname.toLowerCase(), port: destination.port, address }
  if (!isGlobalUnicast(text)) {
    return policy.private.some((entry) => admitsPrivate(entry, to))
      ? undefined
      : "is not on the public internet, and the agent's settings.allow_private does not name it"
  }
  if (policy.hosts !== undefined) {
    return policy.hosts.some((entry) => admits(entry, to)) ? undefined : "is not in the agent's settings.allow_hosts"
  }
  return blockedPorts.has(destination.port) ? "is a port of another protocol" : undefined
}

interface Target extends Destination {
  readonly address: ipaddr.IPv4 | ipaddr.IPv6
}

const admits = (entry: Entry, target: Target): boolean => {
  if (entry.port !== undefined && entry.port !== target.port) return false
  if (entry._tag === "Network") {
    return entry.address.kind() === target.address.kind() && target.address.match([entry.address, entry.bits])
  }
  return entry.name.startsWith("*.") ? target.hostname.endsWith(entry.name.slice(1)) : target.hostname === entry.name
}

/** Whoever answers for a name may point it at a host of the operator's, but never at link-local (cloud metadata). */
const admitsPrivate = (entry: Entry, target: Target): boolean =>
  admits(entry, target) && (entry._tag === "Network" || privateRanges.has(target.address.range()))

const privateRanges: ReadonlySet<string> = new Set(["loopback", "private", "uniqueLocal", "carrierGradeNat"])

const isV4 = (address: ipaddr.IPv4 | ipaddr.IPv6): address is ipaddr.IPv4 => address.kind() === "ipv4"

/** Only the plain spellings: ipaddr.js by itself also reads octal, hexadecimal and short forms. */
const parseAddress = (text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined => {
  const family = isIP(text)
  if (family === 4) return ipaddr.IPv4.parse(text)
  return family === 6 && !text.includes("%") ? ipaddr.IPv6.parse(text) : undefined
}

const parseEntries = (texts: ReadonlyArray<string>): ReadonlyArray<Entry> =>
  texts.map(parseEntry).filter(Predicate.isNotUndefined)

const parseEntry = (text: string): Entry | undefined => {
  const { name, port } = splitPort(text.toLowerCase())
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined
  const [base = "", bits, ...more] = name.split("/")
  const address = parseAddress(base)
  if (address === undefined) return hostName.test(name) ? { _tag: "Host", name, port } : undefined
  const width = isV4(address) ? 32 : 128
  if (more.length > 0 || (bits !== undefined && (!/^\d{1,3}$/u.test(bits) || Number(bits) > width))) return undefined
  return { _tag: "Network", address, bits: bits === undefined ? width : Number(bits), port }
}

/** `name`, `name:port`, `[v6]`, `[v6]:port`; an IPv6 address without brackets has no port. */
const splitPort = (text: string): { readonly name: string; readonly port: number | undefined } => {
  const groups = (
    /^\[(?<name>[^\]]*)\](?::(?<port>\d{1,5}))?$/u.exec(text) ?? /^(?<name>[^:]*)(?::(?<port>\d{1,5}))$/u.exec(text)
  )?.groups
  const port = groups?.["port"]
  return { name: groups?.["name"] ?? text, port: port === undefined ? undefined : Number(port) }
}

/** A last label of digits only would be read as an IPv4 address by a URL. */
const hostName =
  /^(?=.{1,253}$)(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*(?=[^.]*[a-z])(?!0x)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/u

/** Ports that no HTTP server has, and where a request could be taken for a command (fetch.spec.whatwg.org, "bad port"). */
const blockedPorts: ReadonlySet<number> = new Set([
  1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
  111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
  540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
  6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10_080
])
