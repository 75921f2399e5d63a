/**
 * `npm run bench [-- --rounds 3 --tasks 30000 --seconds 10]`: every scenario in turn, round after round on one platform,
 * after a warm-up that is not counted. One JSON line per scenario with the median, least and most of each figure.
 */
import { arch, cpus, totalmem } from "node:os"
import { parseArgs } from "node:util"
import { makeClient } from "./Client.ts"
import { startPlatform } from "./Platform.ts"
import { bulk, latency, prepare, quantile, type Result, single } from "./scenarios.ts"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    tasks: { type: "string", default: "30000" },
    seconds: { type: "string", default: "10" }
  }
})
const rounds = Number(values.rounds)
const tasks = Number(values.tasks)
const seconds = Number(values.seconds)

const platform = await startPlatform()
try {
  const client = await makeClient(platform)
  await prepare(client)
  await bulk(client, Math.min(tasks, 10_000))
  await single(client, "http", 3_000)
  await single(client, "nats", 3_000)

  const results = new Map<string, Array<Result>>()
  for (let round = 0; round < rounds; round++) {
    for (const run of [
      () => bulk(client, tasks),
      () => single(client, "nats", Math.ceil(tasks / 2)),
      () => single(client, "http", Math.ceil(tasks / 2)),
      () => latency(client, 200, seconds)
    ]) {
      const result = await run()
      results.set(result.scenario, [...(results.get(result.scenario) ?? []), result])
      process.stderr.write(`round ${round + 1}: ${result.scenario} ${JSON.stringify(result.figures)}\n`)
    }
  }
  for (const [scenario, runs] of results) console.log(JSON.stringify(summary(scenario, runs)))
  await client.close()
} finally {
  await platform.stop()
}

function summary(scenario: string, runs: ReadonlyArray<Result>) {
  const figures: Record<string, { readonly median: number; readonly min: number; readonly max: number }> = {}
  for (const name of Object.keys(runs[0]?.figures ?? {})) {
    const samples = runs.map((run) => run.figures[name] ?? Number.NaN)
    figures[name] = { median: quantile(samples, 0.5), min: Math.min(...samples), max: Math.max(...samples) }
  }
  return {
    system: "datamcp",
    scenario,
    unit: runs[0]?.unit,
    rounds: runs.length,
    tasks,
    figures,
    fsync: "on (Postgres synchronous_commit=on)",
    node: process.version,
    machine: `${cpus().length} x ${cpus()[0]?.model ?? arch()}, ${Math.round(totalmem() / 2 ** 30)} GiB`
  }
}
