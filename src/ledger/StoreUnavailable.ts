/**
 * Owns the one failure of everything that reads or writes beside the ledger: Postgres cannot answer now.
 *
 * A statement that is itself wrong (syntax, data, constraint) is no failure but a defect: input was checked before it
 * came here, so such an error is our mistake and must not be dressed as an outage.
 */
import { Effect, Schema } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { isTransient } from "./Postgres.ts"

export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  /** What was asked, e.g. `TaskReader.get`. */
  operation: Schema.String,
  /** What Postgres or the connection said: for logs, never for callers. */
  message: Schema.String
}) {}

/** Turns faults of the connection into `StoreUnavailable` and mistakes in a statement into defects. */
export const orUnavailable =
  (operation: string) =>
  <A, R>(effect: Effect.Effect<A, SqlError, R>): Effect.Effect<A, StoreUnavailable, R> =>
    Effect.catch(effect, (error) =>
      isTransient(error)
        ? Effect.fail(new StoreUnavailable({ operation, message: error.reason.message }))
        : Effect.die(error)
    )
