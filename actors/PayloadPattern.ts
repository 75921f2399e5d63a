/**
 * The patterns that a payload's texts are checked against: what a regular expression can say without groups, alternatives
 * and references back. Each is a row of atoms, one character each, with how often it may stand there.
 *
 * Invariant: matching takes steps in proportion to atoms times characters, whatever the pattern and the text. Each atom
 * moves the set of places that can be reached; nothing is ever tried twice, so there is no backtracking to provoke. The
 * engine's own `RegExp` gives no such promise, and patterns come from users.
 */
import { Result, type Schema } from "effect"
import * as Limits from "../protocol/Limits.ts"

/** A character, by its code point. */
type Kind = (point: number) => boolean

interface Atom {
  readonly kind: Kind
  readonly least: number
  /** `Infinity` when there is no end. */
  readonly most: number
}

export interface PayloadPattern {
  readonly atoms: ReadonlyArray<Atom>
  /** Starts with `^`: matches from the beginning only. */
  readonly fromStart: boolean
  /** Ends with `$`: matches to the end only. */
  readonly toEnd: boolean
}

/** Most times that a pattern may ask for in braces. */
export const timesMax = 10_000

/** A pattern as it is matched, or what about it is not understood. */
export const parse = (source: string): Result.Result<PayloadPattern, string> => {
  const letters = Array.from(source)
  const fromStart = letters[0] === "^"
  const toEnd = letters.at(-1) === "$" && !isEscaped(letters, letters.length - 1)
  const end = letters.length - (toEnd ? 1 : 0)
  const atoms: Array<Atom> = []
  let at = fromStart ? 1 : 0
  while (at < end) {
    const kind = kindAt(letters, at, end)
    if (Result.isFailure(kind)) return Result.fail(kind.failure)
    const times = timesAt(letters, kind.success.next, end)
    if (Result.isFailure(times)) return Result.fail(times.failure)
    atoms.push({ kind: kind.success.kind, least: times.success.least, most: times.success.most })
    at = times.success.next
  }
  return Result.succeed({ atoms, fromStart, toEnd })
}

/** Why a value is no pattern; undefined when it is one. */
export const problemOf = (pattern: Schema.Json): string | undefined => {
  if (typeof pattern !== "string") return "must be a text"
  const limit = Limits.payloadPatternCharactersMax
  if (pattern.length > limit) return `has more than ${limit} characters`
  const parsed = parse(pattern)
  return Result.isFailure(parsed) ? parsed.failure : undefined
}

/** The pattern of a part of a schema, read once; undefined of one that `problemOf` finds a problem with. */
export const of = (part: object, pattern: string): PayloadPattern | undefined => {
  const known = read.get(part)
  if (known !== undefined) return known
  const parsed = parse(pattern)
  if (Result.isFailure(parsed)) return undefined
  read.set(part, parsed.success)
  return parsed.success
}

const read = new WeakMap<object, PayloadPattern>()

/** What a match of a text costs, in steps of a check: two of atoms times characters. */
export const stepsOf = ({ atoms }: PayloadPattern, text: string): number =>
  Math.ceil(((atoms.length + 1) * (text.length + 1)) / 2)

/** Whether a text has the pattern in it: the whole of it with `^` and `$`. */
export const matches = ({ atoms, fromStart, toEnd }: PayloadPattern, text: string): boolean => {
  const points = pointsOf(text)
  const places = points.length + 1
  let reached = new Uint8Array(places)
  if (fromStart) reached[0] = 1
  else reached.fill(1)
  for (const { kind, least, most } of atoms) {
    const next = spread(reached, runsOf(points, kind), { least, most })
    if (next === undefined) return false
    reached = next
  }
  return toEnd ? reached[places - 1] === 1 : reached.includes(1)
}

const pointsOf = (text: string): ReadonlyArray<number> => {
  const points: Array<number> = []
  for (const letter of text) points.push(pointOf(letter))
  return points
}

