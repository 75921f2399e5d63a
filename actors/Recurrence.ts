/**
 * Decides when something that comes back is due, as pure functions: a cron expression in a time zone, or an interval.
 *
 * Effect's `Cron` owns the grammar and the calendar; it walks wall-clock times here, which know no zone. What the clocks
 * of a zone do to them is decided here, once for all:
 *
 *   a wall-clock time that is jumped over     runs once, at the moment the clock has jumped
 *   one that comes twice                      runs the first time only
 *   an expression that names every hour       names no time of day but a rhythm: it goes on through a repeated hour
 *
 * (`Cron.next` itself moves what falls into a gap by the length of the gap, 02:30 to 03:30, and would leave a job of every five
 * minutes out for a whole repeated hour.) Invariant: due times are whole seconds, or whole intervals, strictly ascending.
 */
import { Cron, DateTime, Option, Result } from "effect"
import * as Limits from "../protocol/Limits.ts"
import { noMoment, utcMoment } from "../protocol/Moment.ts"
import type { InvalidField } from "../protocol/Problem.ts"

/** What is said of a recurrence: one of `cron` and `every_ms`. Moments are RFC 3339. */
export interface Spec {
  readonly cron?: string | null | undefined
  readonly every_ms?: number | null | undefined
  readonly time_zone?: string | undefined
  readonly starts_at?: string | null | undefined
  readonly ends_at?: string | null | undefined
}

/** A checked recurrence. Made by `compile` only. */
export interface Recurrence {
  readonly rule: CronRule | EveryRule
  readonly zone: DateTime.TimeZone.Named
  /** As it was given: `zone` may know it by an older name. */
  readonly timeZone: string
  readonly startsMillis: number
  readonly endsMillis: number
}

interface CronRule {
  readonly _tag: "Cron"
  /** Over wall-clock times, as if they were UTC. */
  readonly walls: Cron.Cron
  readonly everyHour: boolean
}

interface EveryRule {
  readonly _tag: "Every"
  readonly millis: number
  readonly anchorMillis: number
}

/** The recurrence that is said, or everything that is wrong with it. An interval counts from `starts_at`, else from `anchorMillis`. */
export const compile = (spec: Spec, anchorMillis: number): Result.Result<Recurrence, ReadonlyArray<InvalidField>> => {
  const problems: Array<InvalidField> = []
  const moment = (field: string, text: string | null | undefined, otherwise: number) => {
    if (text === undefined || text === null) return otherwise
    const utc = utcMoment(text)
    if (utc === undefined) problems.push({ field, message: noMoment })
    return utc === undefined ? otherwise : millisOf(utc)
  }
  const startsMillis = moment("starts_at", spec.starts_at, Number.NEGATIVE_INFINITY)
  const endsMillis = moment("ends_at", spec.ends_at, Number.POSITIVE_INFINITY)
  if (startsMillis > endsMillis) problems.push({ field: "ends_at", message: "must not lie before starts_at" })
  const timeZone = spec.time_zone ?? "UTC"
  const zone = DateTime.zoneMakeNamed(timeZone)
  if (Option.isNone(zone)) problems.push({ field: "time_zone", message: `there is no time zone "${timeZone}"` })
  const rule = ruleOf(spec, Number.isFinite(startsMillis) ? startsMillis : anchorMillis)
  if (Result.isFailure(rule)) problems.push(rule.failure)
  return problems.length > 0 || Option.isNone(zone) || Result.isFailure(rule)
    ? Result.fail(problems)
    : Result.succeed({ rule: rule.success, zone: zone.value, timeZone, startsMillis, endsMillis })
}

const millisOf = (utc: string) => DateTime.toEpochMillis(DateTime.makeUnsafe(utc))

const ruleOf = (spec: Spec, anchorMillis: number): Result.Result<CronRule | EveryRule, InvalidField> => {
  const cron = spec.cron ?? undefined
  const millis = spec.every_ms ?? undefined
  if (millis !== undefined) {
    return cron === undefined
      ? Result.succeed({ _tag: "Every", millis, anchorMillis })
      : Result.fail({ field: "every_ms", message: "must not be given beside cron" })
  }
  if (cron === undefined) return Result.fail({ field: "cron", message: "is missing; or give every_ms" })
  return Result.flatMap(parse(cron), (walls) =>
    nextWall(walls, 0) === undefined
      ? Result.fail({ field: "cron", message: "names a day that never comes" })
      : Result.succeed({ _tag: "Cron", walls, everyHour: walls.hours.size === 0 || walls.hours.size === 24 })
  )
}

