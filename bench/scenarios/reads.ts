/** Reads over HTTP, 64 connections: one task of 20,000 by id, a page of 50, and a page of those with one label. */
import { type Figures, percentiles, perSecond } from "../Figures.ts"
import { httpLoad } from "../HttpLoad.ts"
import { cpuMicros } from "../ProcessTree.ts"
import { type Bench, makeAgent, onPlatform, type Scenario, submitBatches, untilCompleted } from "./Bench.ts"

const agent = "reads"
const stored = 20_000

const load = async (bench: Bench, name: string, seconds: number, path: (n: number) => string): Promise<Figures> => {
  const before = cpuMicros(bench.costs)
  const { elapsedMillis, errors, millis } = await httpLoad({
    url: bench.platform.url,
    key: bench.platform.key,
    connections: 64,
    seconds,
    request: (n) => ({ method: "GET", path: path(n) }),
    status: 200
  })
  const after = cpuMicros(bench.costs)
  const cpu = (["node", "postgres"] as const).map((process) => [
    `${name}_cpu_us_${process}`,
    Math.round(((after[process] ?? Number.NaN) - (before[process] ?? 0)) / millis.length)
  ])
  return {
    [`${name}_per_s`]: perSecond(millis.length, elapsedMillis),
    ...percentiles(`${name}_`, millis),
    [`${name}_errors`]: errors,
    ...Object.fromEntries(cpu)
  }
}

export const reads: Scenario = {
  name: "reads",
  run: ({ seconds, warm }) =>
    onPlatform(async (bench) => {
      const { client } = bench
      await makeAgent(client, agent)
      await submitBatches(client, stored, () => agent)
      await untilCompleted(client, [agent], stored)
      const ids: Array<string> = []
      for (let cursor = ""; ids.length < 2_000; ) {
        const page = await client.request("GET", `/api/v1/tasks?limit=500${cursor}`)
        ids.push(...page.data.map(({ id }: { readonly id: string }) => id))
        if (page.next_cursor === null) break
        cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`
      }
      const byId = (n: number) => `/api/v1/tasks/${ids[(n * 7919) % ids.length]}`
      await load(bench, "warm", Math.max(1, warm), byId)
      return {
        ...(await load(bench, "task", seconds, byId)),
        ...(await load(bench, "page_of_50", seconds, () => "/api/v1/tasks?limit=50")),
        ...(await load(bench, "completed_page_of_50", seconds, () => "/api/v1/tasks?limit=50&status=completed"))
      }
    })
}
