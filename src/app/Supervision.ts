/**
 * The use cases of supervision: the tree of what runs where, and what is ordered of an instance.
 *
 * The tree is put together when it is asked for. Who should host what stands in Postgres; what an instance does, each node says
 * for itself, in time or not at all. Nothing is written or sent while nobody asks.
 */
import { Context, DateTime, Duration, Effect, Layer } from "effect"
import { ordersOf } from "../../actors/InstanceOrders.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import { AgentId, type AgentRef } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  AgentNotFound,
  type Conflict,
  type Forbidden,
  type InvalidInput,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { InstanceOrder, ShowSupervision, SteerInstance, SupervisionTree } from "../../protocol/Supervision.ts"
import { AgentRegistry } from "../ledger/AgentRegistry.ts"
import type { AgentRow } from "../ledger/AgentRows.ts"
import { decodeCursor, encodeCursor } from "../ledger/Cursor.ts"
import { SupervisionReader } from "../ledger/SupervisionReader.ts"
import type { Decision } from "./AgentChanges.ts"
import { authorize } from "./authorize.ts"
import { changedBy } from "./changedBy.ts"
import * as InstanceControl from "./InstanceControl.ts"
import { orUnavailable } from "./outage.ts"
import { lostAfterMillis, treeOf } from "./SupervisionTree.ts"

type Steer = (
  ref: AgentRef,
  index: number,
  command: SteerInstance
) => Effect.Effect<InstanceOrder, AgentNotFound | Conflict | InvalidInput | Forbidden | Unavailable, Principal>

export class Supervision extends Context.Service<
  Supervision,
  {
    /** A page of the tree. Answers within `supervisionAnswerMillisMax` of the database, whichever nodes are away. */
    readonly show: (
      query: ShowSupervision
    ) => Effect.Effect<SupervisionTree, AgentNotFound | InvalidInput | Forbidden | Unavailable, Principal>
    /** The instance starts anew; what it runs is given back and the attempt does not count. */
    readonly restart: Steer
    /** The instance gives back what it runs and takes nothing until it is released, on whatever node. */
    readonly quarantine: Steer
    readonly release: Steer
  }
>()("datamcp/app/Supervision") {
  static readonly layer = Layer.effect(
    Supervision,
    Effect.gen(function* () {
      const registry = yield* AgentRegistry
      const reader = yield* SupervisionReader
      const placement = yield* Placement
      const bus = yield* Bus

      const show: Supervision["Service"]["show"] = Effect.fn("Supervision.show")(function* (query) {
        const { namespace } = yield* authorize("agent:read", "task:read")
        const { agent: ref, cursor, limit = Limits.supervisionAgentsMax, node, state } = query
        const scope = { list: "supervision", namespace, filters: { agent: ref, node, state } }
        const before =
          cursor === undefined
            ? undefined
            : AgentId.make(yield* Effect.fromResult(decodeCursor(scope, cursor, idPattern)))
        const agent = ref === undefined ? undefined : yield* registry.get(namespace, ref)
        if (ref !== undefined && agent === undefined) return yield* notFound(ref)
        const [nodes, { agents: found, leases }] = yield* Effect.all(
          [placement.nodes, reader.page(namespace, { agent: agent?.id, node, state, before }, limit + 1)],
          { concurrency: 2 }
        )
        const agents = found.slice(0, limit)
        const fresh = leases.flatMap((lease) =>
          lease.status === "active" && lease.silentMillis < lostAfterMillis ? [lease.node] : []
        )
        const expected = new Set([...nodes, ...fresh].filter((each) => node === undefined || node === each))
        const answers = yield* bus.survey(
          { agents: agents.map(({ id }) => id) },
          { expected, within: Duration.millis(Limits.supervisionAnswerMillisMax) }
        )
        const last = found.length > limit ? agents.at(-1) : undefined
        return {
          at: DateTime.formatIso(yield* DateTime.now),
          ...treeOf({ agents, leases, expected, answers }, { node, state }),
          next_cursor: last === undefined ? null : encodeCursor(scope, last.id)
        }
      }, orUnavailable)

      const steer = Effect.fnUntraced(function* (ref: AgentRef, index: number, decide: (agent: AgentRow) => Decision) {
        const principal = yield* authorize("agent:supervise")
        let orders: AgentRow["instance_orders"] = null
        const result = yield* registry.change(principal.namespace, ref, yield* changedBy(principal), (agent) => {
          const decision = decide(agent)
          orders = decision._tag === "Success" ? (decision.success?.instanceOrders ?? agent.instance_orders) : null
          return decision
        })
        if (result === undefined) return yield* notFound(ref)
        const { agent, changed } = result
        if (changed) yield* bus.notify({ _tag: "AgentChanged", agent: agent.id })
        const own = ordersOf({ instanceOrders: orders ?? undefined }, index)
        return {
          agent_id: agent.id,
          agent: agent.name,
          index,
          quarantine: own.quarantine ?? null,
          restarts_ordered: own.restarts ?? 0,
          version: agent.version
        }
      })

      return Supervision.of({
        show,
        restart: Effect.fn("Supervision.restart")(
          (ref, index, { reason }) => steer(ref, index, InstanceControl.restart(index, reason)),
          orUnavailable
        ),
        quarantine: Effect.fn("Supervision.quarantine")(function* (ref, index, { reason }) {
          const { actor } = yield* authorize("agent:supervise")
          const at = DateTime.formatIso(yield* DateTime.now)
          const order = { at, by: actor, reason: reason ?? null }
          return yield* steer(ref, index, InstanceControl.quarantine(index, order))
        }, orUnavailable),
        release: Effect.fn("Supervision.release")(
          (ref, index, { reason }) => steer(ref, index, InstanceControl.release(index, reason)),
          orUnavailable
        )
      })
    })
  )
}

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u

const notFound = (ref: AgentRef) =>
  Effect.fail(new AgentNotFound({ agent: ref, detail: `There is no agent "${ref}" in this namespace.` }))
