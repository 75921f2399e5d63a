/**
 * What is wrong with a filter beyond its schema, and the same filter as it is stored and compared: moments in UTC.
 */
import { Effect } from "effect"
import { noMoment, utcMoment } from "../../protocol/Moment.ts"
import { type InvalidInput, invalidField } from "../../protocol/Problem.ts"
import { momentFilters, type TaskFilter } from "../../protocol/TaskFilter.ts"

/** The filter with its moments in UTC. `at` is put in front of the fields that are refused. */
export const checkedFilter = <F extends TaskFilter>(filter: F, at = ""): Effect.Effect<F, InvalidInput> =>
  Effect.gen(function* () {
    for (const field of ["label", "name", "error"] as const) {
      const value = filter[field]
      const text = typeof value === "string" ? value : (value ?? []).join("")
      if (text.includes("\0")) return yield* invalidField(`${at}${field}`, "must not contain U+0000")
    }
    const moments: { [name: string]: string } = {}
    for (const field of momentFilters) {
      const text = filter[field]
      if (text === undefined) continue
      const moment = utcMoment(text)
      if (moment === undefined) return yield* invalidField(`${at}${field}`, noMoment)
      moments[field] = moment
    }
    return { ...filter, ...moments }
  })
