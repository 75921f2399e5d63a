/**
 * Owns what a date and time from outside means: the schema `Timestamp` knows its form, this knows the calendar, and what
 * JavaScript and Postgres can both hold.
 *
 * Invariant: the text that comes out is in UTC with milliseconds, whatever offset came in, so that it compares as text
 * and is read the same by every part.
 */
import { DateTime, Option } from "effect"

/** Why a text is refused, to stand behind the name of its field. */
export const noMoment = "is not a date and time that exists between the years 1970 and 9999"

/** The moment in UTC, `2026-11-23T10:00:00.000Z`; undefined when there is no such moment. */
export const utcMoment = (text: string): string | undefined => {
  const parsed = Option.map(DateTime.make(text), DateTime.formatIso)
  return Option.isSome(parsed) && parsed.value >= earliest && parsed.value.length === earliest.length && dayExists(text)
    ? parsed.value
    : undefined
}

const earliest = "1970-01-01T00:00:00.000Z"

/** Parsers take the 31st of February for the 3rd of March. */
const dayExists = (text: string): boolean => {
  const day = text.slice(0, earliest.indexOf("T"))
  return Option.exists(DateTime.make(`${day}T00:00:00Z`), (date) => DateTime.formatIso(date).startsWith(day))
}
