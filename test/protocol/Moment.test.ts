/** Dates from outside: those that exist come out in UTC, others do not come out. */
import { expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { utcMoment } from "../../protocol/Moment.ts"
import { Timestamp } from "../../protocol/Task.ts"

it.each([
  ["2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000Z"],
  ["2026-11-23T10:00:00.123456789Z", "2026-11-23T10:00:00.123Z"],
  ["2026-01-01T00:30:00+02:00", "2025-12-31T22:30:00.000Z"],
  ["2020-01-01T00:00:00+23:59", "2019-12-31T00:01:00.000Z"],
  ["2028-02-29T23:59:59-12:00", "2028-03-01T11:59:59.000Z"],
  ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"]
])("%s is %s", (text, utc) => {
  expect(Schema.is(Timestamp)(text)).toBe(true)
  expect(utcMoment(text)).toBe(utc)
})

it.each([
  "2026-02-31T00:00:00Z",
  "2027-02-29T00:00:00Z",
  "2026-13-01T00:00:00Z",
  "2026-00-10T00:00:00Z",
  "2026-01-01T25:00:00Z",
  "2026-01-01T23:59:60Z",
  "2026-01-01T00:00:00+24:00",
  "0000-01-01T00:00:00Z",
  "1969-12-31T23:59:59Z",
  "1970-01-01T00:00:00+00:01",
  "9999-12-31T23:59:59-01:00"
])("%s is no moment", (text) => {
  expect(Schema.is(Timestamp)(text)).toBe(true)
  expect(utcMoment(text)).toBeUndefined()
})
