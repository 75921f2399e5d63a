/**
 * Makes JSON of what DuckDB answers, exact and bounded.
 *
 *   integers of any width    numbers up to 2^53 - 1, beyond it strings of digits
 *   DECIMAL                  strings of digits: "1.10"
 *   FLOAT, DOUBLE            numbers; "NaN", "Infinity", "-Infinity"
 *   DATE, TIME               ISO 8601
 *   TIMESTAMP                ISO 8601 without a zone: it has none; with one, in UTC: "2020-01-01T00:00:00Z"
 *   JSON                     the JSON value
 *   BLOB                     base64
 *   LIST, STRUCT, MAP        arrays, objects, arrays of {key, value}
 */
import {
  DuckDBBlobValue,
  type DuckDBDataChunk,
  type DuckDBResult,
  DuckDBTypeId,
  type DuckDBValueConverter,
  type Json,
  JsonDuckDBValueConverter
} from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { storable } from "../Storable.ts"
import { duck, failure } from "./Duck.ts"
import type { Column, JobFailure, Rows } from "./Job.ts"

/** Bytes of JSON that all rows of a job may still take. */
export interface Budget {
  readonly bytesMax: number
  bytesLeft: number
}

/** Reads a result as it comes, and no further than its limits allow. */
export const readRows = Effect.fnUntraced(function* (
  result: DuckDBResult,
  limits: { readonly rowsMax: number; readonly budget: Budget; readonly what: string }
) {
  const { budget, rowsMax, what } = limits
  const columns = yield* columnsOf(result, what)
  const names = columns.map(({ name }) => name)
  // Those of the chunks do not tell JSON from text.
  const types = result.columnTypes()
  const rows: Array<Record<string, Json>> = []
  for (let chunk = yield* nextOf(result); chunk !== undefined; chunk = yield* nextOf(result)) {
    for (let index = 0; index < chunk.rowCount; index++) {
      if (rows.length === rowsMax) {
        return yield* Effect.fail(
          failure(
            "rows_too_many",
            `${what}: it has more than ${rowsMax} rows (max_rows). Use LIMIT, or save_as to keep all of them as an artifact.`
          )
        )
      }
      const values = chunk.getRowValues(index)
      const row = Object.fromEntries(
        types.map((type, at) => [names[at] ?? "", convert(values[at] ?? null, type, convert)])
      )
      rows.push(row)
      budget.bytesLeft -= Buffer.byteLength(JSON.stringify(row)) + 1
      if (budget.bytesLeft < 0) {
        return yield* Effect.fail(
          failure(
            "result_too_large",
            `${what}: its rows make a result of more than ${budget.bytesMax} bytes. Use LIMIT or fewer columns, or save_as to keep all of them as an artifact.`
          )
        )
      }
    }
  }
  return { columns, rows } satisfies Rows
})

const nextOf = (result: DuckDBResult): Effect.Effect<DuckDBDataChunk | undefined, JobFailure> =>
  Effect.map(
    duck(() => result.fetchChunk()),
    (chunk) => (chunk === null || chunk.rowCount === 0 ? undefined : chunk)
  )

/** Two columns of one name become `n` and `n:1`. */
export const columnsOf = (result: DuckDBResult, what: string): Effect.Effect<ReadonlyArray<Column>, JobFailure> => {
  const types = result.columnTypes()
  const columns = result.deduplicatedColumnNames().map((name, index) => ({ name, type: String(types[index]) }))
  const odd = columns.find(({ name }) => name === "__proto__" || name !== storable(name))
  return odd === undefined
    ? Effect.succeed(columns)
    : Effect.fail(
        failure(
          "sql_column_name",
          `${what}: ${JSON.stringify(odd.name)} cannot be the name of a column; give it another by AS`
        )
      )
}

const convert: DuckDBValueConverter<Json> = (value, type, converter) => {
  if (value === null) return null
  if (typeof value === "bigint") {
    return -safeIntegerMax <= value && value <= safeIntegerMax ? Number(value) : String(value)
  }
  if (typeof value === "string") return type.alias === "JSON" ? parsed(value) : storable(value)
  if (value instanceof DuckDBBlobValue) return Buffer.from(value.bytes).toString("base64")
  return timestamps.has(type.typeId) ? isoTimestamp(String(value)) : JsonDuckDBValueConverter(value, type, converter)
}

const safeIntegerMax = BigInt(Number.MAX_SAFE_INTEGER)

/** The text itself where its value could not be stored (an escaped NUL, half of a surrogate pair) or is NaN. */
const parsed = (value: string): Json =>
  /\\u(?:0000|d[89a-f])/iu.test(value)
    ? value
    : Result.getOrElse(
        Result.try((): Json => JSON.parse(value)),
        () => value
      )

const timestamps: ReadonlySet<DuckDBTypeId> = new Set([
  DuckDBTypeId.TIMESTAMP,
  DuckDBTypeId.TIMESTAMP_S,
  DuckDBTypeId.TIMESTAMP_MS,
  DuckDBTypeId.TIMESTAMP_NS,
  DuckDBTypeId.TIMESTAMP_TZ
])

/** `infinity`, `-infinity` and years before Christ stay as DuckDB writes them. */
const isoTimestamp = (value: string): string =>
  value.replace(
    /^(\d{4,}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}(?:\.\d+)?)(\+00)?$/u,
    (_, date: string, time: string, zone?: string) => `${date}T${time}${zone === undefined ? "" : "Z"}`
  )
