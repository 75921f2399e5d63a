/**
 * Which shard an instance belongs to: a pure function of the nodes that there are, the same on all of them.
 *
 *   (agent, 0)  the shard of its hash: the same for ever
 *   (agent, i)  the shard of its hash too, unless a lower index of the agent is on that shard's node while other nodes have
 *               none: then the next shard of such a node
 *
 * So of n nodes, each run of n instances of an agent is on n nodes. What a node that comes or goes moves is measured in
 * `test/placement/InstanceShards.test.ts` and told in docs/nodes.md.
 */
import { Hash, HashRing } from "effect"
import type { RunnerAddress } from "effect/cluster"
import type { AgentId } from "../../protocol/Ids.ts"

/** The same on all nodes of a cluster, for ever. */
export const shardCount = 128

export interface View {
  /** Addresses of the nodes that there are. */
  readonly nodes: ReadonlySet<string>
  /** The node of the shard of an instance. */
  readonly nodeOf: (agentId: AgentId, index: number) => string | undefined
  /** From 1 to `shardCount`. */
  readonly shardOf: (agentId: AgentId, index: number) => number
}

/** Agents whose shards are remembered; with more, all are forgotten and found anew. */
const rememberedMax = 10_000

/** How instances are placed when these are the nodes. Assigns shards as effect/cluster does, which takes their locks. */
export const viewOf = (nodes: ReadonlyArray<RunnerAddress.RunnerAddress>): View => {
  const ring = HashRing.make<RunnerAddress.RunnerAddress>()
  for (const node of nodes) HashRing.add(ring, node, { weight: 1 })
  const owners = HashRing.getShards(ring, shardCount)?.map(String) ?? []
  const ownersCount = new Set(owners).size
  const remembered = new Map<AgentId, Array<number>>()

  const apart = (agentId: AgentId, index: number): number => {
    const known = remembered.get(agentId) ?? []
    if (known.length === 0) {
      if (remembered.size >= rememberedMax) remembered.clear()
      remembered.set(agentId, known)
    }
    // An agent's instances in turns of as many as there are nodes.
    while (known.length <= index) {
      const turn = known.slice(known.length - (known.length % ownersCount))
      const taken = new Set(turn.map((shard) => owners[shard - 1]))
      let shard = hashed(agentId, known.length)
      while (taken.has(owners[shard - 1])) shard = (shard % shardCount) + 1
      known.push(shard)
    }
    return known[index] ?? hashed(agentId, index)
  }

  const shardOf = (agentId: AgentId, index: number) =>
    index === 0 || ownersCount < 2 ? hashed(agentId, index) : apart(agentId, index)
  return {
    nodes: new Set(nodes.map(String)),
    shardOf,
    nodeOf: (agentId, index) => owners[shardOf(agentId, index) - 1]
  }
}

const hashed = (agentId: AgentId, index: number) => Math.abs(Hash.string(`${agentId}/${index}`) % shardCount) + 1
