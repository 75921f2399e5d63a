/**
 * `npm run pipeline`: sets the nightly pipeline up on the platform that runs here, runs its schedule now, approves (or,
 * with `-- --reject`, rejects) the report, and shows what was published and what the webhook has told.
 *
 * The platform must be allowed to tell this machine: DATAMCP_WEBHOOKS_ALLOW_PRIVATE=127.0.0.1 npm start
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Outside, openOutside } from "./Outside.ts"
import { type Ask, askOf, awaitEnd, awaitQuestion, decide, resultOf, runNow, setUp } from "./Platform.ts"

const decision = process.argv.includes("--reject") ? "reject" : "approve"
const folder = process.env["DATAMCP_DATA"] || ".datamcp"
const started = (file: string) => readFileSync(join(folder, file), "utf8").trim()

/** The platform, with the pipeline set up on it. */
const prepare = async (outside: Outside): Promise<Ask> => {
  try {
    const url = process.env["DATAMCP_URL"] || JSON.parse(started("connection.json")).url
    const ask = askOf({ url, key: process.env["DATAMCP_API_KEY"] || started("admin.key") })
    outside.secret = await setUp(ask, outside)
    return ask
  } catch (error) {
    throw new Error(`${said(error)}\nIt needs a platform here: DATAMCP_WEBHOOKS_ALLOW_PRIVATE=127.0.0.1 npm start`)
  }
}

const said = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** One night: the graph runs until somebody is asked, is decided upon, and ends. */
const runOnce = async (ask: Ask) => {
  const graphId = await runNow(ask)
  const { message, taskId } = await awaitQuestion(ask, graphId)
  console.log(`Graph ${graphId} asks: ${message}`)
  await decide(ask, taskId, decision, "looked at it")
  const graph = await awaitEnd(ask, graphId)
  for (const { error, key, map, status } of graph.tasks) {
    const elements = map === undefined ? "" : `, ${map.total} elements`
    console.log(`  ${key.padEnd(8)} ${status}${elements}${error === null ? "" : `: ${error.message}`}`)
  }
  const { report } = await resultOf(ask, graph, "report")
  console.log(`\n${report.markdown}`)
}

const showOutside = async ({ published, told }: Outside) => {
  // It is told after the end of the task was recorded.
  for (let patience = 100; decision === "approve" && told.length === 0 && patience > 0; patience--) await sleep(100)
  console.log(`Published: ${published.size}`)
  for (const { approved_by, report } of published.values()) console.log(`  ${report.title}, approved by ${approved_by}`)
  console.log(`Told by the webhook: ${told.length}`)
  for (const { body, genuine, headers } of told) {
    const { data, type } = JSON.parse(body)
    const signature = genuine ? "signature verified" : "SIGNATURE WRONG"
    console.log(`  ${type} of ${data.task.name}, ${String(headers["webhook-id"])}, ${signature}`)
  }
  const expected = decision === "approve" ? 1 : 0
  if (published.size !== expected || told.filter(({ genuine }) => genuine).length !== expected) {
    throw new Error(`There should be ${expected} of each.`)
  }
}

const outside = await openOutside()
try {
  const ask = await prepare(outside)
  try {
    const { next_run_at: next } = await ask("GET", "/schedules/nightly")
    console.log(`The schedule nightly is due next at ${next}. Running it now.`)
    await runOnce(ask)
    await showOutside(outside)
  } finally {
    // The files are served for as long as this program runs: the night would find none.
    await ask("POST", "/schedules/nightly/pause")
  }
} catch (error) {
  console.error(said(error))
  process.exitCode = 1
} finally {
  outside.close()
}
