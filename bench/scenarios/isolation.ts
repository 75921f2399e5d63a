/**
 * What it costs that a behaviour runs in processes of its own: the same one both ways, in turn. Starts are of agents that have never run, one
 * after another; single attempts come one at a time, from the call until the end is known; rates are of an agent with four processes,
 * and of one with four slots in the node.
 */
import { fileURLToPath } from "node:url"
import type { Client } from "../Client.ts"
import { type Figures, hundredths, median, perSecond } from "../Figures.ts"
import { type Cost, cpuMicros, memoryMegabytes } from "../ProcessTree.ts"
import { onPlatform, type Scenario } from "./Bench.ts"

const ways = ["isolated", "in-node"] as const
type Way = (typeof ways)[number]

/** Agents of each way that are started. */
const starts = 10
/** Single attempts of each way. */
const singles = 200
/** Slots of an agent, and processes of an isolated one: the most that one instance may have unless told. */
const slots = 4
/** Batches of each way, in turn. */
const batches = 10

const behaviours = ["nothing", "nothingInNode"].map((name) =>
  fileURLToPath(new URL(`../behaviours/${name}.ts`, import.meta.url))
)

const makeAgent = (client: Client, way: Way, name: string, concurrency: number) =>
  client.request("POST", "/api/v1/agents", {
    ...{ name, type: `nothing-${way}`, configuration: { max_concurrent_tasks: concurrency } }
  })

/** One attempt: how long it took in milliseconds, and the process that made it. */
const attempt = async (client: Client, agent: string, waitMillis = 0) => {
  const began = performance.now()
  const { id } = await client.request("POST", "/api/v1/tasks", { agent, payload: { wait_ms: waitMillis } })
  const { result } = await client.request("GET", `/api/v1/tasks/${id}?wait=30s`)
  return { millis: performance.now() - began, pid: Number(result.data) }
}

const eachWay = <A>(make: (way: Way) => A): Record<Way, A> => ({
  isolated: make("isolated"),
  "in-node": make("in-node")
})

export const isolation: Scenario = {
  name: "isolation",
  run: ({ tasks }) =>
    onPlatform(
      async ({ client, platform }) => {
        const first = eachWay((): Array<number> => [])
        const second = eachWay((): Array<number> => [])
        for (let n = 0; n < starts; n++) {
          for (const way of ways) {
            const agent = `start-${way}-${n}`
            await makeAgent(client, way, agent, 1)
            first[way].push((await attempt(client, agent)).millis)
            second[way].push((await attempt(client, agent)).millis)
          }
        }

        for (const way of ways) await makeAgent(client, way, way, slots)
        const warm = await processesOf(client)
        const memories = warm.map((pid) => [
          memoryMegabytes({ pid, tree: false }),
          memoryMegabytes({ pid, tree: true })
        ])
        const single = eachWay((): Array<number> => [])
        for (let n = 0; n < singles; n++) {
          for (const way of ways) single[way].push((await attempt(client, way)).millis)
        }

        const rate = eachWay((): Array<number> => [])
        const micros = eachWay((): Array<number> => [])
        const size = Math.max(100, Math.min(500, Math.ceil(tasks / 60)))
        const done = { ...eachWay(() => singles), isolated: singles + slots }
        for (let n = 0; n < batches; n++) {
          for (const way of ways) {
            const pids = way === "isolated" ? await processesOf(client) : []
            if (way === "isolated") done[way] += slots
            const costs: ReadonlyArray<Cost> = [platform.pid, ...pids].map((pid) => ({
              name: `${pid}`,
              pid,
              tree: false
            }))
            const cpu = () => Object.values(cpuMicros(costs)).reduce((sum, micros) => sum + micros, 0)
            const before = cpu()
            const began = performance.now()
            const batch = Array.from({ length: size }, () => ({ agent: way, payload: {} }))
            const { accepted } = await client.request("POST", "/api/v1/tasks/batch", batch)
            if (accepted !== size) throw new Error(`only ${accepted} of a batch of ${size} were accepted`)
            done[way] += size
            await ended(client, way, done[way])
            rate[way].push(perSecond(size, performance.now() - began))
            micros[way].push((cpu() - before) / size)
          }
        }
        const figures: Figures = {
          first_isolated_ms: median(first.isolated),
          first_in_node_ms: median(first["in-node"]),
          second_isolated_ms: median(second.isolated),
          second_in_node_ms: median(second["in-node"]),
          start_ms: hundredths(
            median(first.isolated) - median(second.isolated) - (median(first["in-node"]) - median(second["in-node"]))
          ),
          single_isolated_ms: median(single.isolated),
          single_in_node_ms: median(single["in-node"]),
          done_isolated_per_s: median(rate.isolated),
          done_in_node_per_s: median(rate["in-node"]),
          cpu_us_isolated: Math.round(median(micros.isolated)),
          cpu_us_in_node: Math.round(median(micros["in-node"])),
          processes: warm.length,
          rss_process_mb: median(memories.map(([rss = Number.NaN]) => rss)),
          pss_process_mb: median(memories.map(([, pss = Number.NaN]) => pss))
        }
        return figures
      },
      { environment: { DATAMCP_BEHAVIOURS: behaviours.join(",") } }
    )
}

/** The processes of the isolated agent, all of them at work for a moment; those that were idle for long have been ended. */
const processesOf = async (client: Client): Promise<ReadonlyArray<number>> => {
  const made = await Promise.all(Array.from({ length: slots }, () => attempt(client, "isolated", 1_000)))
  return [...new Set(made.map(({ pid }) => pid))]
}

/** Waits until an agent has completed so many tasks, looking often: a batch takes less than a second. */
const ended = async (client: Client, agent: string, target: number): Promise<void> => {
  const end = performance.now() + 60_000
  while ((await client.request("GET", `/api/v1/agents/${agent}/metrics`)).completed < target) {
    if (performance.now() > end) throw new Error(`${agent} had not completed ${target} tasks after a minute`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
