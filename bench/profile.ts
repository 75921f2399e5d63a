/**
 * `node bench/profile.ts [bulk|single|single-http|latency-200|latency-1000|rules-plain|rules-roomy|rules-tight]`: where the time of a task goes.
 *
 * Runs one scenario on a node under a sampling profiler, on a Postgres with pg_stat_statements, and prints as text: CPU per task
 * of every process, the node's functions, Postgres's statements and write-ahead log. The profiler costs the node some percent:
 * rates are told to relate the rest to, not to be compared. `--save FILE` keeps the profile for a flame graph (Chrome, speedscope).
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { type Client, makeClient } from "./Client.ts"
import { startOn } from "./datamcp.ts"
import { describeMachine } from "./Machine.ts"
import { startPlatform } from "./Platform.ts"
import { attachProfiler, profileText } from "./profiling/CpuProfile.ts"
import { beginPostgresCost, statisticsSettings } from "./profiling/PostgresCost.ts"
import { type Measured, sameWork } from "./sameWork.ts"
import * as Rules from "./scenarios/rules.ts"
import { startPostgres } from "./servers/Postgres.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    tasks: { type: "string", default: "30000" },
    seconds: { type: "string", default: "10" },
    warm: { type: "string", default: "5" },
    top: { type: "string", default: "30" },
    save: { type: "string" }
  }
})
const [scenario = "bulk"] = positionals
const tasks = Number(values.tasks)
const seconds = Number(values.seconds)

/** The work of the scenario `rules`, of one kind. */
const limited = Rules.kinds.find(({ name }) => scenario === `rules-${name}`)
const limitedBulk = async (client: Client, kind: Rules.Kind): Promise<Measured> => ({
  scenario,
  figures: { tasks, done_per_s: Math.round(await Rules.bulk(client, kind, tasks)) }
})

const run = (work: ReturnType<typeof sameWork>, client: Client): Promise<Measured> => {
  if (limited !== undefined) return limitedBulk(client, limited)
  switch (scenario) {
    case "bulk":
      return work.bulk(tasks)
    case "single":
      return work.single("nats", tasks)
    case "single-http":
      return work.single("http", tasks)
    case "latency-200":
      return work.latency(200, seconds)
    case "latency-1000":
      return work.latency(1_000, seconds)
    default:
      console.error(`there is no scenario ${scenario} to profile`)
      return process.exit(2)
  }
}

const machine = describeMachine()
const postgres = await startPostgres(statisticsSettings)
try {
  const platform = await startPlatform({ environment: { DATABASE_URL: postgres.url }, node: ["--inspect=127.0.0.1:0"] })
  const inspected = platform.output()
  const running = await startOn(platform)
  try {
    const costs = [...running.costs, { name: "postgres", pid: postgres.pid, tree: true }]
    const work = sameWork({ ...running, costs })
    const profiler = await attachProfiler(inspected)
    await work.warmUp(Number(values.warm))
    const client = await makeClient(platform)
    if (limited !== undefined) {
      await Rules.define(client)
      await Rules.bulk(client, limited, tasks / 2)
    }
    const cost = await beginPostgresCost(postgres.url)
    await profiler.start()
    const { figures } = await run(work, client)
    const profile = await profiler.stop()
    const done = figures["tasks"] ?? tasks
    const inPostgres = await cost.text(done)
    profiler.close()
    await client.close()
    console.log(
      [
        `# ${scenario}, ${done} tasks, ${new Date().toISOString().slice(0, 16)}, load before ${machine.load_before.toFixed(2)}`,
        JSON.stringify(figures),
        profileText(profile, done, Number(values.top)),
        inPostgres
      ].join("\n")
    )
    if (values.save !== undefined) writeFileSync(values.save, JSON.stringify(profile))
  } finally {
    await running.stop()
  }
} finally {
  await postgres.stop()
}
