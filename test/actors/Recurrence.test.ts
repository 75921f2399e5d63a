/**
 * Due times, against a model that knows nothing of the code: every second (or minute) of the days around each change of a
 * zone's clocks, shown by `Intl`.
 */
import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as Recurrence from "../../actors/Recurrence.ts"
import * as Limits from "../../protocol/Limits.ts"

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

const compiled = (spec: Recurrence.Spec, anchorMillis = 0) => Result.getOrThrow(Recurrence.compile(spec, anchorMillis))
const iso = (millis: number | undefined) => (millis === undefined ? undefined : Recurrence.momentOf(millis))
const next = (cron: string, time_zone: string, after: string, count = 3) =>
  Recurrence.upcoming(compiled({ cron, time_zone }), Date.parse(after), count).map(iso)
const faults = (spec: Recurrence.Spec) => {
  const result = Recurrence.compile(spec, 0)
  return Result.isFailure(result) ? result.failure : []
}

describe("a daily time", () => {
  it("that a clock jumps over runs once, when it has jumped", () => {
    expect(next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z")).toEqual([
      "2026-03-29T01:00:00.000Z",
      "2026-03-30T00:30:00.000Z",
      "2026-03-31T00:30:00.000Z"
    ])
    // Jumps by half an hour, and at midnight.
    expect(next("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2)).toEqual([
      "2026-10-03T15:30:00.000Z",
      "2026-10-04T15:10:00.000Z"
    ])
    expect(next("15 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", 2)).toEqual([
      "2026-09-06T04:00:00.000Z",
      "2026-09-07T03:15:00.000Z"
    ])
  })

  it("that comes twice runs the first time only, also when asked between the two", () => {
    expect(next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2)).toEqual([
      "2026-10-25T00:30:00.000Z",
      "2026-10-26T01:30:00.000Z"
    ])
    expect(next("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1)).toEqual(["2026-10-26T01:30:00.000Z"])
    expect(next("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1)).toEqual(["2026-10-26T01:30:00.000Z"])
  })

  it("that meets the end of the gap runs once, not twice", () => {
    expect(next("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2)).toEqual([
      "2026-03-29T01:00:00.000Z",
      "2026-03-30T00:00:00.000Z"
    ])
  })
})

describe("a rhythm", () => {
  it("of every hour goes on through the repeated hour and over the gap", () => {
    expect(next("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4)).toEqual([
      "2026-10-25T00:30:00.000Z",
      "2026-10-25T01:00:00.000Z",
      "2026-10-25T01:30:00.000Z",
      "2026-10-25T02:00:00.000Z"
    ])
    expect(next("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z")).toEqual([
      "2026-03-29T00:30:00.000Z",
      "2026-03-29T01:00:00.000Z",
      "2026-03-29T01:30:00.000Z"
    ])
  })

  it("by interval counts from its start and knows no clocks", () => {
    const every = compiled({ every_ms: 90_000, starts_at: "2026-03-29T00:00:10Z" })
    expect(Recurrence.upcoming(every, Date.parse("2020-01-01T00:00:00Z"), 2).map(iso)).toEqual([
      "2026-03-29T00:00:10.000Z",
      "2026-03-29T00:01:40.000Z"
    ])
    expect(iso(Recurrence.following(compiled({ every_ms: 1000 }, 5_500), 7_500))).toBe("1970-01-01T00:00:08.500Z")
  })
})

describe("an expression", () => {
  it("has five fields, six with seconds, or is a word", () => {
    expect(next("0 9 * * mon-fri", "UTC", "2026-11-27T10:00:00Z", 1)).toEqual(["2026-11-30T09:00:00.000Z"])
    expect(next("*/20 * * * * *", "UTC", "2026-11-27T10:00:00.500Z", 1)).toEqual(["2026-11-27T10:00:20.000Z"])
    expect(next("@Hourly", "UTC", "2026-11-27T10:00:00Z", 1)).toEqual(["2026-11-27T11:00:00.000Z"])
    expect(next("@weekly", "Asia/Kolkata", "2026-11-27T10:00:00Z", 1)).toEqual(["2026-11-28T18:30:00.000Z"])
    // Day of month or weekday, when both are named; the 29th of February waits for its year.
    expect(next("0 0 13 * 5", "UTC", "2026-11-01T00:00:00Z")).toEqual([
      "2026-11-06T00:00:00.000Z",
      "2026-11-13T00:00:00.000Z",
      "2026-11-20T00:00:00.000Z"
    ])
    expect(next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1)).toEqual(["2104-02-29T00:00:00.000Z"])
  })

  it.each([
    [{ cron: "61 * * * *" }, "cron", "minute"],
    [{ cron: "* * * *" }, "cron", "five fields"],
    [{ cron: "@every 5m" }, "cron", "@hourly"],
    [{ cron: "0 0 L * *" }, "cron", "day"],
    [{ cron: "0 0 30 2 *" }, "cron", "never"],
    [{ cron: "* * * * *", time_zone: "Mars/Olympus" }, "time_zone", "Mars/Olympus"],
    [{ cron: "* * * * *", every_ms: 1000 }, "every_ms", "beside"],
    [{}, "cron", "missing"],
    [{ every_ms: 1000, starts_at: "2026-02-30T00:00:00Z" }, "starts_at", "exists"],
    [{ every_ms: 1000, starts_at: "2026-03-02T00:00:00Z", ends_at: "2026-03-01T00:00:00Z" }, "ends_at", "before"]
  ])("that is wrong is refused, naming what is: %j", (spec, field, word) => {
    expect(faults(spec)).toMatchObject([{ field }])
    expect(faults(spec)[0]?.message).toContain(word)
  })

  it("that is due seldom is found beyond many changes of the clocks", () => {
    expect(next("0 9 29 2 *", "Europe/Berlin", "2024-02-29T08:00:00Z", 2)).toEqual([
      "2028-02-29T08:00:00.000Z",
      "2032-02-29T08:00:00.000Z"
    ])
    // Both halves of an hour that comes twice, months apart from what follows.
    expect(next("30 * 25 10 *", "Europe/Berlin", "2026-10-25T00:30:00Z", 2)).toEqual([
      "2026-10-25T01:30:00.000Z",
      "2026-10-25T02:30:00.000Z"
    ])
    expect(next("30 2 25 10,3 *", "Europe/Berlin", "2026-10-25T00:30:00Z", 1)).toEqual(["2027-03-25T01:30:00.000Z"])
  })

  it("keeps to its bounds", () => {
    const bounds = { starts_at: "2026-01-10T00:00:00Z", ends_at: "2026-01-12T00:00:00+00:00" }
    const daily = compiled({ cron: "@daily", ...bounds })
    expect(Recurrence.upcoming(daily, 0, 10).map(iso)).toEqual([
      "2026-01-10T00:00:00.000Z",
      "2026-01-11T00:00:00.000Z",
      "2026-01-12T00:00:00.000Z"
    ])
    expect(Recurrence.following(daily, Date.parse("2026-01-12T00:00:00Z"))).toBeUndefined()
  })
})

// --- the model

/** Wall-clock fields of each minute of a span, as the zone's clocks show them. */
const minutesOf = (zone: string, from: number, to: number) => {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric"
  })
  const all: Array<{ readonly at: number; readonly wall: number }> = []
  for (let at = from; at < to; at += minute) {
    const part = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]))
    const { day: date = 0, hour: hours = 0, minute: minutes = 0, month = 0, year = 0 } = part
    all.push({ at, wall: Date.UTC(year, month - 1, date, hours, minutes) })
  }
  return all
}

