/**
 * Heals what messages and nodes lose: singletons that sweep the ledger in small batches, one of each in the cluster.
 *
 *   due        tasks whose run_at or retry has come         --> queued
 *   cascades   children of what ended in a long cascade     --> queued or ended
 *   awaits     waits for a signal that are over by the clock --> queued
 *   children   parked tasks whose children have ended       --> queued
 *   deadlines  tasks whose deadline has passed              --> timeout
 *   forgotten  agents with queued or running tasks          --> wake their hosts
 *   orphans    running tasks of leases that fell silent     --> taken over
 *   unassigned tasks that wait for an agent that can do them --> queued
 *   artifacts  payloads and results of tasks that are gone  --> removed
 *   limits     room that nobody has looked at               --> queued
 *   tidy       tallies folded, idempotency keys forgotten, drained agents ended
 *
 * Each loop is silent when it did nothing, and goes again at once when its batch was full.
 */
import { Clock, Context, Duration, Effect, Layer, Metric } from "effect"
import type { Namespace, TaskType } from "../protocol/Ids.ts"
import * as Metrics from "../protocol/Metrics.ts"
import { AgentDirectory } from "./AgentDirectory.ts"
import { AgentStore } from "./ports/AgentStore.ts"
import { ArtifactStore } from "./ports/ArtifactStore.ts"
import { Bus } from "./ports/Bus.ts"
import { Ledger } from "./ports/Ledger.ts"
import { Placement } from "./ports/Placement.ts"

export const ReconcilerLimits = Context.Reference<{
  readonly dueEvery: Duration.Duration
  readonly deadlinesEvery: Duration.Duration
  readonly forgottenEvery: Duration.Duration
  readonly tidyEvery: Duration.Duration
  /** Silence of a lease after which its running tasks are taken over. */
  readonly orphanAfter: Duration.Duration
  /** Rows of one sweep. */
  readonly batch: number
}>("datamcp/actors/ReconcilerLimits", {
  defaultValue: () => ({
    dueEvery: Duration.millis(200),
    deadlinesEvery: Duration.millis(500),
    forgottenEvery: Duration.seconds(2),
    tidyEvery: Duration.seconds(10),
    orphanAfter: Duration.seconds(15),
    batch: 500
  })
})

/** Types without an agent that are looked at per sweep: each may cost a question to the store. */
const kindsAtATime = 100

/** Runs for as long as its scope; on other nodes it waits to take over. */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const ledger = yield* Ledger
    const bus = yield* Bus
    const placement = yield* Placement
    const directory = yield* AgentDirectory
    const store = yield* AgentStore
    const artifacts = yield* ArtifactStore
    const limits = yield* ReconcilerLimits
    const clock = yield* Clock.Clock

    /** A loop that survives every failure: what cannot be done now is done next time. */
    const loop = (name: string, every: Duration.Duration, sweep: Effect.Effect<number, { readonly message: string }>) =>
      placement.singleton(
        `reconciler/${name}`,
        sweep.pipe(
          Effect.catchCause((cause) => Effect.as(Effect.logDebug(`reconciler ${name} could not sweep`, cause), 0)),
          Effect.tap((swept) => (swept > 0 ? Metric.update(Metrics.reconciled({ kind: name }), swept) : Effect.void)),
          Effect.flatMap((swept) => (swept >= limits.batch ? Effect.yieldNow : Effect.sleep(every))),
          Effect.forever
        )
      )

    const forgotten = Effect.gen(function* () {
      const agents = yield* ledger.agentsWithWork(10_000)
      const among = 500
      for (let from = 0; from < agents.length; from += among) {
        yield* bus.notify({
          _tag: "Wake",
          agents: agents.slice(from, from + among).map((id) => ({ id, lanes: [] }))
        })
      }
      return 0
    })

    // Each transaction carries on from the last one's end, until nothing is left.
    const cascades = Effect.gen(function* () {
      let total = 0
      while (true) {
        const changed = yield* ledger.resume(limits.batch)
        if (changed === 0) return total
        total += changed
      }
    })

    const deadlines = Effect.gen(function* () {
      const { ended, running } = yield* ledger.expire(limits.batch)
      for (const { agentId, id } of running) yield* bus.notify({ _tag: "Interrupt", agent: agentId, tasks: [id] })
      return ended
    })

    // No lease can be heard of while Postgres is away, nor while this node stands still: silence counts only from when it
    // was listened for without a break.
    const listening = Duration.toMillis(limits.orphanAfter)
    let since = Number.POSITIVE_INFINITY
    let last = Number.NEGATIVE_INFINITY
    const orphans = Effect.gen(function* () {
      const leases = yield* ledger.orphans(limits.orphanAfter, limits.batch)
      const now = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
      if (now - last > listening / 2) since = now
      last = now
      if (now - since < listening) return 0
      for (const lease of leases) {
        yield* ledger.takeOver(lease)
        yield* Effect.logWarning("tasks of a silent instance were queued again").pipe(
          Effect.annotateLogs({ agent: lease.agentId, instance: lease.index })
        )
      }
      return leases.length
    })

    // In turn, so that types that nobody can do do not keep others waiting.
    let asked: { readonly namespace: Namespace; readonly type: TaskType } | undefined
    const unassigned = Effect.gen(function* () {
      const kinds = yield* ledger.withoutAgent(asked, kindsAtATime)
      asked = kinds.length < kindsAtATime ? undefined : kinds.at(-1)
      let assigned = 0
      for (const kind of kinds) {
        const agent = yield* directory.forType(kind.namespace, kind.type)
        if (agent !== undefined) assigned += yield* ledger.assign({ ...kind, agentId: agent.id }, limits.batch)
      }
      return assigned
    })

    const tidy = Effect.gen(function* () {
      const ended = yield* store.finishDrained(limits.batch)
      return ended + (yield* ledger.tidy(10_000))
    })

    // Not all that one look sees goes: the next one, further on, can wait.
    const orphanedArtifacts = Effect.as(artifacts.tidy(limits.batch), 0)

    yield* loop("due", limits.dueEvery, ledger.queueDue(limits.batch))
    yield* loop("awaits", limits.deadlinesEvery, ledger.signals.expire(limits.batch))
    yield* loop("children", limits.forgottenEvery, ledger.children.heal(limits.batch))
    yield* loop("cascades", limits.dueEvery, cascades)
    yield* loop("deadlines", limits.deadlinesEvery, deadlines)
    yield* loop("forgotten", limits.forgottenEvery, forgotten)
    yield* loop("orphans", limits.forgottenEvery, orphans)
    yield* loop("unassigned", limits.forgottenEvery, unassigned)
    yield* loop("limits", limits.deadlinesEvery, ledger.admitOpen(limits.batch))
    yield* loop("tidy", limits.tidyEvery, tidy)
    yield* loop("artifacts", limits.tidyEvery, orphanedArtifacts)
  })
)