const words: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"]
])

const fieldNames = ["second", "minute", "hour", "day", "month", "weekday"]

const parse = (expression: string): Result.Result<Cron.Cron, InvalidField> => {
  const text = expression.trim()
  const fields = words.get(text.toLowerCase()) ?? text
  if (fields.startsWith("@")) {
    const known = [...words.keys()].join(", ")
    return Result.fail({ field: "cron", message: `must be an expression of five or six fields, or one of ${known}` })
  }
  return Result.mapError(Cron.parse(fields, "UTC"), (error): InvalidField => {
    const segments = fields.split(/\s+/u)
    if (segments.length !== 5 && segments.length !== 6) {
      return { field: "cron", message: `must have five fields, or six with seconds; it has ${segments.length}` }
    }
    const names = segments.length === 5 ? fieldNames.slice(1) : fieldNames
    const at = names[segments.indexOf(error.input ?? "")] ?? "field"
    return { field: "cron", message: `its ${at} is refused: ${error.message.replace(/^Expected/u, "expected")}` }
  })
}

/** The first due time after a moment; undefined when there is none any more. */
export const following = (recurrence: Recurrence, afterMillis: number): number | undefined => {
  const { endsMillis, rule, startsMillis, zone } = recurrence
  const after = Math.max(afterMillis, startsMillis - 1)
  const due = rule._tag === "Every" ? nextOfEvery(rule, after) : nextOfCron(rule, zone, after)
  return due === undefined || due > Math.min(endsMillis, lastMillis) ? undefined : due
}

/** The end of the year 9999: what all parts can hold. */
const lastMillis = 253_402_300_799_000

const nextOfEvery = ({ anchorMillis, millis }: EveryRule, after: number) =>
  anchorMillis + Math.max(0, Math.floor((after - anchorMillis) / millis) + 1) * millis

const nextOfCron = ({ everyHour, walls }: CronRule, zone: DateTime.TimeZone.Named, after: number) => {
  let from = after
  let offset = offsetAt(zone, from)
  let floor = from + offset + 1
  // In the second half of a fold: what its first half had does not run again.
  const before = offsetAt(zone, from - foldMillisMax)
  if (!everyHour && before > offset) {
    const change = changeWithin(zone, { from: from - foldMillisMax, to: from, offset: before }) ?? from
    floor = Math.max(floor, change + before)
  }
  while (true) {
    const wall = nextWall(walls, floor)
    if (wall === undefined) return undefined
    const instant = wall - offset
    const isFar = instant - from > 2 * nearMillis
    const change = changeWithin(zone, { from, to: isFar ? from + nearMillis : instant, offset })
    if (change === undefined && isFar) {
      // Changes in between concern nobody: no wall-clock time there is one of the expression's.
      from = instant - nearMillis
      offset = offsetAt(zone, from)
      floor = wall
      continue
    }
    if (change === undefined) return instant
    const later = offsetAt(zone, change)
    if (wall < change + later) return change
    floor = everyHour ? change + later : change + Math.max(offset, later)
    from = change
    offset = later
  }
}

/** Within this distance a change of the clocks may concern a due time. */
const nearMillis = 2 * 86_400_000

/** No clock is put back by more. */
const foldMillisMax = 86_400_000

/** The first wall-clock time of an expression at or after another; undefined when it names a day that never comes. */
const nextWall = (walls: Cron.Cron, from: number): number | undefined => {
  const secondBefore = Math.ceil(from / 1000) * 1000 - 1000
  return secondBefore > lastMillis
    ? undefined
    : Option.getOrUndefined(Option.map(nextDate(walls, DateTime.makeUnsafe(secondBefore)), (date) => date.getTime()))
}

/** `Cron.next` throws when it gives up. */
const nextDate = Option.liftThrowable(Cron.next)

const offsetAt = (zone: DateTime.TimeZone.Named, millis: number) =>
  DateTime.zonedOffset(DateTime.makeZonedUnsafe(millis, { timeZone: zone }))

interface Span {
  readonly from: number
  readonly to: number
  /** That in force at `from`. */
  readonly offset: number
}