interface Fields {
  readonly minutes: ReadonlyArray<number>
  readonly hours: ReadonlyArray<number>
  readonly weekdays: ReadonlyArray<number>
}

/** Minute by minute: what the clock shows for the first time, what it shows again, and what it jumps over. */
const model = (minutes: ReadonlyArray<{ readonly at: number; readonly wall: number }>, fields: Fields) => {
  const everyHour = fields.hours.length === 24
  const matches = (wall: number) => {
    const shown = new Date(wall)
    return (
      fields.minutes.includes(shown.getUTCMinutes()) &&
      fields.hours.includes(shown.getUTCHours()) &&
      fields.weekdays.includes(shown.getUTCDay())
    )
  }
  const due = new Set<number>()
  let highest = Number.NEGATIVE_INFINITY
  let before: number | undefined
  for (const { at, wall } of minutes) {
    if (before !== undefined) {
      for (let jumped = before + minute; jumped < wall; jumped += minute) if (matches(jumped)) due.add(at)
    }
    if (matches(wall) && (everyHour || wall > highest)) due.add(at)
    highest = Math.max(highest, wall)
    before = wall
  }
  return [...due].sort((one, other) => one - other)
}

/** A small generator with a seed (mulberry32), so that a failure can be told again. */
const randomOf = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const all = (count: number) => Array.from({ length: count }, (_, index) => index)

const fieldsBy = (random: () => number): Fields => {
  const some = (count: number, most: number) => {
    const wanted = 1 + Math.floor(random() * most)
    return [...new Set(all(wanted).map(() => Math.floor(random() * count)))].sort((one, other) => one - other)
  }
  // Near the hours at which clocks change more often than not.
  const nearChanges = () => [...new Set(some(4, 3))]
  return {
    minutes: random() < 0.2 ? all(12).map((index) => index * 5) : some(60, 4),
    hours: random() < 0.25 ? all(24) : random() < 0.7 ? nearChanges() : some(24, 6),
    weekdays: random() < 0.7 ? all(7) : some(7, 3)
  }
}

const expressionOf = ({ hours, minutes, weekdays }: Fields) =>
  `${minutes.join(",")} ${hours.length === 24 ? "*" : hours.join(",")} * * ${weekdays.length === 7 ? "*" : weekdays.join(",")}`

