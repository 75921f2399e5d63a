/**
 * Port to placement: which node hosts which instance. A hint, never a lock: epochs decide.
 */
import { Context, type Effect, type Scope } from "effect"
import type { AgentId, NodeName } from "../../protocol/Ids.ts"

export class Placement extends Context.Service<
  Placement,
  {
    /** This node's own name. */
    readonly node: NodeName
    /** False while this node is drained, or hosts nothing at all: it begins no work of its own accord. */
    readonly takesWork: () => boolean
    /** True while this node should host the instance. Cheap; call it as often as needed. */
    readonly owns: (agentId: AgentId, index: number) => boolean
    /** Nodes that take part, as far as their heartbeats of the last minute tell; none when that cannot be learned. */
    readonly nodes: Effect.Effect<ReadonlyArray<NodeName>>
    /** Calls back after the set of shards held by this node has changed. */
    readonly onChange: (handler: () => void) => Effect.Effect<void, never, Scope.Scope>
    /** Runs a loop on exactly one node of the cluster, as far as leases can tell, while the scope is open. */
    readonly singleton: <R>(
      name: string,
      loop: Effect.Effect<never, never, R>
    ) => Effect.Effect<void, never, R | Scope.Scope>
  }
>()("datamcp/actors/Placement") {}
