/**
 * What operators ask of a node: is it alive, is it ready, what runs where.
 */
import { Clock, Context, Effect, Layer, Ref } from "effect"
import { SqlClient } from "effect/sql"
import { Bus } from "../../actors/ports/Bus.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import manifest from "../../package.json" with { type: "json" }
import type { Principal } from "../../protocol/Permission.ts"
import type { Forbidden, Unavailable } from "../../protocol/Problem.ts"
import type { Readiness, Status } from "../../protocol/System.ts"
import { AgentRegistry } from "../ledger/AgentRegistry.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"
import { Startup } from "./Startup.ts"

export class System extends Context.Service<
  System,
  {
    /** Each part that is needed to accept and run tasks, asked now with a bound of 2 s. Never fails. */
    readonly readiness: Effect.Effect<Readiness>
    /** Node, versions, and tasks of the caller's namespace by status. */
    readonly status: Effect.Effect<Status, Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/System") {
  static readonly layer = Layer.effect(
    System,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const bus = yield* Bus
      const placement = yield* Placement
      const startup = yield* Startup
      const clock = yield* Clock.Clock
      const tasks = yield* TaskReader
      const agents = yield* AgentRegistry

      const postgresAnswers = sql`select 1`.pipe(
        Effect.as(true),
        Effect.timeoutOrElse({ duration: "2 seconds", orElse: () => Effect.succeed(false) }),
        Effect.catchCause(() => Effect.succeed(false))
      )

      const readiness = Effect.gen(function* () {
        yield* Ref.set(startup.askedMillis, Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n))
        const postgres = yield* postgresAnswers
        const [started, draining] = yield* Effect.all([Ref.get(startup.ready), Ref.get(startup.draining)])
        // Without NATS tasks are still accepted, and instances take their work from Postgres.
        return {
          ready: postgres && started && !draining,
          draining,
          parts: { postgres, nats: bus.connected(), started }
        }
      }).pipe(Effect.withSpan("System.readiness"))

      const status = Effect.gen(function* () {
        const { namespace } = yield* authorize("task:read")
        const [counts, agentCount, instances, { parts }] = yield* Effect.all(
          [tasks.counts(namespace), agents.count(namespace), agents.instancesOn(namespace, placement.node), readiness],
          { concurrency: 2 }
        )
        return {
          version: manifest.version,
          node: placement.node,
          namespace,
          tasks: counts,
          agents: agentCount,
          instances_here: instances,
          parts
        }
      }).pipe(orUnavailable, Effect.withSpan("System.status"))

      return System.of({ readiness, status })
    })
  )
}