/** Each zone with the weeks in which its clocks change (or, of Kolkata, do not). */
const zones: ReadonlyArray<readonly [zone: string, ...changes: ReadonlyArray<string>]> = [
  ["Europe/Berlin", "2026-03-29", "2026-10-25"],
  ["America/New_York", "2026-03-08", "2026-11-01"],
  ["Australia/Lord_Howe", "2026-04-05", "2026-10-04"],
  ["Asia/Kolkata", "2026-03-29"],
  ["Africa/Casablanca", "2026-02-15", "2026-03-22"],
  ["Pacific/Chatham", "2026-04-05", "2026-09-27"],
  ["America/Santiago", "2026-04-05", "2026-09-06"],
  // By three hours, and by a whole day that never was.
  ["Antarctica/Casey", "2023-03-09"],
  ["Pacific/Apia", "2011-12-30"]
]

describe.each(zones)("in %s", (zone, ...changes) => {
  it.each(changes)("due times around %s are those of a minute by minute model", (change) => {
    const from = Date.parse(`${change}T00:00:00Z`) - 3 * day
    const minutes = minutesOf(zone, from, from + 6 * day)
    for (let seed = 1; seed <= 60; seed++) {
      const random = randomOf(seed)
      const fields = fieldsBy(random)
      const cron = expressionOf(fields)
      const recurrence = compiled({ cron, time_zone: zone })
      // The model needs some history to know what was shown before.
      const after = from + 2 * day + Math.floor(random() * 2 * day)
      const expected = model(minutes, fields).filter((at) => at > after)
      const found = Recurrence.upcoming(recurrence, after, expected.length)
      expect({ seed, cron, found: found.map(iso) }).toEqual({ seed, cron, found: expected.map(iso) })
    }
  })
})

describe("after downtime", () => {
  const down = Date.parse("2026-05-01T00:00:00Z")
  const back = down + 30 * day + 30 * minute
  const decided = (spec: Recurrence.Spec, catchUp: "skip" | "one" | "all", dueMillis = down, jitterMillis = 0) =>
    Recurrence.decide(compiled(spec, down), { dueMillis, nowMillis: back, jitterMillis, catchUp })

  it("a run that is hardly late runs, whatever the policy", () => {
    for (const catchUp of ["skip", "one", "all"] as const) {
      expect(decided({ cron: "* * * * *" }, catchUp, back - Limits.scheduleGraceMillis)).toEqual({ _tag: "Run" })
    }
  })

  it("skip goes on with the first that is not late", () => {
    expect(decided({ cron: "@hourly" }, "skip")).toEqual({ _tag: "Miss", next: down + 30 * day + hour })
    expect(decided({ every_ms: 1000 }, "skip")).toEqual({ _tag: "Miss", next: back - minute })
    expect(decided({ cron: "@hourly" }, "skip", down + 30 * day, hour)).toEqual({ _tag: "Run" })
  })

  it("one runs the latest that was missed", () => {
    expect(decided({ cron: "@hourly" }, "one")).toEqual({ _tag: "Miss", next: down + 30 * day })
    expect(decided({ cron: "@hourly" }, "one", down + 30 * day)).toEqual({ _tag: "Run" })
    expect(decided({ cron: "*/5 * * * * *" }, "one")).toEqual({ _tag: "Miss", next: back - minute - 5000 })
  })

  it("all runs the latest of them up to the limit, even of millions", () => {
    const first = back - minute - Limits.scheduleCatchUpRunsMax * 1000
    expect(decided({ cron: "* * * * * *" }, "all")).toEqual({ _tag: "Miss", next: first })
    expect(decided({ cron: "* * * * * *" }, "all", first)).toEqual({ _tag: "Run" })
    expect(decided({ cron: "@daily" }, "all")).toEqual({ _tag: "Run" })
    // The latest hundred of two hours' seconds on the first day of a month, and of every seven minutes.
    const until = Date.parse("2026-05-31T00:30:00Z") - minute
    const bursts = Recurrence.upcoming(compiled({ cron: "* * 0,1 1 * *" }), down - 1, 7200)
    expect(decided({ cron: "* * 0,1 1 * *" }, "all")).toEqual({ _tag: "Miss", next: bursts.at(-100) })
    const steady = Recurrence.upcoming(compiled({ cron: "*/7 * * * *" }), down - 1, 10_000).filter((due) => due < until)
    expect(decided({ cron: "*/7 * * * *" }, "all")).toEqual({ _tag: "Miss", next: steady.at(-100) })
  })

  it("nothing is left to run once it has ended", () => {
    expect(decided({ cron: "@hourly", ends_at: "2026-05-02T00:00:00Z" }, "skip")).toEqual({
      _tag: "Miss",
      next: undefined
    })
  })
})

describe("jitter", () => {
  it("delays a run by a share that is fixed, within its bound, and spread", () => {
    const starts = all(1000).map((index) => Recurrence.startOf("a", index * minute, 10_000) - index * minute)
    expect(starts).toEqual(all(1000).map((index) => Recurrence.startOf("a", index * minute, 10_000) - index * minute))
    expect(Math.min(...starts)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...starts)).toBeLessThanOrEqual(10_000)
    const mean = starts.reduce((sum, start) => sum + start, 0) / starts.length
    expect(Math.abs(mean - 5_000)).toBeLessThan(500)
    expect(Recurrence.startOf("a", 7, 0)).toBe(7)
  })
})
