/**
 * Brings the inputs of a query into the job's folder: fetched through the guard, read from artifacts, or written from
 * rows that stand in the payload (such as a parent's result).
 *
 * All inputs of a task together have one limit of bytes, counted as they arrive.
 */
import { type Duration, Effect, FileSystem, Schema, Stream } from "effect"
import { ArtifactId, type Namespace } from "../../../protocol/Ids.ts"
import { artifactFailure } from "../../ArtifactFailure.ts"
import { BehaviourFailure } from "../../Behaviour.ts"
import { ArtifactStore } from "../../ports/ArtifactStore.ts"
import { urlCharactersMax } from "../AddressGuard.ts"
import type { GuardedFetch } from "../GuardedFetch.ts"
import { RequestHeaders } from "../RequestHeaders.ts"
import type { InputFormat, JobInput } from "./Job.ts"
import { diskFailure } from "./TaskFolder.ts"

const columnsMax = 2_000
const fetchedAtATime = 4

/** Name of a table, as it stands in a query without quotes. */
export const TableName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z_][A-Za-z0-9_]{0,62}$/u, {
    expected: `a table name of 1 to 63 letters, digits or "_" that does not begin with a digit`
  })
)

const ColumnName = Schema.String.check(Schema.isPattern(/^[^\p{Cc}]{1,255}$/u, { expected: "a column name" }))
const SqlType = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][^;\\\p{Cc}]{0,499}$/u, { expected: "a type such as BIGINT or DECIMAL(10,2)" })
)
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const ColumnNames = Schema.Array(ColumnName).check(Schema.isMaxLength(columnsMax))

/** One table of a query. */
export const SqlInput = Schema.Struct({
  /** Fetched by GET; private addresses only when settings.allow_private names them. */
  url: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, urlCharactersMax))),
  headers: Schema.optionalKey(RequestHeaders),
  artifact: Schema.optionalKey(ArtifactId),
  /** Objects, one per row. */
  rows: Schema.optionalKey(Schema.Array(Schema.Record(Schema.String, Schema.Json))),
  /** Columns of `rows`, as another query's result lists them: keeps their types, also when there is no row. */
  columns: Schema.optionalKey(
    Schema.Array(Schema.Struct({ name: ColumnName, type: SqlType })).check(Schema.isMaxLength(columnsMax))
  ),
  /** By the extension of the name or by the content type when absent. */
  format: Schema.optionalKey(Schema.Literals(["csv", "json", "ndjson", "parquet"])),
  /** Types of columns that reading alone would not find. */
  types: Schema.optionalKey(Schema.Record(ColumnName, SqlType)),
  csv: Schema.optionalKey(
    Schema.Struct({
      delimiter: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 4))),
      header: Schema.optionalKey(Schema.Boolean),
      null_values: Schema.optionalKey(Schema.Array(Schema.String.check(Schema.isMaxLength(255))))
    })
  ),
  /** Ends the task with `check_failed` when the input breaks a rule. */
  expect: Schema.optionalKey(
    Schema.Struct({
      rows_min: Schema.optionalKey(Count),
      rows_max: Schema.optionalKey(Count),
      not_null: Schema.optionalKey(ColumnNames),
      unique: Schema.optionalKey(ColumnNames)
    })
  )
}).check(
  Schema.makeFilter(
    ({ artifact, rows, url }) => [artifact, rows, url].filter((source) => source !== undefined).length === 1,
    { expected: "an input with exactly one of url, artifact and rows" }
  ),
  Schema.makeFilter(({ columns, rows }) => columns === undefined || rows !== undefined, {
    expected: "an input with rows when it has columns (use types for the columns of a file)"
  })
)
export type SqlInput = typeof SqlInput.Type

export interface LoadedInput {
  readonly job: JobInput
  readonly bytes: number
}

export interface InputAccess {
  readonly fetch: GuardedFetch
  readonly namespace: Namespace
  readonly folder: string
  /** Of all inputs together. */
  readonly bytesMax: number
  readonly fetchTimeout: Duration.Duration
}

/** Fails with the codes of GuardedFetch and of artifacts, `input_format`, `input_empty` and `input_too_large`. */
export const bringInputs = Effect.fnUntraced(function* (
  inputs: Readonly<Record<string, SqlInput>>,
  access: InputAccess,
  around: <E, R>(table: string, bring: Effect.Effect<LoadedInput, E, R>) => Effect.Effect<LoadedInput, E, R>
) {
  const budget = { left: access.bytesMax }
  return yield* Effect.forEach(
    Object.entries(inputs),
    ([table, input]) => around(table, Effect.mapError(bring(table, input, access, budget), located(table))),
    { concurrency: fetchedAtATime }
  )
})

/** Failures of the fetch and of the store do not know which input they are about. */
const located = (table: string) => (failure: BehaviourFailure) =>
  failure.message.startsWith(`inputs.${table}`)
    ? failure
    : new BehaviourFailure({
        code: failure.code,
        message: `inputs.${table}: ${failure.message}`,
        retryable: failure.retryable,
        ...(failure.retryAfterMillis !== undefined && { retryAfterMillis: failure.retryAfterMillis }),
        ...(failure.details !== undefined && { details: failure.details })
      })

