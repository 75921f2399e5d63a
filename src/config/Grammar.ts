/**
 * What the text of a variable may be. A grammar says in words what it expects and turns a text into a value, or into
 * undefined when the text breaks it. It never repeats the text: that may be a secret.
 */
import { isIP } from "node:net"
import { Duration, Option, Schema } from "effect"
import { networkSettings } from "../../actors/behaviours/AddressGuard.ts"

export interface Grammar<out A> {
  /** Completes "expected ...". */
  readonly expected: string
  readonly parse: (text: string) => A | undefined
}

export const schema = <A>(codec: Schema.Codec<A, string>, expected: string): Grammar<A> => {
  const decode = Schema.decodeOption(codec)
  return { expected, parse: (text) => Option.getOrUndefined(decode(text)) }
}

/** Any text without control characters. */
export const text = (charactersMax: number): Grammar<string> => ({
  expected: `1 to ${charactersMax} characters on one line`,
  parse: (text) => (text.length <= charactersMax && !hasControl(text) ? text : undefined)
})

const hasControl = (text: string) => /\p{Cc}/u.test(text)

export const integer = (minimum: number, maximum: number): Grammar<number> => ({
  expected: `a whole number from ${minimum} to ${maximum}`,
  parse: (text) => {
    const value = /^\d{1,9}$/u.test(text) ? Number(text) : -1
    return value >= minimum && value <= maximum ? value : undefined
  }
})

export const ratio: Grammar<number> = {
  expected: "a number from 0 to 1",
  parse: (text) => (/^(0(\.\d{1,9})?|1(\.0{1,9})?)$/u.test(text) ? Number(text) : undefined)
}

export const boolean: Grammar<boolean> = {
  expected: "`true` or `false`",
  parse: (text) => (text === "true" ? true : text === "false" ? false : undefined)
}

/** The name of an environment variable. */
export const variableName: Grammar<string> = {
  expected: "the name of a variable: letters, digits and `_`",
  parse: (text) => (/^[A-Za-z_][A-Za-z0-9_]{0,255}$/u.test(text) ? text : undefined)
}

/** One of the keys, in any case. */
export const oneOf = <const A>(values: Readonly<Record<string, A>>): Grammar<A> => ({
  expected: `one of ${Object.keys(values)
    .map((value) => `\`${value}\``)
    .join(", ")}`,
  parse: (text) => (Object.hasOwn(values, text.toLowerCase()) ? values[text.toLowerCase()] : undefined)
})

const durationPattern = /^(\d{1,9})(ms|s|m|h)$/u
const unitMillis: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

const toDuration = (text: string): Duration.Duration | undefined => {
  const [, count, unit = ""] = durationPattern.exec(text) ?? []
  return count === undefined ? undefined : Duration.millis(Number(count) * (unitMillis[unit] ?? 1))
}

export const duration = (minimum: string, maximum: string): Grammar<Duration.Duration> => {
  const [low = Duration.zero, high = Duration.infinity] = [toDuration(minimum), toDuration(maximum)]
  return {
    expected: `a duration from ${minimum} to ${maximum}, such as 500ms, 30s or 2m`,
    parse: (text) => {
      const value = toDuration(text)
      return value !== undefined && Duration.between(value, { minimum: low, maximum: high }) ? value : undefined
    }
  }
}

/** Each at most once. */
export const set = <A>(item: Grammar<A>): Grammar<ReadonlyArray<A>> => {
  const all = list(item)
  return {
    expected: `one or more with commas, each ${item.expected}`,
    parse: (text) => {
      const values = all.parse(text)
      return values === undefined || new Set(values).size < values.length ? undefined : values
    }
  }
}

/** Values separated by commas; blanks around them do not count. */
export const list = <A>(item: Grammar<A>): Grammar<ReadonlyArray<A>> => ({
  expected: `a list with commas, each ${item.expected}`,
  parse: (text) => {
    const values = text.split(",").map((part) => (part.trim() === "" ? undefined : item.parse(part.trim())))
    return values.every((value) => value !== undefined) ? values : undefined
  }
})

const Networks = Schema.Struct(networkSettings)

/** Destinations as an agent's `allow_private` names them, separated by commas. */
export const networks: Grammar<ReadonlyArray<string>> = {
  expected: "networks, addresses or host names with commas, each with an optional port",
  parse: (text) => {
    const entries = text.split(",").map((part) => part.trim())
    return Schema.is(Networks)({ allow_private: entries }) ? entries : undefined
  }
}

/** `name=value` pairs separated by commas, values percent-encoded, as the OTLP specification has its headers. */
export const pairs: Grammar<Readonly<Record<string, string>>> = {
  expected: "`name=value` pairs with commas",
  parse: (text) => {
    const parts = text.split(",").map((part) => /^\s*([A-Za-z0-9!#$&'*+.^_`|~-]+)=([^\p{Cc}]*?)\s*$/u.exec(part))
    const values = parts.map((match) => [match?.[1], decoded(match?.[2])] as const)
    return values.every((pair): pair is readonly [string, string] => pair[0] !== undefined && pair[1] !== undefined)
      ? Object.fromEntries(values)
      : undefined
  }
}

