/**
 * Graphs over HTTP: a fan-out of 1 -> 1,000 -> 1 and a chain of 100, from the request until the last task is recorded as
 * completed, as a client hears it. Then fan-outs in parallel, for tasks per second of work with dependencies, a map over
 * 1,000 elements, and a chain as long as a graph may be.
 */
import type { Client } from "../Client.ts"
import { type Figures, perSecond, quantile } from "../Figures.ts"
import { makeAgent, onPlatform, type Scenario, taskFor } from "./Bench.ts"

const agent = "graphs"
const width = 1_000
const length = 100

type Tasks = Readonly<Record<string, object>>

const fanOut: Tasks = {
  first: taskFor(agent),
  ...Object.fromEntries(
    Array.from({ length: width }, (_, n) => [`middle-${n}`, { ...taskFor(agent, n), dependencies: ["first"] }])
  ),
  last: { ...taskFor(agent), dependencies: Array.from({ length: width }, (_, n) => `middle-${n}`) }
}

const chain: Tasks = Object.fromEntries(
  Array.from({ length }, (_, n) => [
    n === length - 1 ? "last" : `step-${n}`,
    { ...taskFor(agent, n), ...(n > 0 && { dependencies: [`step-${n - 1}`] }) }
  ])
)

const elements: Tasks = {
  list: { ...taskFor(agent), payload: { items: Array.from({ length: width }, (_, n) => n) } },
  last: {
    ...taskFor(agent),
    payload: { n: { $item: "" } },
    map: { over: { $result: "list", path: "/echo/items" } },
    dependencies: ["list"]
  }
}

/** As many as a graph may have, one after the other. */
const longest = 10_000

const longChain: Tasks = Object.fromEntries(
  Array.from({ length: longest }, (_, n) => [
    n === longest - 1 ? "last" : `step-${n}`,
    { ...taskFor(agent), ...(n > 0 && { dependencies: [`step-${n - 1}`] }) }
  ])
)

const runGraph = async (client: Client, tasks: Tasks) => {
  const began = performance.now()
  const graph = await client.request("POST", "/api/v1/graphs", { tasks })
  const acceptedMillis = performance.now() - began
  for (let tries = 0; tries < 10; tries++) {
    const last = await client.request("GET", `/api/v1/tasks/${graph.tasks.last}?wait=30s`)
    if (last.status === "completed") return { acceptedMillis, endedMillis: performance.now() - began }
    if (last.status !== "pending" && last.status !== "queued" && last.status !== "running")
      throw new Error(`the last task of a graph ended as ${last.status}`)
  }
  throw new Error("a graph did not end within 300 s")
}

const repeat = async (client: Client, name: string, tasks: Tasks, times: number): Promise<Figures> => {
  const accepted: Array<number> = []
  const ended: Array<number> = []
  for (let time = 0; time < times; time++) {
    const run = await runGraph(client, tasks)
    accepted.push(run.acceptedMillis)
    ended.push(run.endedMillis)
  }
  return {
    [`${name}_accept_p50_ms`]: quantile(accepted, 0.5),
    [`${name}_end_p50_ms`]: quantile(ended, 0.5),
    [`${name}_end_max_ms`]: quantile(ended, 1),
    [`${name}_tasks_per_s`]: perSecond(Object.keys(tasks).length, quantile(ended, 0.5))
  }
}

export const graphs: Scenario = {
  name: "graphs",
  run: () =>
    onPlatform(async ({ client }) => {
      await makeAgent(client, agent)
      await repeat(client, "warm", fanOut, 3)
      await repeat(client, "warm", chain, 2)
      const alone = await repeat(client, "fan_out_1000", fanOut, 5)
      const chained = await repeat(client, "chain_100", chain, 5)
      const began = performance.now()
      await Promise.all(Array.from({ length: 8 }, () => runGraph(client, fanOut)))
      const parallel = perSecond(8 * (width + 2), performance.now() - began)
      const mapped = await repeat(client, "map_1000", elements, 5)
      const long = await repeat(client, "chain_10000", longChain, 1)
      return { ...alone, ...chained, ...mapped, ...long, "8_fan_outs_tasks_per_s": parallel }
    })
}