/** At each place, how many characters of a kind follow each other from there. */
const runsOf = (points: ReadonlyArray<number>, kind: Kind): Uint32Array => {
  const runs = new Uint32Array(points.length + 1)
  for (let place = points.length - 1; place >= 0; place--) {
    runs[place] = kind(points[place] ?? 0) ? (runs[place + 1] ?? 0) + 1 : 0
  }
  return runs
}

/** The places that are reached from others by an atom; undefined when there are none. */
const spread = (
  reached: Uint8Array,
  runs: Uint32Array,
  { least, most }: { readonly least: number; readonly most: number }
): Uint8Array<ArrayBuffer> | undefined => {
  // Each place opens a stretch of places; how many are open at a place is the sum of what began before it.
  const change = new Int32Array(reached.length + 1)
  for (let place = 0; place < reached.length; place++) {
    if (reached[place] !== 1) continue
    const longest = Math.min(most, runs[place] ?? 0)
    if (longest < least) continue
    change[place + least] = (change[place + least] ?? 0) + 1
    change[place + longest + 1] = (change[place + longest + 1] ?? 0) - 1
  }
  const next = new Uint8Array(reached.length)
  let open = 0
  let any = false
  for (let place = 0; place < next.length; place++) {
    open += change[place] ?? 0
    if (open === 0) continue
    next[place] = 1
    any = true
  }
  return any ? next : undefined
}

// --- how a pattern is read

interface Read {
  readonly kind: Kind
  readonly next: number
}

const kindAt = (letters: ReadonlyArray<string>, at: number, end: number): Result.Result<Read, string> => {
  const letter = letters[at] ?? ""
  switch (letter) {
    case "[":
      return classAt(letters, at, end)
    case "\\":
      return Result.map(escapeAt(letters, at, end), ({ kind, next }) => ({ kind, next }))
    case ".":
      return Result.succeed({ kind: (point) => !lineEnds.has(point), next: at + 1 })
    case "(":
    case ")":
    case "|":
      return Result.fail(`"${letter}" is not understood: there are no groups and no alternatives; use anyOf or enum`)
    case "^":
    case "$":
      return Result.fail(`"${letter}" stands only at the ${letter === "^" ? "beginning" : "end"}`)
    case "*":
    case "+":
    case "?":
    case "{":
    case "}":
    case "]":
      return Result.fail(
        `"${letter}" does not follow what it belongs to; a character of its own is written "\\${letter}"`
      )
    default:
      return Result.succeed({ kind: is(pointOf(letter)), next: at + 1 })
  }
}

/** `\d` and the like, or a character; with its point when it is one. */
const escapeAt = (
  letters: ReadonlyArray<string>,
  at: number,
  end: number
): Result.Result<Read & { readonly point?: number }, string> => {
  const letter = at + 1 < end ? (letters[at + 1] ?? "") : ""
  const next = at + 2
  const kind = escapedKinds[letter]
  if (kind !== undefined) return Result.succeed({ kind, next })
  const control = controls[letter]
  const point = control ?? (/^[\p{P}\p{S}]$/u.test(letter) ? pointOf(letter) : undefined)
  return point === undefined
    ? Result.fail(
        `"\\${letter}" is not understood; there are ${Object.keys(escapedKinds)
          .map((one) => `\\${one}`)
          .join(" ")}`
      )
    : Result.succeed({ kind: is(point), next, point })
}

