/**
 * How one log entry becomes text: an object on one line for machines, or a line and its stack for people.
 *
 * Whatever an entry holds, a reader's terminal and parser are safe: control characters are escaped, API keys and
 * passwords in URLs are masked, `Redacted` values stay redacted, and a line has a bound. Pure; writes nothing.
 */
import { Cause, Formatter, type LogLevel, Result } from "effect"

/** One entry, as the logger hands it over. */
export interface LogEntry {
  readonly at: Date
  readonly level: LogLevel.LogLevel
  readonly message: ReadonlyArray<unknown>
  readonly cause: Cause.Cause<unknown>
  readonly annotations: Readonly<Record<string, unknown>>
  /** W3C trace id in force, if any. */
  readonly trace: string | undefined
}

/** Longest text of one field, in characters. */
const fieldCharactersMax = 8_192
/** Longest rest of a message (what follows its text), in characters of JSON. */
const dataCharactersMax = 16_384

/** One JSON object without line breaks: `time`, `level`, `message`, the annotations, `trace`, `data`, `cause`. */
export const toJsonLine = (entry: LogEntry): string => {
  const [text, data] = messageOf(entry.message)
  const head = { time: entry.at.toISOString(), level: entry.level.toLowerCase(), message: text }
  const rest = {
    ...(data === undefined ? {} : { data }),
    ...(entry.cause.reasons.length === 0 ? {} : { cause: safe(Cause.pretty(entry.cause)) })
  }
  // Twice: first so that it stands in front, last so that no annotation of that name replaces it.
  return escapeRest(JSON.stringify(Object.assign({}, head, fieldsOf(entry), rest, head)))
}

/** For people: time of day, level, text and fields on one line, then the stack of the cause, indented. */
export const toPrettyText = (entry: LogEntry, colours: boolean): string => {
  const [text, data] = messageOf(entry.message)
  const paint = (code: string, part: string) => (colours ? `\u001b[${code}m${part}\u001b[0m` : part)
  const fields = Object.entries(fieldsOf(entry)).map(([name, value]) => `${name}=${String(value)}`)
  const rest = [...fields, ...(data === undefined ? [] : [JSON.stringify(data)])].map(visible)
  const time = entry.at.toISOString().slice(11, 23)
  const head = `${paint("2", time)} ${paint(levelColours[entry.level], entry.level.toUpperCase().padEnd(5))} ${visible(text)}`
  const first = rest.length === 0 ? head : `${head} ${paint("2", rest.join(" "))}`
  if (entry.cause.reasons.length === 0) return first
  const stack = safe(Cause.pretty(entry.cause))
    .split("\n")
    .map((line) => `    ${visible(line)}`)
  return [first, ...stack].join("\n")
}

const levelColours: Readonly<Record<LogLevel.LogLevel, string>> = {
  All: "0",
  Fatal: "1;31",
  Error: "31",
  Warn: "33",
  Info: "32",
  Debug: "36",
  Trace: "2",
  None: "0"
}

/** The leading texts of a message as one, and what follows them as JSON. */
const messageOf = (message: ReadonlyArray<unknown>): readonly [text: string, data: unknown] => {
  const isText = (part: unknown) => typeof part === "string" || typeof part === "number" || typeof part === "boolean"
  const end = message.findIndex((part) => !isText(part))
  const texts = end < 0 ? message : message.slice(0, end)
  const rest = end < 0 ? [] : message.slice(end)
  return [
    safe(texts.map(String).join(" ")),
    rest.length === 0 ? undefined : bounded(rest.length === 1 ? rest[0] : rest)
  ]
}

const fieldsOf = ({ annotations, trace }: LogEntry): Readonly<Record<string, unknown>> => {
  const fields = Object.entries(annotations).map(([name, value]) => [name, bounded(value)])
  return { ...Object.fromEntries(fields), ...(trace === undefined ? {} : { trace }) }
}

/** A plain JSON value: redacted, without cycles, masked, and not larger than its bound. */
const bounded = (value: unknown): unknown => {
  if (typeof value === "string") return safe(value)
  if (typeof value === "number" || typeof value === "boolean" || value === null) return value
  const whole = Formatter.formatJson(value)
  if (whole.length > dataCharactersMax) return `(left out: ${whole.length} characters)`
  const text = mask(whole)
  // It parses, unless masking cut through an escape; then the text itself is shown.
  return Result.getOrElse(
    Result.try((): unknown => JSON.parse(text)),
    () => text
  )
}

/** Masked and cut. The margin keeps a secret that the cut goes through whole until it is masked. */
const safe = (text: string) => {
  const shown = mask(text.slice(0, fieldCharactersMax + 1_024)).slice(0, fieldCharactersMax)
  return text.length <= fieldCharactersMax ? shown : `${shown}… (${text.length - fieldCharactersMax} more characters)`
}

// Each repetition is bounded, so that a hostile text costs no more than its length.
const apiKey = /dma_([a-z0-9]{16})_[A-Za-z0-9_-]{1,512}/g
const bearer = /\b(bearer|basic)\s{1,8}[A-Za-z0-9+/=_.~-]{8,1024}/gi
const urlPassword = /(\b[a-z][a-z0-9+.-]{0,15}:\/\/[^\s:@/]{0,256}):[^\s@/]{1,512}@/gi

/** Texts that come from drivers and peers may quote what they were given: keys and passwords become unreadable. */
const mask = (text: string) =>
  text.replace(apiKey, "dma_$1_<redacted>").replace(bearer, "$1 <redacted>").replace(urlPassword, "$1:<redacted>@")

const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

/** JSON.stringify escapes C0; terminals also obey DEL and C1, and some readers break lines at U+2028 and U+2029. */
const escapeRest = (json: string) => json.replace(/[\u007f-\u009f\u2028\u2029]/g, escaped)

/** Control characters made visible, so that nobody writes on a reader's terminal or forges a line. */
const visible = (text: string) => text.replace(/[\p{Cc}\u2028\u2029]/gu, escaped)
