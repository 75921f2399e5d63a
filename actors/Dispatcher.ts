/**
 * Tells instances of queued tasks: puts orders on the bus and wakes hosts. What is lost here is found by the reconciler.
 *
 * Where the only instance of an agent lives on this node and has a free slot, it is handed its orders without the bus: they
 * would come back to this process anyway (docs/adr/0008-orders-at-home.md). It says itself whether it takes one.
 *
 * One message carries what one commit queued for an agent and lane, in portions of what an instance can run at a time,
 * so that no instance sits on work that another could do. Agents that are stopped are left alone: their tasks wait in
 * the ledger.
 */
import { Clock, Context, Duration, Effect, Layer, Metric, Queue } from "effect"
import { dispatchTasksMax, type TaskOrder } from "../protocol/Dispatch.ts"
import type { AgentId } from "../protocol/Ids.ts"
import * as Metrics from "../protocol/Metrics.ts"
import type { TaskPriority } from "../protocol/Task.ts"
import { withSpanFrom } from "../protocol/TraceContext.ts"
import { AgentDirectory } from "./AgentDirectory.ts"
import { Bus } from "./ports/Bus.ts"
import { CrashPoints } from "./ports/CrashPoints.ts"
import { Ledger, type Ready } from "./ports/Ledger.ts"
import { defaults } from "./Routing.ts"

/** Least time between two wakes of an agent's lane from this node; far below the time after which instances hibernate. */
export const WakeEvery = Context.Reference<Duration.Duration>("datamcp/actors/WakeEvery", {
  defaultValue: () => Duration.seconds(3)
})

export class Dispatcher extends Context.Service<
  Dispatcher,
  {
    readonly dispatch: (ready: ReadonlyArray<Ready>) => Effect.Effect<void>
    /** Lets an instance of this node be asked first, until the answer is called; `take` must not block. */
    readonly askFirst: (agentId: AgentId, take: (order: TaskOrder) => boolean) => () => void
  }
>()("datamcp/actors/Dispatcher") {
  static readonly layer = Layer.effect(
    Dispatcher,
    Effect.gen(function* () {
      const bus = yield* Bus
      const ledger = yield* Ledger
      const directory = yield* AgentDirectory
      const clock = yield* Clock.Clock
      const crashPoint = yield* CrashPoints
      const wakeEveryMillis = Duration.toMillis(yield* WakeEvery)
      const woken = new Map<string, number>()
      const atHome = new Map<AgentId, (order: TaskOrder) => boolean>()

      const dispatch = Effect.fnUntraced(function* (ready: ReadonlyArray<Ready>) {
        const now = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
        const wake = new Map<AgentId, Set<TaskPriority>>()
        const orders = ready.flatMap(({ agentId, order }) => {
          const agent = directory.byId(agentId)
          if (agent !== undefined && agent.status !== "active") return []
          if (atHome.get(agentId)?.(order) === true) return []
          const key = `${agentId}/${order.lane}`
          if (now - (woken.get(key) ?? Number.NEGATIVE_INFINITY) >= wakeEveryMillis) {
            woken.set(key, now)
            const lanes = wake.get(agentId)
            if (lanes === undefined) wake.set(agentId, new Set([order.lane]))
            else lanes.add(order.lane)
          }
          const atATime = agent?.configuration.max_concurrent_tasks ?? defaults.concurrentTasks
          return [{ agentId, order, tasksMax: Math.min(dispatchTasksMax, atATime) }]
        })
        for (const { order } of ready) if (order.trace !== undefined) yield* dispatched(order)
        if (orders.length < ready.length) yield* Metric.update(Metrics.dispatchHanded, ready.length - orders.length)
        if (orders.length === 0) return
        crashPoint("dispatch", "before")
        yield* bus.dispatch(orders)
        crashPoint("dispatch", "after")
        if (wake.size === 0) return
        for (const [key, at] of woken) if (now - at >= wakeEveryMillis) woken.delete(key)
        yield* bus.notify({ _tag: "Wake", agents: Array.from(wake, ([id, lanes]) => ({ id, lanes: [...lanes] })) })
      })

      yield* Queue.takeAll(ledger.ready).pipe(Effect.flatMap(dispatch), Effect.forever, Effect.forkScoped)
      const askFirst = (agentId: AgentId, take: (order: TaskOrder) => boolean) => {
        atHome.set(agentId, take)
        return () => {
          if (atHome.get(agentId) === take) atHome.delete(agentId)
        }
      }
      return Dispatcher.of({ dispatch, askFirst })
    })
  )
}

/** Marks in the submission's trace that its task went out. */
const dispatched = (order: Ready["order"]) =>
  withSpanFrom(order.trace, "task.dispatch", { kind: "producer", attributes: { "task.id": order.id } })(Effect.void)
