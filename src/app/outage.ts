/**
 * What a caller is told when a part behind a use case is away: `Unavailable`, with when to come back and nothing of what
 * the part said. That goes to the log.
 */
import { Effect, Predicate } from "effect"
import type { AgentStoreUnavailable } from "../../actors/ports/AgentStore.ts"
import type { LedgerUnavailable } from "../../actors/ports/Ledger.ts"
import { Unavailable } from "../../protocol/Problem.ts"
import type { StoreUnavailable } from "../ledger/StoreUnavailable.ts"

type Outage = StoreUnavailable | LedgerUnavailable | AgentStoreUnavailable

/** Earliest sensible repetition, in seconds: the pool reconnects within it. */
const retryAfterSeconds = 1

/** Every outage becomes `Unavailable`; other failures pass. */
export const orUnavailable = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, Outage> | Unavailable, R> =>
  Effect.catch(
    effect,
    (error): Effect.Effect<never, Exclude<E, Outage> | Unavailable> =>
      isOther(error)
        ? Effect.fail(error)
        : Effect.andThen(Effect.logWarning("Postgres could not be asked", error), Effect.fail(unavailable()))
  )

const isOther = <E>(error: E): error is Exclude<E, Outage> =>
  !(Predicate.hasProperty(error, "_tag") && outages.has(error._tag))

const outages = new Set<unknown>(["StoreUnavailable", "LedgerUnavailable", "AgentStoreUnavailable"])

/** The problem of an outage. */
export const unavailable = () =>
  new Unavailable({
    detail: "The database cannot be reached at the moment; nothing is known to have been changed. Try again.",
    retry_after_seconds: retryAfterSeconds
  })
