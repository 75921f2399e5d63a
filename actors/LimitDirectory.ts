/**
 * This node's view of all limits, in memory: what the scheduler looks up for each submission.
 *
 * It is filled before the node is ready, read again on a notice, and swept every few seconds for a notice that was lost. It may be a
 * moment behind: a limit binds tasks that are accepted after this node has heard of it.
 */
import { Context, Duration, Effect, Layer, Schedule } from "effect"
import type { Namespace } from "../protocol/Ids.ts"
import { Bus } from "./ports/Bus.ts"
import { type LimitRecord, LimitStore } from "./ports/LimitStore.ts"

/** Time between looks for changes that no notice told of. */
export const LimitSweepEvery = Context.Reference<Duration.Duration>("datamcp/actors/LimitSweepEvery", {
  defaultValue: () => Duration.seconds(3)
})

export class LimitDirectory extends Context.Service<
  LimitDirectory,
  {
    /** Limits of a namespace, by id. */
    readonly of: (namespace: Namespace) => ReadonlyArray<LimitRecord>
  }
>()("datamcp/actors/LimitDirectory") {
  static readonly layer = Layer.effect(
    LimitDirectory,
    Effect.gen(function* () {
      const store = yield* LimitStore
      const bus = yield* Bus
      const sweepEvery = yield* LimitSweepEvery
      let limits: ReadonlyMap<Namespace, ReadonlyArray<LimitRecord>> = new Map()
      let known: string | undefined

      // The state is asked first: what changes while the limits are read is read again next time.
      const look = Effect.gen(function* () {
        const state = yield* store.state
        if (state === known) return
        const all = yield* store.all
        limits = Map.groupBy(all, ({ namespace }) => namespace)
        known = state
      })

      yield* look
      const run = Effect.runForkWith(yield* Effect.context<never>())
      yield* bus.onNotice((notice) => {
        if (notice._tag !== "LimitsChanged") return
        run(Effect.catch(look, () => Effect.logDebug("a change of limits is left to the sweep")))
      })
      yield* look.pipe(
        Effect.catch((error) => Effect.logDebug("limits could not be read", error.message)),
        Effect.schedule(Schedule.spaced(sweepEvery)),
        Effect.forkScoped
      )
      return LimitDirectory.of({ of: (namespace) => limits.get(namespace) ?? none })
    })
  )
}

const none: ReadonlyArray<LimitRecord> = []
