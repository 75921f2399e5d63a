/**
 * One job from its first table to its last row, in an engine process. It knows neither tasks nor the network: its inputs
 * lie in the job's folder, and what it makes stays there or goes into the answer.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import { duck, failure, open, query, runTask, text } from "./Duck.ts"
import { type Budget, readRows } from "./DuckRows.ts"
import * as DuckTables from "./DuckTables.ts"
import type { Job, JobFailure, JobResult, SaveFormat } from "./Job.ts"

/** `onStep` is told what begins. Messages of failures do not tell where the job's folder lies. */
export const runJob = (job: Job, onStep: (step: string) => void): Effect.Effect<JobResult, JobFailure> =>
  Effect.gen(function* () {
    const connection = yield* open(job)
    const budget: Budget = { bytesMax: job.resultBytesMax, bytesLeft: job.resultBytesMax }
    const begin = (step: string) => Effect.sync(() => onStep(step))
    const checks = yield* Effect.forEach(job.inputs, (input) =>
      begin(`load ${input.table}`).pipe(
        Effect.andThen(DuckTables.load(connection, input)),
        Effect.andThen(DuckTables.check(connection, input, job.profile))
      )
    )
    for (const [index, statement] of job.statements.entries()) {
      yield* begin(`statement ${index + 1}`)
      yield* runTask(connection, statement, `statements.${index}`, "run")
    }
    const result = job.query === undefined ? undefined : yield* mainQuery(connection, job, job.query, budget, begin)
    const sections = yield* Effect.forEach(job.sections, (section, index) =>
      begin(`report section ${index + 1}`).pipe(
        Effect.andThen(runTask(connection, section, `report.sections.${index}.query`, "stream")),
        Effect.flatMap((found) =>
          readRows(found, { rowsMax: job.rowsMax, budget, what: `report.sections.${index}.query` })
        )
      )
    )
    return { checks, result, sections }
  }).pipe(
    Effect.scoped,
    Effect.mapError(({ code, message }) =>
      failure(code, message.replaceAll(`${job.folder}/`, "").replaceAll(job.folder, ""))
    )
  )

const mainQuery = Effect.fnUntraced(function* (
  connection: DuckDBConnection,
  job: Job,
  sql: string,
  budget: Budget,
  begin: (step: string) => Effect.Effect<void>
) {
  yield* begin("query")
  if (job.save === undefined) {
    const found = yield* readRows(yield* runTask(connection, sql, "query", "stream"), {
      rowsMax: job.rowsMax,
      budget,
      what: "query"
    })
    return { ...found, rowCount: found.rows.length }
  }
  const statements = yield* duck(() => connection.extractStatements(sql))
  if (statements.count !== 1) {
    return yield* Effect.fail(
      failure("sql_error", "query: with save_as it must be one statement; others go into statements")
    )
  }
  const asked = sql.replace(/[;\s]+$/u, "")
  yield* Effect.asVoid(runTask(connection, `create temp table ${saved} as (\n${asked}\n)`, "query", "run"))
  yield* begin("save")
  const { file, format } = job.save
  yield* query(connection, `copy ${saved} to ${text(file)} (${copyOptions[format]})`)
  const [[rowCount] = []] = yield* query(connection, `select count(*) from ${saved}`)
  const preview = yield* runTask(connection, `select * from ${saved} limit ${job.previewRows}`, "query", "stream")
  const found = yield* readRows(preview, { rowsMax: job.previewRows, budget, what: "query" })
  return { ...found, rowCount: Number(rowCount) }
})

/** No table of a task can have this name: those of inputs are shorter. */
const saved = `"the result of the query, as it is saved to the file that save_as names"`

const copyOptions: Readonly<Record<SaveFormat, string>> = {
  csv: "format csv, header true",
  json: "format json, array true",
  ndjson: "format json",
  parquet: "format parquet, compression zstd"
}
