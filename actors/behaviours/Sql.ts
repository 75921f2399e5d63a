/**
 * The behaviour `sql`: a query by DuckDB over files, artifacts and results of other tasks; its rows as the task's result,
 * as an artifact, or as a report.
 *
 * What a task brings is loaded into tables of a database of its own, in a process of its own, with a folder of its own,
 * all of which are gone when the attempt ends. The query reaches these tables and nothing else.
 */
import { Duration, Effect, FileSystem, type Schema, Stream } from "effect"
import * as Limits from "../../protocol/Limits.ts"
import { type Attempt, type Behaviour, BehaviourFailure } from "../Behaviour.ts"
import { networkPolicy } from "./AddressGuard.ts"
import { parametersOf, payloadDecoder, settingsDecoder } from "./BehaviourInput.ts"
import * as GuardedFetch from "./GuardedFetch.ts"
import { saveArtifact } from "./SavedArtifact.ts"
import * as Engines from "./sql/Engines.ts"
import type { Job, JobResult, SaveFormat } from "./sql/Job.ts"
import { markdown } from "./sql/Report.ts"
import { bringInputs, formatByName, type LoadedInput } from "./sql/SqlInputs.ts"
import { SqlPayload, SqlSettings } from "./sql/SqlPayload.ts"
import { diskFailure, sweepFolders, taskFolder, withinFolder } from "./sql/TaskFolder.ts"

/** Rows shown of a query whose rows are kept as an artifact. */
const previewRows = 20
const mib = 1024 * 1024
/** What a query may write besides what it spills and saves. */
const diskSpareMib = 32

const decodePayload = payloadDecoder(SqlPayload)
const decodeSettings = settingsDecoder(SqlSettings)

interface Opened {
  readonly settings: SqlSettings
  readonly fetch: GuardedFetch.GuardedFetch
  readonly engines: Engines.Engines
}

const perform = Effect.fnUntraced(function* (opened: Opened, attempt: Attempt) {
  const payload = yield* decodePayload(attempt.payload)
  const limits = yield* limitsOf(payload, opened.settings)
  const folder = yield* taskFolder
  return yield* withinFolder(
    folder,
    limits.inputBytesMax + (limits.spillMib + diskSpareMib) * mib + Limits.artifactBytesMax,
    performIn(folder, opened, attempt, payload, limits)
  )
})

const performIn = Effect.fnUntraced(function* (
  folder: string,
  { engines, fetch, settings }: Opened,
  attempt: Attempt,
  payload: SqlPayload,
  { inputBytesMax, rowsMax, spillMib }: TaskLimits
) {
  const steps = stepsOf(attempt, payload)
  const inputs = yield* bringInputs(
    payload.inputs ?? {},
    {
      fetch,
      namespace: attempt.namespace,
      folder,
      bytesMax: inputBytesMax,
      fetchTimeout: Duration.millis(settings.fetch_timeout_ms ?? 60_000)
    },
    (table, bring) => Effect.tap(Effect.andThen(steps.begin(`fetch ${table}`), bring), steps.complete)
  )
  const saved = payload.save_as === undefined ? undefined : saveTarget(folder, payload.save_as)
  const job: Job = {
    folder,
    memoryMib: settings.memory_mib ?? 512,
    spillMib,
    threads: settings.threads ?? 2,
    inputs: inputs.map(({ job }) => job),
    statements: payload.statements ?? [],
    query: payload.query,
    sections: (payload.report?.sections ?? []).map(({ query }) => query),
    save: saved,
    profile: payload.profile ?? false,
    rowsMax,
    previewRows: Math.min(rowsMax, previewRows),
    resultBytesMax: Limits.resultBytesMax
  }
  const result = yield* engines.run(job, steps.next)
  const artifact = saved === undefined ? undefined : yield* keep(attempt, payload.save_as ?? "", saved)
  return yield* resultOf(payload, inputs, result, artifact)
})

interface TaskLimits {
  readonly rowsMax: number
  readonly inputBytesMax: number
  readonly spillMib: number
}

const limitsOf = (payload: SqlPayload, settings: SqlSettings): Effect.Effect<TaskLimits, BehaviourFailure> => {
  const rowsMax = settings.max_rows ?? 1_000
  const asked = payload.max_rows ?? rowsMax
  return asked > rowsMax
    ? refused(
        "payload_invalid",
        `the payload is refused: max_rows: must be at most ${rowsMax}, the agent's settings.max_rows`
      )
    : Effect.succeed({
        rowsMax: asked,
        inputBytesMax: (settings.input_mib ?? 256) * mib,
        spillMib: settings.spill_mib ?? 1_024
      })
}

