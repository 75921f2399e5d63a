/**
 * Owns the news that the server stops: open streams end on it, waits answer at once.
 */
import { Context, Effect, Latch, Layer } from "effect"

export class Draining extends Context.Service<
  Draining,
  {
    /** Succeeds once the server has begun to stop. */
    readonly begun: Effect.Effect<void>
    /** Tells everybody; for who stops the server. */
    readonly begin: Effect.Effect<void>
  }
>()("datamcp/http/Draining") {
  static readonly layer = Layer.sync(Draining, () => {
    const latch = Latch.makeUnsafe(false)
    return Draining.of({ begun: latch.await, begin: Effect.asVoid(latch.open) })
  })
}
