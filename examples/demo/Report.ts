/**
 * What the finished graph says: its table, and the report that its last task made, as files.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import type { Graph, Task } from "../../protocol/Task.ts"
import { Client } from "../../src/cli/Client.ts"
import { inOrder } from "../../src/cli/GraphView.ts"
import { bytes, duration, type Ink, table } from "../../src/cli/Ink.ts"

const Column = Schema.Struct({ name: Schema.String, type: Schema.String })
const Rows = Schema.Array(Schema.Record(Schema.String, Schema.Json))

/** The result of the task `report`. */
const ReportResult = Schema.Struct({
  report: Schema.Struct({
    title: Schema.String,
    markdown: Schema.String,
    sections: Schema.Array(Schema.Struct({ heading: Schema.String, columns: Schema.Array(Column), rows: Rows }))
  })
})
export type Report = (typeof ReportResult.Type)["report"]

/** The report from the last task's result. Fails with `SchemaError` when that is none. */
export const reportFrom = (task: Task) =>
  Effect.map(Schema.decodeUnknownEffect(ReportResult)(task.result?.data), ({ report }) => report)

/** The report as `report.md` and `report.json` in `folder`; gives their paths. */
export const writeReport = (report: Report, folder: string) =>
  Effect.sync(() => {
    mkdirSync(folder, { recursive: true })
    const files = { markdown: join(folder, "report.md"), json: join(folder, "report.json") }
    writeFileSync(files.markdown, report.markdown)
    writeFileSync(files.json, `${JSON.stringify({ title: report.title, sections: report.sections }, null, 2)}\n`)
    return files
  })

/** Every task of the graph with its result, parents first. */
export const resultsOf = (graph: Graph) =>
  Effect.forEach(
    inOrder(graph),
    ({ id }) => Effect.flatMap(Client, (client) => client.tasks.get({ params: { id }, query: {} })),
    { concurrency: 4 }
  )

/** Rows of a query, or of the inputs that were checked; of a fetch, its bytes. */
const Counts = Schema.Struct({
  row_count: Schema.optionalKey(Schema.Int),
  size_bytes: Schema.optionalKey(Schema.Int),
  checks: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ rows: Schema.Int }))),
  report: Schema.optionalKey(Schema.Struct({ sections: Schema.Array(Schema.Struct({ rows: Rows })) }))
})
const decodeCounts = Schema.decodeUnknownOption(Counts)

const rowsOf = (task: Task): string => {
  const counts = decodeCounts(task.result?.data)
  if (counts._tag === "None") return ""
  const { checks, report, row_count, size_bytes } = counts.value
  if (size_bytes !== undefined) return bytes(size_bytes)
  const sum = (all: ReadonlyArray<number>) => all.reduce((total, one) => total + one, 0)
  if (report !== undefined) return String(sum(report.sections.map(({ rows }) => rows.length)))
  return String(row_count ?? sum(Object.values(checks ?? {}).map(({ rows }) => rows)))
}

/** Task, agent, attempt, time, rows. */
export const outcome = (tasks: ReadonlyArray<Task>, agentNames: ReadonlyMap<string, string>, ink: Ink): string =>
  table(
    ["TASK", "AGENT", "ATTEMPT", "TIME", "ROWS"],
    tasks.map((task) => [
      task.graph_key ?? task.name,
      agentNames.get(task.agent_id ?? "") ?? "",
      task.attempt > 1 ? ink.yellow(String(task.attempt)) : String(task.attempt),
      task.result?.execution_time_ms === undefined ? "" : duration(task.result.execution_time_ms),
      rowsOf(task)
    ]),
    ink
  )