/** Progress counts inputs twice: fetched and loaded. */
const stepsOf = (attempt: Attempt, payload: SqlPayload) => {
  const inputs = Object.keys(payload.inputs ?? {}).length
  const total =
    2 * inputs +
    (payload.statements?.length ?? 0) +
    (payload.query === undefined ? 0 : 1) +
    (payload.save_as === undefined ? 0 : 1) +
    (payload.report?.sections.length ?? 0)
  let completed = 0
  let current: string | undefined
  const begin = (step: string) => {
    current = step
    return attempt.progress({
      percentage: Math.floor((completed / total) * 100),
      current_step: step,
      completed_steps: completed,
      total_steps: total
    })
  }
  return {
    begin,
    complete: () =>
      Effect.sync(() => {
        completed++
        current = undefined
      }),
    /** The step before it is complete. */
    next: (step: string) => {
      if (current !== undefined) completed++
      return begin(step)
    }
  }
}

const contentTypes: Readonly<Record<SaveFormat, string>> = {
  csv: "text/csv; charset=utf-8",
  json: "application/json",
  ndjson: "application/x-ndjson",
  parquet: "application/vnd.apache.parquet"
}

const saveTarget = (folder: string, name: string) => {
  const format = formatByName(name) ?? "csv"
  return { file: `${folder}/saved.${format}`, format }
}

const keep = Effect.fnUntraced(function* (
  attempt: Attempt,
  name: string,
  saved: { readonly file: string; readonly format: SaveFormat }
) {
  const files = yield* FileSystem.FileSystem
  return yield* saveArtifact({
    namespace: attempt.namespace,
    name,
    contentType: contentTypes[saved.format],
    content: Stream.mapError(files.stream(saved.file), ({ message }) => diskFailure(message))
  })
})

const resultOf = Effect.fnUntraced(function* (
  payload: SqlPayload,
  inputs: ReadonlyArray<LoadedInput>,
  { checks, result, sections }: JobResult,
  artifact: Schema.Json | undefined
) {
  const data: Record<string, Schema.Json> = {
    checks: Object.fromEntries(
      checks.map(({ columns, rows, table }, index) => [table, { rows, bytes: inputs[index]?.bytes ?? 0, columns }])
    )
  }
  if (result !== undefined) {
    data["columns"] = result.columns
    data["rows"] = result.rows
    data["row_count"] = result.rowCount
    if (artifact !== undefined) {
      data["truncated"] = result.rows.length < result.rowCount
      data["artifact"] = artifact
    }
  }
  if (payload.report !== undefined) {
    const { title } = payload.report
    const reported = payload.report.sections.flatMap(({ heading, text }, index) => {
      const found = sections[index]
      return found === undefined ? [] : [{ heading, text, ...found }]
    })
    data["report"] = {
      title,
      markdown: markdown(title, reported),
      sections: reported.map(({ columns, heading, rows }) => ({ heading, columns, rows }))
    }
  }
  const bytes = Buffer.byteLength(JSON.stringify(data))
  return bytes <= Limits.resultBytesMax
    ? data
    : yield* refused(
        "result_too_large",
        `the result has ${bytes} bytes; at most ${Limits.resultBytesMax} fit. Use LIMIT or fewer columns and sections, or save_as to keep all rows as an artifact.`
      )
})

const refused = (code: string, message: string) =>
  Effect.fail(new BehaviourFailure({ code, message, retryable: false }))

export const sql: Behaviour = {
  type: "sql",
  description: "Queries files, artifacts and results of other tasks with DuckDB, each task in a database of its own.",
  capabilities: [
    {
      name: "sql.query",
      version: "1",
      description:
        "Returns {columns, rows, row_count, checks} with the rows of the query, the artifact that save_as asks for, and the report as Markdown and JSON.",
      parameters: parametersOf(SqlPayload)
    }
  ],
  check: decodeSettings,
  open: Effect.fnUntraced(function* (given) {
    const settings = yield* decodeSettings(given)
    yield* sweepFolders
    const opened: Opened = {
      settings,
      fetch: yield* GuardedFetch.open(networkPolicy(settings)),
      engines: yield* Engines.open
    }
    return (attempt) => perform(opened, attempt)
  })
}
