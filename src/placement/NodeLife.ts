/**
 * The life of this node, as others see it: its row in `nodes`, its heartbeat, its drain and its end.
 *
 *   starting --(`ready`)--> ready --(drain)--> draining --(nothing left)--> drained --(undrain)--> ready
 *                             '--(`leave`)--> draining --(scope closes)--> gone
 *
 * Drained or leaving, a node does the same: it is not ready, its instances stop, what they run is given back without using an
 * attempt, and then its shards are free for the others. Requests are answered all the while. Every wait has a bound, because
 * a node must be able to end while Postgres is away.
 */
import { Clock, Context, Duration, Effect, Exit, Layer, Ref, Schedule, Semaphore } from "effect"
import { AgentHost } from "../../actors/AgentHost.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { Node, NodeRole } from "../../protocol/Node.ts"
import { Startup } from "../app/Startup.ts"
import { NodeStore } from "../ledger/NodeStore.ts"
import { Membership } from "./ClusterPlacement.ts"

export const NodeLifeLimits = Context.Reference<{
  /** Time between heartbeats; also how soon a node hears that it is to be drained. */
  readonly beatEvery: Duration.Duration
  /** Most time for instances to leave: those that do not are taken over. */
  readonly leaveWithin: Duration.Duration
  /** Most time for the words of a node that ends. */
  readonly lastWordWithin: Duration.Duration
  /** A load balancer is there when readiness was asked so lately. */
  readonly watchedWithin: Duration.Duration
}>("datamcp/placement/NodeLifeLimits", {
  defaultValue: () => ({
    beatEvery: Duration.seconds(2),
    leaveWithin: Duration.millis(3_500),
    lastWordWithin: Duration.seconds(1),
    watchedWithin: Duration.seconds(60)
  })
})

export class NodeLife extends Context.Service<
  NodeLife,
  {
    /** From here on the node is ready, unless it is wanted drained. */
    readonly ready: Effect.Effect<void>
    /**
     * Hands everything over, and lets a load balancer that asks for readiness notice before the doors close. Must be called
     * while they are open.
     */
    readonly leave: Effect.Effect<void>
  }
>()("datamcp/placement/NodeLife") {
  static readonly layer = (node: {
    readonly version: string
    readonly roles: ReadonlyArray<NodeRole>
    /** How long a node that leaves goes on to take requests when somebody watches its readiness. */
    readonly notice: Duration.Duration
  }) =>
    Layer.effect(
      NodeLife,
      Effect.gen(function* () {
        const store = yield* NodeStore
        const startup = yield* Startup
        const host = yield* AgentHost
        const membership = yield* Membership
        const limits = yield* NodeLifeLimits
        const { node: name } = yield* Placement
        const process = (yield* UuidV7).next()
        const clock = yield* Clock.Clock
        const one = yield* Semaphore.make(1)
        let state: Exclude<Node["state"], "gone"> = "starting"
        let leaving = false

        const beat = Effect.suspend(() =>
          store.beat({
            ...{ name, process, version: node.version, roles: node.roles, state },
            ...{ instances: host.active(), running: host.load().running, shards: membership.shards() }
          })
        )
        /** Whoever reads the row sees it late, or not at all, when Postgres is away. */
        const said = beat.pipe(Effect.timeoutOption(limits.lastWordWithin), Effect.ignore)

        const left = Effect.suspend(() => (host.active() === 0 ? Effect.void : Effect.fail("some are left"))).pipe(
          Effect.retry(Schedule.spaced("20 millis")),
          Effect.timeoutOption(limits.leaveWithin),
          Effect.ignore
        )

        const handOver = Effect.gen(function* () {
          state = "draining"
          yield* Ref.set(startup.draining, true)
          yield* Effect.all([said, membership.withdraw(left)], { concurrency: 2, discard: true })
        })

        const drain = Effect.gen(function* () {
          yield* Effect.logInfo("this node is drained: it hands over what it hosts")
          yield* handOver
          state = "drained"
          yield* said
        })

        const undrain = Effect.gen(function* () {
          yield* Effect.logInfo("this node takes work again")
          yield* membership.rejoin
          state = "ready"
          yield* Ref.set(startup.draining, false)
          yield* said
        })

        const follow = Effect.fnUntraced(function* (wanted: boolean) {
          if (leaving || state === "starting" || wanted === (state !== "ready")) return
          yield* wanted ? drain : undrain
        })

        /** One at a time: what the row says is acted on before it is read again. */
        const live = one.withPermit(Effect.flatMap(beat, follow))

        yield* store.forget.pipe(Effect.andThen(beat), Effect.ignore)
        yield* Effect.addFinalizer(() =>
          store.left(name, process).pipe(Effect.timeoutOption(limits.lastWordWithin), Effect.ignore)
        )
        yield* live.pipe(
          Effect.catchCause((cause) => Effect.logDebug("the heartbeat of this node could not be written", cause)),
          Effect.delay(limits.beatEvery),
          Effect.forever,
          Effect.forkScoped
        )
        yield* store.forget.pipe(Effect.ignore, Effect.delay("10 minutes"), Effect.forever, Effect.forkScoped)

        const isWatched = Effect.map(
          Ref.get(startup.askedMillis),
          (asked) =>
            Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n) - asked < Duration.toMillis(limits.watchedWithin)
        )

        const ready = one.withPermit(
          Effect.gen(function* () {
            state = "ready"
            yield* Ref.set(startup.ready, true)
            const wanted = yield* Effect.exit(beat)
            if (Exit.isSuccess(wanted)) yield* follow(wanted.value)
          })
        )

        const leave = Effect.gen(function* () {
          leaving = true
          yield* Ref.set(startup.ready, false)
          yield* Ref.set(startup.leaving, true)
          const noticed = Effect.flatMap(isWatched, (watched) => (watched ? Effect.sleep(node.notice) : Effect.void))
          yield* Effect.all([handOver, noticed], { concurrency: 2, discard: true })
        })

        return NodeLife.of({ ready, leave })
      })
    )
}