const decoded = (text: string | undefined): string | undefined =>
  text === undefined || /%(?![0-9A-Fa-f]{2})/u.test(text) ? undefined : decodeURIComponent(text)

/** An absolute URL with one of these schemes and a host. */
export const url = (...schemes: ReadonlyArray<string>): Grammar<string> => ({
  expected: `a URL that begins with ${schemes.map((scheme) => `${scheme}//`).join(" or ")}`,
  parse: (text) => {
    const found = URL.parse(text)
    return found !== null && schemes.includes(found.protocol) && found.hostname !== "" && !hasControl(text)
      ? text
      : undefined
  }
})

/** A URL of Postgres, or one with several `host:port` and commas between them: servers of one primary. The text as it is. */
export const postgresServers: Grammar<string> = {
  expected: "a URL that begins with postgres:// or postgresql://, with one `host:port` or up to 8 with commas",
  parse: (text) => {
    const parts = /^(\w+:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/u.exec(text)
    const hosts = parts?.[2]?.split(",") ?? []
    const one = url("postgres:", "postgresql:")
    return hosts.length >= 1 &&
      hosts.length <= 8 &&
      hosts.every((host) => one.parse(`${parts?.[1]}${host}${parts?.[3]}`) !== undefined)
      ? text
      : undefined
  }
}

/** An IP address or a host name to listen on. */
export const host: Grammar<string> = {
  expected: "an IP address or a host name",
  parse: (text) =>
    isIP(text) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/u.test(text) ? text : undefined
}

/** Servers of one NATS cluster, taken apart: the client takes no credentials within a URL. */
export interface NatsServers {
  /** `host:port`, as the client takes them. */
  readonly servers: ReadonlyArray<string>
  readonly tls: boolean
  readonly user: string | undefined
  readonly password: string
}

const natsSchemes = ["nats:", "tls:"]

export const natsServers: Grammar<NatsServers> = {
  expected:
    "URLs with commas that all begin with nats:// or all with tls://, with a host each and the same user and password or none",
  parse: (text) => {
    const urls = text.split(",").map((part) => URL.parse(part.trim()))
    const first = urls[0]
    if (first === undefined || first === null || !natsSchemes.includes(first.protocol)) return undefined
    const user = decoded(first.username)
    const password = decoded(first.password)
    if (user === undefined || password === undefined) return undefined
    const servers = urls.map((url) =>
      url !== null &&
      url.hostname !== "" &&
      url.protocol === first.protocol &&
      url.username === first.username &&
      url.password === first.password &&
      (url.pathname === "" || url.pathname === "/") &&
      url.search === ""
        ? `${url.hostname}:${url.port === "" ? 4222 : url.port}`
        : undefined
    )
    return servers.every((server) => server !== undefined)
      ? { servers, tls: first.protocol === "tls:", user: user === "" ? undefined : user, password }
      : undefined
  }
}
