/** The use cases of nodes in memory: one node that is drained as soon as it is asked. */
import { Effect, Layer } from "effect"
import { NodeName } from "../../protocol/Ids.ts"
import type { Node } from "../../protocol/Node.ts"
import { NodeNotFound } from "../../protocol/Problem.ts"
import { authorize } from "../../src/app/authorize.ts"
import { Nodes } from "../../src/app/Nodes.ts"

export const layer = Layer.sync(Nodes, () => {
  let node: Node = {
    name: NodeName.make("n1"),
    version: "0.1.0",
    roles: ["api", "worker"],
    state: "ready",
    drain: false,
    started_at: "2026-11-23T10:00:00.000000Z",
    heartbeat_age_ms: 0,
    instances: 1,
    running: 0,
    shards: 128
  }
  const find = (name: NodeName) =>
    name === node.name ? Effect.succeed(node) : Effect.fail(new NodeNotFound({ node: name }))
  const want = (name: NodeName, drain: boolean) =>
    Effect.andThen(
      authorize("node:drain"),
      Effect.map(find(name), () => {
        node = { ...node, drain, state: drain ? "drained" : "ready" }
        return node
      })
    )
  return Nodes.of({
    list: Effect.map(authorize("node:read"), () => ({ data: [node] })),
    get: (name) => Effect.andThen(authorize("node:read"), find(name)),
    drain: (name) => want(name, true),
    undrain: (name) => want(name, false)
  })
})
