/** Tasks reach the public internet and what the agent's settings name, whatever an address is made to look like (S16). */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import {
  admitted,
  isGlobalUnicast,
  type NetworkPolicy,
  networkPolicy,
  networkSettings,
  parseUrl
} from "../../../actors/behaviours/AddressGuard.ts"

/**
 * IANA special-purpose registries (iana-ipv4-special-registry, iana-ipv6-special-registry), the multicast blocks, and
 * what is no unicast space at all: read by bits here, so that no line of the code under test judges itself.
 */
const notGlobal4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "255.255.255.255/32"
]
const notGlobal6 = [
  "::/128",
  "::1/128",
  "::/96",
  "::ffff:0:0/96",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "100::/64",
  "100:0:0:1::/64",
  "2001::/32",
  "2001:2::/48",
  "2001:10::/28",
  "2001:db8::/32",
  "2002::/16",
  "3fff::/20",
  "5f00::/16",
  "fc00::/7",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8"
]
/** Not individual hosts, or tunnels and registries of protocols: refusing more than IANA does is no hole. */
const mayBeRefused = ["192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", "2001::/23", "2620:4f:8000::/48"]

const bits4 = (text: string): bigint => text.split(".").reduce((sum, octet) => sum * 256n + BigInt(octet), 0n)
const bits6 = (text: string): bigint => {
  const [head = "", tail] = text.split("::")
  const groups = (part: string) => (part === "" ? [] : part.split(":"))
  const missing = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length
  return [...groups(head), ...Array<string>(missing).fill("0"), ...groups(tail ?? "")].reduce(
    (sum, group) => sum * 65_536n + BigInt(`0x${group}`),
    0n
  )
}
const within = (address: bigint, cidr: string): boolean => {
  const [base = "", length = ""] = cidr.split("/")
  const isV6 = base.includes(":")
  const shift = BigInt((isV6 ? 128 : 32) - Number(length))
  return address >> shift === (isV6 ? bits6(base) : bits4(base)) >> shift
}
const text4 = (address: bigint) => [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 255n).join(".")
const text6 = (address: bigint) =>
  [112n, 96n, 80n, 64n, 48n, 32n, 16n, 0n].map((shift) => ((address >> shift) & 65_535n).toString(16)).join(":")

