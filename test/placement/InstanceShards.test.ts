/** Where instances go, as a pure function: evenly, apart, and with little that moves. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { RunnerAddress } from "effect/cluster"
import { AgentId } from "../../protocol/Ids.ts"
import { shardCount, viewOf } from "../../src/placement/InstanceShards.ts"
import { probes } from "./probes.ts"

const addresses = (count: number, seed = 0) =>
  Array.from({ length: count }, (_, index) =>
    RunnerAddress.make(`node-${index}`, 1_000 + seed * 7_919 + index * 104_729)
  )

const seeds = Array.from({ length: 10 }, (_, seed) => seed)
const mean = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

describe("instances of one agent", () => {
  it.prop(
    "are on as many nodes as there are, each turn of them anew",
    { agent: AgentId, count: between(1, 40), seed: between(0, 1_000) },
    ({ agent, count, seed }) => {
      const view = viewOf(addresses(count, seed))
      for (let turn = 0; turn < 3; turn++) {
        const nodes = Array.from({ length: count }, (_, index) => view.nodeOf(agent, turn * count + index))
        expect(new Set(nodes).size).toBe(count)
      }
    }
  )

  it.prop(
    "are where every node sees them, in whatever order it learns of nodes and asks for instances",
    { agent: AgentId, count: between(1, 40), index: between(0, 99) },
    ({ agent, count, index }) => {
      const one = viewOf(addresses(count))
      const other = viewOf(addresses(count).reverse())
      for (let lower = 0; lower < index; lower++) other.shardOf(agent, lower)
      expect(one.shardOf(agent, index)).toBe(other.shardOf(agent, index))
      expect(one.shardOf(agent, index)).toBeGreaterThan(0)
      expect(one.shardOf(agent, index)).toBeLessThanOrEqual(shardCount)
      expect(one.shardOf(agent, 0)).toBe(viewOf(addresses(1)).shardOf(agent, 0))
    }
  )
})

describe("600 agents of 4 instances", () => {
  // docs/nodes.md has the figures.
  it.each([
    { nodes: 2, least: 0.95, most: 1.05 },
    { nodes: 3, least: 0.9, most: 1.1 },
    { nodes: 4, least: 0.95, most: 1.05 },
    { nodes: 8, least: 0.75, most: 1.25 }
  ])("are shared evenly by $nodes nodes: $least to $most of the mean", ({ least, most, nodes }) => {
    for (const seed of seeds) {
      const view = viewOf(addresses(nodes, seed))
      const held = new Map<string, number>()
      for (const agent of probes) {
        for (let index = 0; index < 4; index++) {
          const node = view.nodeOf(agent, index) ?? ""
          held.set(node, (held.get(node) ?? 0) + 1)
        }
      }
      const even = (probes.length * 4) / nodes
      expect([held.size, Math.min(...held.values()) / even > least, Math.max(...held.values()) / even < most]).toEqual([
        nodes,
        true,
        true
      ])
    }
  })

  const moved = (from: number, to: number, instances: number) =>
    mean(
      seeds.map((seed) => {
        const [before, after] = [viewOf(addresses(from, seed)), viewOf(addresses(to, seed))]
        const indices = Array.from({ length: instances }, (_, index) => index)
        return mean(
          probes.flatMap((agent) =>
            indices.map((index) => (before.nodeOf(agent, index) === after.nodeOf(agent, index) ? 0 : 1))
          )
        )
      })
    )

  it.each([
    { from: 2, to: 3, single: 0.4, several: 0.6 },
    { from: 3, to: 4, single: 0.33, several: 0.52 },
    { from: 4, to: 5, single: 0.28, several: 0.43 },
    { from: 8, to: 9, single: 0.2, several: 0.25 },
    { from: 4, to: 3, single: 0.33, several: 0.52 },
    { from: 3, to: 2, single: 0.4, several: 0.6 }
  ])("move little from $from nodes to $to: at most $single of only instances, $several of all", (change) => {
    expect(moved(change.from, change.to, 1)).toBeLessThan(change.single)
    expect(moved(change.from, change.to, 4)).toBeLessThan(change.several)
  })
})