/** The first second in (from, to] at which another offset is in force. No zone changes its offset and back within days. */
const changeWithin = (zone: DateTime.TimeZone.Named, span: Span): number | undefined =>
  span.to <= span.from || offsetAt(zone, span.to) === span.offset ? undefined : firstChanged(zone, span)

const firstChanged = (zone: DateTime.TimeZone.Named, { from, offset, to }: Span): number => {
  let unchanged = Math.floor(from / 1000)
  let changed = Math.ceil(to / 1000)
  while (changed - unchanged > 1) {
    const middle = Math.floor((unchanged + changed) / 2)
    if (offsetAt(zone, middle * 1000) === offset) unchanged = middle
    else changed = middle
  }
  return changed * 1000
}

/** At most `count` due times after a moment and before another, ascending. */
export const upcoming = (
  recurrence: Recurrence,
  afterMillis: number,
  count: number,
  beforeMillis = Number.POSITIVE_INFINITY
): ReadonlyArray<number> => {
  const found: Array<number> = []
  let due = following(recurrence, afterMillis)
  while (due !== undefined && due < beforeMillis && found.length < count) {
    found.push(due)
    due = found.length < count ? following(recurrence, due) : undefined
  }
  return found
}

/** The first of the last `count` due times within [from, before), however many there are; undefined when there is none. */
export const firstOfLast = (
  recurrence: Recurrence,
  { before, count, from }: { readonly from: number; readonly before: number; readonly count: number }
): number | undefined => {
  const first = following(recurrence, from - 1)
  if (first === undefined || first >= before) return undefined
  const hasAsMany = (after: number) => upcoming(recurrence, after, count, before).length === count
  if (!hasAsMany(first)) return first
  // Twice as far back each time, until there are as many; of a steady rhythm these are few more.
  let width = 1000
  while (before - width > first && !hasAsMany(before - width)) width *= 2
  let enough = Math.max(first, before - width)
  const steady = upcoming(recurrence, enough, steadyMax * count, before)
  if (steady.length < steadyMax * count) return steady.at(-count)
  // There are as many after `enough`, not after `short`.
  let short = before
  while (short - enough > 1) {
    const middle = Math.floor((enough + short) / 2)
    if (hasAsMany(middle)) enough = middle
    else short = middle
  }
  return following(recurrence, enough)
}

/** How many times as many due times are looked at one by one. */
const steadyMax = 4

/** A due time as the clocks of the zone show it, with their offset. */
export const localTime = ({ zone }: Recurrence, millis: number): string =>
  DateTime.formatIsoOffset(DateTime.makeZonedUnsafe(millis, { timeZone: zone }))

/** A moment in UTC, as it is stored and told. */
export const momentOf = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))

/** When a due time starts: up to `jitterMillis` later, by a share that is always the same for one schedule and due time. */
export const startOf = (schedule: string, dueMillis: number, jitterMillis: number): number =>
  dueMillis + (jitterMillis === 0 ? 0 : Math.floor(shareOf(`${schedule}/${dueMillis}`) * (jitterMillis + 1)))

/** A number in [0, 1) that looks like chance and is not: FNV-1a, mixed as MurmurHash3 ends. */
const shareOf = (text: string): number => {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}

/** What becomes of a due time that is reached: it runs, or the next one to look at is another. */
export type Decision = { readonly _tag: "Run" } | { readonly _tag: "Miss"; readonly next: number | undefined }

/**
 * A due time that is late by no more than the grace runs. Of those that are later, as after downtime, `skip` runs none,
 * `one` the latest, `all` the latest `Limits.scheduleCatchUpRunsMax`.
 */
export const decide = (
  recurrence: Recurrence,
  input: {
    readonly dueMillis: number
    readonly nowMillis: number
    readonly jitterMillis: number
    readonly catchUp: "skip" | "one" | "all"
  }
): Decision => {
  const cutoff = input.nowMillis - Limits.scheduleGraceMillis - input.jitterMillis
  if (input.dueMillis >= cutoff) return { _tag: "Run" }
  if (input.catchUp === "skip") return { _tag: "Miss", next: following(recurrence, cutoff - 1) }
  const count = input.catchUp === "one" ? 1 : Limits.scheduleCatchUpRunsMax
  const first = firstOfLast(recurrence, { from: input.dueMillis, before: cutoff, count })
  return first === undefined || first === input.dueMillis ? { _tag: "Run" } : { _tag: "Miss", next: first }
}