const hex = (digits: number) => Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${digits}}$`, "u")))
/** Uniform addresses, and ones that share a prefix with a special range: the borders are where mistakes live. */
const Near = Schema.Struct({ pick: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 })), low: hex(32) })

const nearby = (table: ReadonlyArray<string>, width: bigint, { low, pick }: typeof Near.Type): bigint => {
  const cidr = table[pick % (table.length * 2)]
  const random = BigInt(`0x${low}`) & ((1n << width) - 1n)
  if (cidr === undefined) return random
  const [base = "", length = ""] = cidr.split("/")
  const free = width - BigInt(length)
  const start = (base.includes(":") ? bits6(base) : bits4(base)) + (random & ((1n << free) - 1n))
  const step = [0n, 0n, 1n << free, -(1n << free)][pick % 4] ?? 0n
  return (start + step + (1n << width)) & ((1n << width) - 1n)
}

const everywhere = networkPolicy({})
const admits = (policy: NetworkPolicy, hostname: string, port: number, ...addresses: ReadonlyArray<string>) =>
  Result.isSuccess(
    admitted(
      policy,
      { hostname, port },
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }))
    )
  )

describe("the classifier", () => {
  it.prop(
    "agrees with IANA's registry on IPv4",
    { near: Near },
    ({ near }) => {
      const address = nearby(notGlobal4, 32n, near)
      const special = notGlobal4.some((cidr) => within(address, cidr))
      if (special) expect([text4(address), isGlobalUnicast(text4(address))]).toEqual([text4(address), false])
      else if (!mayBeRefused.some((cidr) => !cidr.includes(":") && within(address, cidr))) {
        expect([text4(address), isGlobalUnicast(text4(address))]).toEqual([text4(address), true])
      }
    },
    { arbitrary: { runs: 5_000 } }
  )

  it.prop(
    "agrees with IANA's registry on IPv6, in every spelling",
    { near: Near },
    ({ near }) => {
      const address = nearby(notGlobal6, 128n, near)
      const global = within(address, "2000::/3") && !notGlobal6.some((cidr) => within(address, cidr))
      const unsure = mayBeRefused.some((cidr) => cidr.includes(":") && within(address, cidr))
      const low = address & 0xffff_ffffn
      const spellings = [
        text6(address),
        text6(address).toUpperCase(),
        new URL(`http://[${text6(address)}]/`).hostname.slice(1, -1),
        `${text6(address).split(":").slice(0, 6).join(":")}:${text4(low)}`
      ]
      for (const spelling of spellings) {
        if (!global) expect([spelling, isGlobalUnicast(spelling)]).toEqual([spelling, false])
        else if (!unsure) expect([spelling, isGlobalUnicast(spelling)]).toEqual([spelling, true])
      }
    },
    { arbitrary: { runs: 3_000 } }
  )

  it.prop(
    "refuses every IPv4 address that is wrapped into IPv6",
    { low: hex(8) },
    ({ low }) => {
      const v4 = text4(BigInt(`0x${low}`))
      for (const wrapped of [
        `::ffff:${v4}`,
        `::${v4}`,
        `64:ff9b::${v4}`,
        `::ffff:0:${v4}`,
        `2002:${low.slice(0, 4)}:${low.slice(4)}::1`
      ]) {
        expect([wrapped, isGlobalUnicast(wrapped)]).toEqual([wrapped, false])
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it.each([
    "",
    "127.1",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "2130706433",
    "1.2.3.4.5",
    "8.8.8.8 ",
    "fe80::1%eth0",
    "2600::1%1",
    "host"
  ])("takes %j for no address", (text) => expect(isGlobalUnicast(text)).toBe(false))
})

describe("a URL", () => {
  it.each([
    ["http://0x7f.1/", "must spell the address as 127.0.0.1"],
    ["http://127.1/", "must spell the address as 127.0.0.1"],
    ["http://2130706433/", "must spell the address as 127.0.0.1"],
    ["http://0177.0.0.1/", "must spell the address as 127.0.0.1"],
    ["http://0x08080808/", "must spell the address as 8.8.8.8"],
    ["http://８.8.8.8/", "must spell the address as 8.8.8.8"],
    ["http://127.0.0.1./", "must spell the address as 127.0.0.1"],
    ["http://localhost./", "dot at its end"],
    ["http://example.com@127.0.0.1/", "user name"],
    ["http://user:secret@example.com/", "user name"],
    ["http://@example.com/", "user name"],
    ["http:\\\\127.0.0.1\\", "backslashes"],
    ["http://example.com\\@127.0.0.1/", "backslashes"],
    ["http://exa\tmple.com/", "white space"],
    ["http://example.com/\r\nHost: evil", "white space"],
    [" http://example.com/", "white space"],
    ["http:example.com", "http or https URL"],
    ["http:///example.com", "http or https URL"],
    ["//example.com/", "http or https URL"],
    ["gopher://127.0.0.1:70/", "http or https URL"],
    ["file:///etc/passwd", "http or https URL"],
    ["ftp://example.com/", "http or https URL"],
    ["http://[fe80::1%25eth0]/", "http or https URL"],
    ["http://[::1/", "http or https URL"],
    ["http://example.com:0/", "port 0"],
    ["http://example.com:99999/", "http or https URL"],
    [`http://example.com/${"x".repeat(8_192)}`, "8192 characters"],
    ["", "http or https URL"]
  ])("%j is refused: %s", (text, reason) => {
    const parsed = parseUrl(text)
    expect(Result.isFailure(parsed) ? parsed.failure : `accepted as ${parsed.success.href}`).toContain(reason)
  })

  it.each([
    "https://example.com",
    "http://8.8.8.8:8080/x?y=1#z",
    "https://[2600::1]:443/",
    "HTTPS://EXAMPLE.com/é",
    "http://127.0.0.1/"
  ])("%j is read", (text) => expect(Result.isSuccess(parseUrl(text))).toBe(true))
})

describe("a policy", () => {
  it("admits public addresses and nothing else by default", () => {
    expect(admits(everywhere, "example.com", 443, "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")).toBe(true)
    expect(admits(everywhere, "localhost", 80, "127.0.0.1")).toBe(false)
    expect(admits(everywhere, "metadata", 80, "169.254.169.254")).toBe(false)
  })

  it("refuses a name as soon as one of its addresses is refused", () => {
    expect(admits(everywhere, "example.com", 443, "93.184.215.14", "127.0.0.1")).toBe(false)
    expect(admits(everywhere, "example.com", 443, "93.184.215.14", "not an address")).toBe(false)
  })

  it("does not tell what a name resolved to", () => {
    const refused = admitted(everywhere, { hostname: "intranet.example", port: 80 }, [
      { address: "10.1.2.3", family: 4 }
    ])
    expect(Result.isFailure(refused) ? refused.failure.message : "").toMatch(
      /^intranet\.example port 80 is not on the public internet/u
    )
    expect(JSON.stringify(refused)).not.toContain("10.1.2.3")
  })

  it("admits the networks, addresses and ports that it names", () => {
    const policy = networkPolicy({ allow_private: ["10.0.0.0/8", "127.0.0.1:8080", "[fd00::/8]:443", "::1"] })
    expect(admits(policy, "x", 1_234, "10.255.0.1")).toBe(true)
    expect(admits(policy, "x", 8_080, "127.0.0.1")).toBe(true)
    expect(admits(policy, "x", 8_081, "127.0.0.1")).toBe(false)
    expect(admits(policy, "x", 8_080, "127.0.0.2")).toBe(false)
    expect(admits(policy, "x", 443, "fd12::1")).toBe(true)
    expect(admits(policy, "x", 80, "fd12::1")).toBe(false)
    expect(admits(policy, "x", 80, "::1")).toBe(true)
    expect(admits(policy, "x", 80, "::ffff:10.0.0.1")).toBe(false)
  })

  it("admits the private addresses of a name that it trusts, and never cloud metadata through it", () => {
    const policy = networkPolicy({ allow_private: ["files.internal:9000", "*.svc.local"] })
    expect(admits(policy, "FILES.internal", 9_000, "10.0.0.9", "fd00::9")).toBe(true)
    expect(admits(policy, "files.internal", 80, "10.0.0.9")).toBe(false)
    expect(admits(policy, "files.internal", 9_000, "169.254.169.254")).toBe(false)
    expect(admits(policy, "files.internal", 9_000, "0.0.0.0")).toBe(false)
    expect(admits(policy, "a.b.svc.local", 80, "192.168.1.1")).toBe(true)
    expect(admits(policy, "svc.local", 80, "192.168.1.1")).toBe(false)
    expect(admits(policy, "evilsvc.local", 80, "192.168.1.1")).toBe(false)
    expect(admits(networkPolicy({ allow_private: ["169.254.169.254"] }), "metadata", 80, "169.254.169.254")).toBe(true)
  })

  it("narrows the public internet to the hosts that it lists", () => {
    const policy = networkPolicy({
      allow_hosts: ["api.example.com:443", "*.example.org"],
      allow_private: ["127.0.0.1"]
    })
    expect(admits(policy, "api.example.com", 443, "93.184.215.14")).toBe(true)
    expect(admits(policy, "api.example.com", 8_443, "93.184.215.14")).toBe(false)
    expect(admits(policy, "example.com", 443, "93.184.215.14")).toBe(false)
    expect(admits(policy, "x.example.org", 80, "93.184.215.14")).toBe(true)
    expect(admits(policy, "127.0.0.1", 80, "127.0.0.1")).toBe(true)
  })

  it("keeps off the ports of other protocols, unless it lists them", () => {
    expect(admits(everywhere, "mail.example.com", 25, "93.184.215.14")).toBe(false)
    expect(
      admits(networkPolicy({ allow_hosts: ["mail.example.com:25"] }), "mail.example.com", 25, "93.184.215.14")
    ).toBe(true)
  })

  it.each([
    "10.0.0.0/33",
    "10.0.0.0/8/8",
    "10.0.0/8",
    "127.1",
    "0x7f000001",
    "2130706433",
    "host:0",
    "host:70000",
    "a b",
    "http://x",
    "*",
    "*.",
    "-x",
    "[::1",
    "",
    "::1/129",
    "x.y.",
    "::1%1"
  ])("cannot be made from %j", (entry) => {
    const settings = Schema.Struct(networkSettings)
    expect(Schema.is(settings)({ allow_private: [entry] })).toBe(false)
    expect(Schema.is(settings)({ allow_private: ["localhost", "[::1]:80", "10.0.0.0/8:443", "x_y.internal"] })).toBe(
      true
    )
  })
})
