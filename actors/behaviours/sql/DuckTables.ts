/**
 * Makes the tables of a job from its input files, and looks whether they hold what they should.
 *
 * All rows are read before a column's type is settled: a type found from the first rows is wrong from the first row
 * that breaks it.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import { duck, failure, identifier, query, text } from "./Duck.ts"
import { columnsOf } from "./DuckRows.ts"
import type { Column, InputCheck, JobFailure, JobInput } from "./Job.ts"

/** Largest single JSON document of an input, in bytes: such as a whole GeoJSON object. */
const jsonObjectBytesMax = 64 * 1024 * 1024

export const load = Effect.fnUntraced(function* (connection: DuckDBConnection, input: JobInput) {
  const create = `create table ${identifier(input.table)}`
  const sql =
    input.file === undefined
      ? `${create} (${columnDefinitions(input)})`
      : `${create} as select * from ${yield* source(connection, input, input.file)}`
  yield* run(connection, input, sql)
  yield* narrow(connection, input)
})

/**
 * DuckDB finds HUGEINT in JSON where positive and negative numbers meet. BIGINT holds nearly all of them, and every
 * format that a result may be saved as.
 */
const narrow = Effect.fnUntraced(function* (connection: DuckDBConnection, input: JobInput) {
  const columns = yield* tableColumns(connection, input)
  for (const { name } of columns.filter(({ name, type }) => type === "HUGEINT" && !Object.hasOwn(input.types, name))) {
    const sql = `alter table ${identifier(input.table)} alter column ${identifier(name)} type bigint`
    yield* Effect.ignore(duck(() => connection.run(sql)))
  }
})

const tableColumns = (connection: DuckDBConnection, { table }: JobInput) =>
  Effect.flatMap(
    duck(() => connection.run(`select * from ${identifier(table)} limit 0`)),
    (result) => columnsOf(result, `inputs.${table}`)
  )

const columnDefinitions = ({ types }: JobInput) =>
  Object.entries(types)
    .map(([name, type]) => `${identifier(name)} ${type}`)
    .join(", ")

const run = (connection: DuckDBConnection, input: JobInput, sql: string) =>
  Effect.mapError(
    duck(() => connection.run(sql)),
    ({ code, message }) =>
      code === "sql_error"
        ? failure("input_unreadable", `inputs.${input.table}: it cannot be read as ${input.format}: ${message}`)
        : failure(code, `inputs.${input.table}: ${message}`)
  )

/** What stands after FROM. */
const source = Effect.fnUntraced(function* (connection: DuckDBConnection, input: JobInput, file: string) {
  const types = new Map(Object.entries(input.types))
  if (types.size === 0) return reader(input, file, undefined)
  if (input.typesAreComplete)
    return reader(
      input,
      file,
      Array.from(types, ([name, type]) => ({ name, type }))
    )
  const result = yield* run(connection, input, `select * from ${reader(input, file, undefined)} limit 0`)
  const columns = yield* columnsOf(result, `inputs.${input.table}`)
  yield* mustHave(input, columns, "types", [...types.keys()])
  const retyped = columns.map(({ name, type }) => ({ name, type: types.get(name) ?? type }))
  if (input.format !== "parquet") return reader(input, file, retyped)
  const casts = retyped.map(({ name, type }) => `cast(${identifier(name)} as ${type}) as ${identifier(name)}`)
  return `(select ${casts.join(", ")} from ${reader(input, file, undefined)})`
})

/** `columns`: all of them, when their types are settled. */
const reader = (input: JobInput, file: string, columns: ReadonlyArray<Column> | undefined): string => {
  if (input.format === "parquet") return `read_parquet(${text(file)})`
  const typed = columns?.map(({ name, type }) => `${text(name)}: ${text(type)}`).join(", ")
  if (input.format === "csv") {
    const { delimiter, header, null_values } = input.csv
    return call("read_csv", [
      text(file),
      "sample_size = -1",
      typed === undefined ? undefined : `types = {${typed}}`,
      delimiter === undefined ? undefined : `delim = ${text(delimiter)}`,
      header === undefined ? undefined : `header = ${header}`,
      null_values === undefined ? undefined : `nullstr = [${null_values.map(text).join(", ")}]`
    ])
  }
  return call("read_json", [
    text(file),
    `format = '${input.format === "ndjson" ? "newline_delimited" : "auto"}'`,
    `maximum_object_size = ${jsonObjectBytesMax}`,
    typed === undefined ? "sample_size = -1" : `columns = {${typed}}`
  ])
}

const call = (name: string, parameters: ReadonlyArray<string | undefined>) =>
  `${name}(${parameters.filter((parameter) => parameter !== undefined).join(", ")})`

/** Counts rows, and nulls when asked; fails with `check_failed` at the first rule that is broken. */
export const check = Effect.fnUntraced(function* (connection: DuckDBConnection, input: JobInput, profile: boolean) {
  const { expect, table } = input
  const columns = yield* tableColumns(connection, input)
  const notNull = expect.not_null ?? []
  const unique = expect.unique ?? []
  yield* mustHave(input, columns, "expect", [...notNull, ...unique])
  const counted = profile ? columns.map(({ name }) => name) : notNull
  const [row = []] = yield* query(
    connection,
    `select count(*), ${[
      ...counted.map((name) => `count(*) - count(${identifier(name)})`),
      ...unique.map((name) => `count(${identifier(name)}) - count(distinct ${identifier(name)})`)
    ].join(", ")} from ${identifier(table)}`.replace(",  from", " from")
  )
  const [rows = 0, ...numbers] = row.map(Number)
  const nulls = new Map(counted.map((name, index) => [name, numbers[index] ?? 0]))
  const repeated = unique.map((name, index) => [name, numbers[counted.length + index] ?? 0] as const)
  const broken = [
    ...(rows < (expect.rows_min ?? 0) ? [`has ${rows} rows, fewer than rows_min ${expect.rows_min}`] : []),
    ...(rows > (expect.rows_max ?? rows) ? [`has ${rows} rows, more than rows_max ${expect.rows_max}`] : []),
    ...notNull.flatMap((name) =>
      (nulls.get(name) ?? 0) > 0 ? [`has ${nulls.get(name)} nulls in ${name} (not_null)`] : []
    ),
    ...repeated.flatMap(([name, times]) => (times > 0 ? [`repeats ${times} values of ${name} (unique)`] : []))
  ]
  if (broken.length > 0) {
    return yield* Effect.fail(failure("check_failed", `inputs.${table}: it ${broken.join("; it ")}`))
  }
  const checked: InputCheck = {
    table,
    rows,
    columns: columns.map((column) => (profile ? { ...column, nulls: nulls.get(column.name) ?? 0 } : column))
  }
  return checked
})

const mustHave = (
  input: JobInput,
  columns: ReadonlyArray<Column>,
  where: string,
  names: ReadonlyArray<string>
): Effect.Effect<void, JobFailure> => {
  const missing = names.find((name) => !columns.some((column) => column.name === name))
  return missing === undefined
    ? Effect.void
    : Effect.fail(
        failure(
          "input_column",
          `inputs.${input.table}.${where}: there is no column ${JSON.stringify(missing)}; it has ${columns
            .map(({ name }) => name)
            .join(", ")
            .slice(0, 500)}`
        )
      )
}
