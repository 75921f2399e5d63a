/**
 * Owns the one failure of everything that reads or writes beside the ledger: Postgres cannot answer now.
 *
 * A statement that is itself wrong (syntax, data, constraint) is no failure but a defect: input was checked before it
 * came here, so such an error is our mistake and must not be dressed as an outage. A connection that is silent is an outage
 * too, and its callers are told in time.
 */
import { Context, Duration, Effect, Fiber, Schema } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { isTransient } from "./Postgres.ts"

export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  /** What was asked, e.g. `TaskReader.get`. */
  operation: Schema.String,
  /** What Postgres or the connection said: for logs, never for callers. */
  message: Schema.String
}) {}

/** How long a statement or transaction may take before whoever asked is told that Postgres is away. */
export const StorePatience = Context.Reference<Duration.Duration>("datamcp/ledger/StorePatience", {
  defaultValue: () => Duration.seconds(5)
})

/**
 * Turns faults of the connection, and its silence, into `StoreUnavailable`, and mistakes in a statement into defects. Ending
 * the statement of a silent connection may take longer than the caller waits: it is done behind his back.
 */
export const orUnavailable =
  (operation: string) =>
  <A, R>(effect: Effect.Effect<A, SqlError, R>): Effect.Effect<A, StoreUnavailable, R> =>
    Effect.catch(answeredInTime(operation, effect), (error) =>
      error._tag === "StoreUnavailable"
        ? Effect.fail(error)
        : isTransient(error)
          ? Effect.fail(new StoreUnavailable({ operation, message: error.reason.message }))
          : Effect.die(error)
    )

const answeredInTime = <A, E, R>(operation: string, effect: Effect.Effect<A, E, R>) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
      return yield* restore(
        Effect.timeoutOrElse(Fiber.join(fiber), {
          duration: yield* StorePatience,
          orElse: () => Effect.fail(new StoreUnavailable({ operation, message: "Postgres did not answer in time" }))
        })
      ).pipe(Effect.onError(() => Effect.sync(() => fiber.interruptUnsafe())))
    })
  )
