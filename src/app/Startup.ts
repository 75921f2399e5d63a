/**
 * How far this node is in its life, as readiness has it: not ready before it is migrated, its directory loaded and its doors
 * open, nor while it is drained, nor from the moment an orderly end begins, so that traffic goes elsewhere first. Set by
 * `src/placement/NodeLife.ts`.
 */
import { Context, Effect, Layer, Ref } from "effect"

export class Startup extends Context.Service<
  Startup,
  {
    readonly ready: Ref.Ref<boolean>
    /** It hands over what it hosts, or has done so. */
    readonly draining: Ref.Ref<boolean>
    /** It is about to end: who holds a connection is told to open the next one elsewhere. */
    readonly leaving: Ref.Ref<boolean>
    /** When readiness was last asked, in milliseconds of the monotonic clock. */
    readonly askedMillis: Ref.Ref<number>
  }
>()("datamcp/app/Startup") {
  static readonly layer = Layer.effect(
    Startup,
    Effect.gen(function* () {
      const flag = Ref.make(false)
      return Startup.of({
        ready: yield* flag,
        draining: yield* flag,
        leaving: yield* flag,
        askedMillis: yield* Ref.make(Number.NEGATIVE_INFINITY)
      })
    })
  )
}
