/**
 * Decides when another transaction of a kind may begin while some are in flight: the first at once, a further one only when
 * enough waits to fill it.
 *
 * While one commits, what arrives gathers, so that the busier a node is, the more of its tasks share a transaction and an
 * fsync: with 64 callers batches had 24 tasks while two lanes were always open, and have 58 since. What fills a batch by
 * itself need not wait.
 */
import { Effect, Latch } from "effect"

export interface CommitTurns {
  /** Waits until one more may begin, and counts it as in flight. */
  readonly begin: Effect.Effect<void>
  /** One that was in flight has ended. */
  readonly end: () => void
  /** More waits than before. */
  readonly grown: () => void
}

/** `lanes` is the most in flight; `isFull` tells whether enough waits for one beyond the first. */
export const make = ({ isFull, lanes }: { readonly lanes: number; readonly isFull: () => boolean }): CommitTurns => {
  const changed = Latch.makeUnsafe(false)
  let inFlight = 0
  const mayBegin = () => inFlight === 0 || (inFlight < lanes && isFull())
  const begin: Effect.Effect<void> = Effect.suspend(() => {
    if (!mayBegin()) {
      changed.closeUnsafe()
      return Effect.andThen(changed.await, begin)
    }
    inFlight++
    return Effect.void
  })
  return {
    begin,
    end: () => {
      inFlight--
      changed.openUnsafe()
    },
    grown: () => {
      if (inFlight > 0 && isFull()) changed.openUnsafe()
    }
  }
}
