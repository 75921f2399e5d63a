/**
 * Remembers for a moment what Postgres said of an API key, so that most requests ask nobody. Callers that need the same
 * key at the same time share one question.
 *
 * Invariant: an answer is used for at most `rememberMillis` after it was asked for, by the monotonic clock, so that a
 * revoked key is refused everywhere within that time even when the wall clock steps. Entries are found by the hash of
 * the secret: no key is kept. An outage is remembered not at all.
 */
import { Clock, Context, Deferred, Effect, Exit } from "effect"
import type { Unauthenticated, Unavailable } from "../../protocol/Problem.ts"
import type { KeyProof } from "./ApiKeyText.ts"

export const VerifiedKeysLimits = Context.Reference<{
  /** How long a good key is believed, in milliseconds; below 5,000 so that a revocation holds within 5 s. */
  readonly rememberMillis: number
  /** How long a refused key stays refused without asking again, in milliseconds. */
  readonly refuseMillis: number
  /** Keys remembered; the least recently used one gives way. */
  readonly entriesMax: number
}>("datamcp/app/VerifiedKeysLimits", {
  defaultValue: () => ({ rememberMillis: 4_000, refuseMillis: 1_000, entriesMax: 10_000 })
})

/** What a question brought: the grant, and how long it holds at most. */
export interface Verified<A> {
  readonly grant: A
  /** Milliseconds until the key ends by itself. */
  readonly remainingMillis: number
}

interface Entry<A> {
  readonly answer: Deferred.Deferred<Verified<A>, Unauthenticated | Unavailable>
  /** Until the answer is there, it is waited for however long that takes. */
  untilNanos: bigint | undefined
  /** The answer, once it is there and good. */
  grant: A | undefined
}

export interface VerifiedKeys<A> {
  readonly get: (proof: KeyProof) => Effect.Effect<A, Unauthenticated | Unavailable>
  /** Asks again at the next use. */
  readonly forget: (proof: KeyProof) => Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* <A>(
  ask: (proof: KeyProof) => Effect.Effect<Verified<A>, Unauthenticated | Unavailable>
) {
  const { entriesMax, refuseMillis, rememberMillis } = yield* VerifiedKeysLimits
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  // In order of last use.
  const entries = new Map<string, Entry<A>>()

  const get = (proof: KeyProof) =>
    Effect.suspend(() => {
      const name = nameOf(proof)
      const known = entries.get(name)
      if (known !== undefined) {
        entries.delete(name)
        if (known.untilNanos === undefined || clock.monotonicTimeNanosUnsafe() < known.untilNanos) {
          entries.set(name, known)
          return known.grant === undefined ? granted(known) : Effect.succeed(known.grant)
        }
      }
      return question(name, proof)
    })

  const question = (name: string, proof: KeyProof) => {
    const entry: Entry<A> = { answer: Deferred.makeUnsafe(), untilNanos: undefined, grant: undefined }
    entries.set(name, entry)
    if (entries.size > entriesMax) {
      const [oldest = name] = entries.keys()
      entries.delete(oldest)
    }
    const askedNanos = clock.monotonicTimeNanosUnsafe()
    // In a fiber of its own: a caller that goes away must not take the answer from the others.
    const asking = ask(proof).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          const millis = holdsFor(exit)
          if (Exit.isSuccess(exit)) entry.grant = exit.value.grant
          if (millis > 0) entry.untilNanos = askedNanos + BigInt(Math.floor(millis)) * 1_000_000n
          else if (entries.get(name) === entry) entries.delete(name)
          Deferred.doneUnsafe(entry.answer, exit)
        })
      ),
      Effect.forkIn(scope)
    )
    return Effect.andThen(asking, granted(entry))
  }

  const granted = (entry: Entry<A>) => Effect.map(Deferred.await(entry.answer), ({ grant }) => grant)

  const holdsFor = (exit: Exit.Exit<Verified<A>, Unauthenticated | Unavailable>): number => {
    if (Exit.isSuccess(exit)) return Math.min(rememberMillis, exit.value.remainingMillis)
    const refused = exit.cause.reasons.some(
      (reason) => reason._tag === "Fail" && reason.error._tag === "Unauthenticated"
    )
    return refused ? refuseMillis : 0
  }

  const forget = (proof: KeyProof) => Effect.sync(() => void entries.delete(nameOf(proof)))

  return { get, forget } satisfies VerifiedKeys<A>
})

const nameOf = (proof: KeyProof) => `${proof.id}:${proof.secretHash}`
