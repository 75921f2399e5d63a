/**
 * Owns what is said about the nodes of a platform: what each does, how it is, and what an operator wants of it.
 *
 *   starting --> ready --(drain)--> draining --> drained --(undrain)--> ready
 *                  '--(SIGTERM)--> draining --> gone        any --(silence)--> gone
 */
import { Schema } from "effect"
import { NodeName } from "./Ids.ts"

/** `api`: the doors, and what accepts. `worker`: hosts instances, and runs what a platform does of its own accord. */
export const nodeRoles = ["api", "worker"] as const
export const NodeRole = Schema.Literals(nodeRoles)
export type NodeRole = typeof NodeRole.Type

export const NodeState = Schema.Literals(["starting", "ready", "draining", "drained", "gone"]).annotate({
  description:
    "`draining`: it hands over what it has. `drained`: it has nothing left, takes nothing, and answers requests until it is " +
    "stopped. `gone`: it has ended, or has not been heard of for 10 s."
})
export type NodeState = typeof NodeState.Type

export const Node = Schema.Struct({
  name: NodeName,
  version: Schema.String.annotateKey({ description: "Version of the product that it runs." }),
  roles: Schema.Array(NodeRole),
  state: NodeState,
  drain: Schema.Boolean.annotateKey({ description: "An operator wants it drained. Outlives the process." }),
  started_at: Schema.String,
  heartbeat_age_ms: Schema.Int.annotateKey({ description: "How long ago it was last heard of; every 2 s is usual." }),
  instances: Schema.Int.annotateKey({ description: "Instances of agents that are active on it." }),
  running: Schema.Int.annotateKey({ description: "Tasks that run on it." }),
  shards: Schema.Int.annotateKey({ description: "Of 128, which decide where instances are." })
}).annotate({ identifier: "Node" })
export type Node = typeof Node.Type

export const NodeList = Schema.Struct({ data: Schema.Array(Node) }).annotate({ identifier: "NodeList" })
export type NodeList = typeof NodeList.Type
