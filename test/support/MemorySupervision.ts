/** The use cases of supervision in memory: enough of their promises for the doors to be tested without servers. */
import { Effect, Layer } from "effect"
import { AgentId, AgentName, NodeName } from "../../protocol/Ids.ts"
import { AgentNotFound, Conflict, invalidField } from "../../protocol/Problem.ts"
import type { InstanceOrder, Quarantine, SupervisionTree } from "../../protocol/Supervision.ts"
import { authorize } from "../../src/app/authorize.ts"
import { Supervision } from "../../src/app/Supervision.ts"

const at = "2026-11-23T10:00:00.000Z"
const id = AgentId.make("01900000-0000-7000-9000-0000000000aa")
/** The one agent there is, and how many instances it has. */
const name = AgentName.make("echo")
const instances = 2

export const layer = Layer.sync(Supervision, () => {
  const orders = new Map<number, InstanceOrder>()

  const find = Effect.fnUntraced(function* (ref: string, index: number) {
    yield* authorize("agent:supervise")
    if (ref !== name && ref !== id) return yield* new AgentNotFound({ agent: ref })
    if (index >= instances) return yield* invalidField("index", "there is no such instance", instances - 1)
    return orders.get(index) ?? { agent_id: id, agent: name, index, quarantine: null, restarts_ordered: 0, version: 1 }
  })
  const keep = (order: InstanceOrder) => {
    orders.set(order.index, { ...order, version: order.version + 1 })
    return orders.get(order.index) ?? order
  }

  const tree = (quarantine: Quarantine | null): SupervisionTree => ({
    at,
    nodes: [{ node: NodeName.make("solo"), state: "up", instances: 1 }],
    agents: [
      {
        ...{ agent_id: id, agent: name, type: "echo", status: "idle", status_reason: null },
        ...{ strategy: "one_for_one", desired_instances: instances },
        instances: [
          {
            ...{ index: 0, state: quarantine === null ? "running" : "quarantined", node: NodeName.make("solo") },
            ...{ epoch: 1, since: at, next_start_at: null, last_crash: null, waiting: 0, running: 0, tasks: [] },
            ...{ restarts: { recent: 0, total: 0 }, task_crashes: { recent: 0, total: 0 }, quarantine }
          }
        ]
      }
    ],
    next_cursor: null
  })

  return Supervision.of({
    show: ({ agent }) =>
      Effect.andThen(
        authorize("agent:read", "task:read"),
        agent === undefined || agent === name
          ? Effect.sync(() => tree(orders.get(0)?.quarantine ?? null))
          : Effect.fail(new AgentNotFound({ agent }))
      ),
    restart: Effect.fnUntraced(function* (ref, index) {
      const order = yield* find(ref, index)
      if (order.quarantine !== null) return yield* new Conflict({ reason: "state" })
      return keep({ ...order, restarts_ordered: order.restarts_ordered + 1 })
    }),
    quarantine: Effect.fnUntraced(function* (ref, index, { reason }) {
      const order = yield* find(ref, index)
      return keep({ ...order, quarantine: { at, by: "key:test", reason: reason ?? null } })
    }),
    release: Effect.fnUntraced(function* (ref, index) {
      return keep({ ...(yield* find(ref, index)), quarantine: null })
    })
  })
})
