/**
 * Turns a date and time that a schema let through into one that exists: the schema knows the form, this knows the
 * calendar and what both JavaScript and Postgres can hold.
 */
import { DateTime, Option, Result } from "effect"
import { type InvalidInput, invalidField } from "../../protocol/Problem.ts"

/** The moment in UTC with milliseconds; `InvalidInput` of the field when there is no such moment. */
export const moment = (field: string, text: string): Result.Result<string, InvalidInput> => {
  const parsed = Option.map(DateTime.make(text), DateTime.formatIso)
  const exists = Option.isSome(parsed) && parsed.value >= earliest && dayExists(text)
  return exists
    ? Result.succeed(parsed.value)
    : Result.fail(invalidField(field, "is not a date and time that exists between the years 1970 and 9999"))
}

const earliest = "1970-01-01T00:00:00.000Z"

/** Parsers take the 31st of February for the 3rd of March. */
const dayExists = (text: string): boolean => {
  const day = text.slice(0, "2026-01-01".length)
  return Option.exists(DateTime.make(`${day}T00:00:00Z`), (date) => DateTime.formatIso(date).startsWith(day))
}