const classAt = (letters: ReadonlyArray<string>, at: number, end: number): Result.Result<Read, string> => {
  const not = letters[at + 1] === "^"
  const kinds: Array<Kind> = []
  let place = at + (not ? 2 : 1)
  while (place < end && letters[place] !== "]") {
    const from = memberAt(letters, place, end)
    if (Result.isFailure(from)) return Result.fail(from.failure)
    const isRange = letters[from.success.next] === "-" && letters[from.success.next + 1] !== "]"
    if (!isRange) {
      kinds.push(from.success.kind)
      place = from.success.next
      continue
    }
    const to = memberAt(letters, from.success.next + 1, end)
    if (Result.isFailure(to)) return Result.fail(to.failure)
    const { point: low } = from.success
    const { point: high } = to.success
    if (low === undefined || high === undefined || low > high) {
      return Result.fail(`"${letters.slice(place, to.success.next).join("")}" is not a range`)
    }
    kinds.push((point) => point >= low && point <= high)
    place = to.success.next
  }
  if (place >= end) return Result.fail('"[" is never closed')
  return Result.succeed({ kind: (point) => kinds.some((kind) => kind(point)) !== not, next: place + 1 })
}

const memberAt = (letters: ReadonlyArray<string>, at: number, end: number) => {
  const letter = letters[at] ?? ""
  if (at >= end || letter === "") return Result.fail('"[" is never closed')
  if (letter === "\\") return escapeAt(letters, at, end)
  const point = pointOf(letter)
  return Result.succeed<Read & { readonly point?: number }>({ kind: is(point), next: at + 1, point })
}

const timesAt = (letters: ReadonlyArray<string>, at: number, end: number) => {
  const times = bracesAt(letters, at, end)
  if (Result.isFailure(times)) return times
  const after = times.success.next < end ? letters[times.success.next] : undefined
  return times.success.next > at && (after === "?" || after === "+")
    ? Result.fail(`"${after}" after how often is not understood: a match is a match, in whatever order it is sought`)
    : times
}

const bracesAt = (letters: ReadonlyArray<string>, at: number, end: number) => {
  const found = (least: number, most: number, next: number) => Result.succeed({ least, most, next })
  const letter = at < end ? letters[at] : undefined
  if (letter === "*") return found(0, Number.POSITIVE_INFINITY, at + 1)
  if (letter === "+") return found(1, Number.POSITIVE_INFINITY, at + 1)
  if (letter === "?") return found(0, 1, at + 1)
  if (letter !== "{") return found(1, 1, at)
  const text = letters.slice(at, end).join("")
  const [whole = "", least, comma, most] = /^\{(\d{1,5})(?:(,)(\d{1,5})?)?\}/u.exec(text) ?? []
  if (least === undefined) return Result.fail(`"${text.slice(0, 12)}" is not how often: {n}, {n,} or {n,m}`)
  const low = Number(least)
  const high = comma === undefined ? low : most === undefined ? Number.POSITIVE_INFINITY : Number(most)
  if (low > high) return Result.fail(`"${whole}" asks for more than it allows`)
  if (low > timesMax || (high > timesMax && high !== Number.POSITIVE_INFINITY)) {
    return Result.fail(`"${whole}" asks for more than ${timesMax} times`)
  }
  return found(low, high, at + whole.length)
}

const isEscaped = (letters: ReadonlyArray<string>, at: number): boolean => {
  let slashes = 0
  while (letters[at - 1 - slashes] === "\\") slashes++
  return slashes % 2 === 1
}

const pointOf = (letter: string): number => letter.codePointAt(0) ?? 0

const is =
  (wanted: number): Kind =>
  (point) =>
    point === wanted

const lineEnds: ReadonlySet<number> = new Set([0x0a, 0x0d, 0x2028, 0x2029])

const digit: Kind = (point) => point >= 0x30 && point <= 0x39
const word: Kind = (point) =>
  digit(point) || point === 0x5f || (point >= 0x41 && point <= 0x5a) || (point >= 0x61 && point <= 0x7a)
const space: Kind = (point) => /^\s$/u.test(String.fromCodePoint(point))
const otherThan =
  (kind: Kind): Kind =>
  (point) =>
    !kind(point)

const escapedKinds: Readonly<Record<string, Kind>> = {
  d: digit,
  D: otherThan(digit),
  w: word,
  W: otherThan(word),
  s: space,
  S: otherThan(space)
}

const controls: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09 }