const bring = Effect.fnUntraced(function* (
  table: string,
  input: SqlInput,
  access: InputAccess,
  budget: { left: number }
) {
  const store = yield* ArtifactStore
  const toFile = (content: Stream.Stream<Uint8Array, BehaviourFailure>, name: string, contentType: string) =>
    Effect.flatMap(formatOf(table, input.format, name, contentType), (format) =>
      Effect.map(write(`${access.folder}/${table}${extensionOf(format, name)}`, content), (written) => ({
        job: { ...jobInput(table, input, format), file: written.file },
        bytes: written.bytes
      }))
    )

  const write = Effect.fnUntraced(function* (file: string, content: Stream.Stream<Uint8Array, BehaviourFailure>) {
    const files = yield* FileSystem.FileSystem
    let bytes = 0
    yield* content.pipe(
      Stream.mapEffect((piece) => {
        bytes += piece.length
        budget.left -= piece.length
        return budget.left >= 0 ? Effect.succeed(piece) : tooLarge(table, access.bytesMax)
      }),
      Stream.run(files.sink(file)),
      Effect.catchTag("PlatformError", ({ message }) => Effect.fail(diskFailure(message)))
    )
    return { file, bytes }
  })

  if (input.url !== undefined) {
    const { url } = input
    return yield* access.fetch(
      {
        method: "GET",
        url,
        headers: Object.fromEntries(
          Object.entries(input.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value])
        ),
        body: undefined,
        bytesMax: access.bytesMax,
        timeout: access.fetchTimeout,
        accepts: (status) => status >= 200 && status < 300
      },
      (response) => toFile(response.bytes, response.url.pathname, response.contentType)
    )
  }
  if (input.artifact !== undefined) {
    const { contentType, name } = yield* Effect.mapError(store.info(access.namespace, input.artifact), artifactFailure)
    return yield* toFile(
      Stream.mapError(store.read(access.namespace, input.artifact), artifactFailure),
      name,
      contentType
    )
  }
  const rows = input.rows ?? []
  const job = jobInput(table, input, "ndjson")
  if (rows.length > 0) {
    const lines = Stream.fromIterable(rows).pipe(
      Stream.map((row) => new TextEncoder().encode(`${JSON.stringify(row)}\n`))
    )
    const written = yield* write(`${access.folder}/${table}.ndjson`, lines)
    return { job: { ...job, file: written.file }, bytes: written.bytes }
  }
  return Object.keys(job.types).length > 0
    ? { job, bytes: 0 }
    : yield* new BehaviourFailure({
        code: "input_empty",
        message: `inputs.${table}.rows: it has no rows, so that its columns are not known: give columns or types`,
        retryable: false
      })
})

const jobInput = (table: string, input: SqlInput, format: InputFormat): JobInput => ({
  table,
  file: undefined,
  format,
  types: { ...Object.fromEntries((input.columns ?? []).map(({ name, type }) => [name, type])), ...input.types },
  typesAreComplete: input.columns !== undefined,
  csv: input.csv ?? {},
  expect: input.expect ?? {}
})

const formatOf = (
  table: string,
  given: InputFormat | undefined,
  name: string,
  contentType: string
): Effect.Effect<InputFormat, BehaviourFailure> => {
  const format = given ?? formatByName(name) ?? formatsByType.get(contentType)
  return format === undefined
    ? Effect.fail(
        new BehaviourFailure({
          code: "input_format",
          message: `inputs.${table}.format: neither the name nor the content type (${contentType === "" ? "none" : contentType}) tells the format: say csv, json, ndjson or parquet`,
          retryable: false
        })
      )
    : Effect.succeed(format)
}

/** The format that the extension of a name tells; also under `.gz` and `.zst`. */
export const formatByName = (name: string): InputFormat | undefined =>
  formatsByExtension.get(
    /\.(?<extension>[a-z0-9]+)(\.(gz|zst))?$/iu.exec(name)?.groups?.["extension"]?.toLowerCase() ?? ""
  )

/** DuckDB unpacks by the extension. */
const extensionOf = (format: InputFormat, name: string) =>
  `.${format}${/\.(gz|zst)$/iu.exec(name)?.[0].toLowerCase() ?? ""}`

const formatsByExtension: ReadonlyMap<string, InputFormat> = new Map<string, InputFormat>([
  ["csv", "csv"],
  ["tsv", "csv"],
  ["json", "json"],
  ["geojson", "json"],
  ["ndjson", "ndjson"],
  ["jsonl", "ndjson"],
  ["parquet", "parquet"]
])

const formatsByType: ReadonlyMap<string, InputFormat> = new Map<string, InputFormat>([
  ["text/csv", "csv"],
  ["application/csv", "csv"],
  ["text/tab-separated-values", "csv"],
  ["application/json", "json"],
  ["application/geo+json", "json"],
  ["application/x-ndjson", "ndjson"],
  ["application/ndjson", "ndjson"],
  ["application/jsonl", "ndjson"],
  ["application/vnd.apache.parquet", "parquet"],
  ["application/parquet", "parquet"]
])

const tooLarge = (table: string, bytesMax: number) =>
  Effect.fail(
    new BehaviourFailure({
      code: "input_too_large",
      message: `inputs.${table}: the inputs have more than ${bytesMax} bytes together (settings.input_mib)`,
      retryable: false
    })
  )
