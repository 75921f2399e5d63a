/**
 * The report of the nightly pipeline, computed another way: plain JavaScript over the same files. It shares no code with the
 * platform or with DuckDB; only the rules are the pipeline's.
 */
import { catalogue } from "../../examples/pipeline/catalogue.ts"
import { parseCsv, read } from "./figures.ts"

type Row = Readonly<Record<string, unknown>>

/** Rows with null where there is nothing. */
const rowsOf = (file: string): ReadonlyArray<Row> => {
  if (file.endsWith(".json")) return JSON.parse(read(file))
  return parseCsv(read(file)).map((row) =>
    Object.fromEntries(Object.entries(row).map(([name, text]) => [name, text === "" ? null : text]))
  )
}

/** What all values look like. */
const typeOf = (values: ReadonlyArray<unknown>): string => {
  const all = (pattern: RegExp) => values.every((value) => pattern.test(String(value)))
  if (all(/^-?\d+$/u)) return "BIGINT"
  if (all(/^-?\d*\.?\d+(e-?\d+)?$/u)) return "DOUBLE"
  return all(/^\d{4}-\d{2}-\d{2}$/u) ? "DATE" : "VARCHAR"
}

const look = (file: string) => {
  const rows = rowsOf(file)
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const columns = names.map((name) => {
    const values = rows.map((row) => row[name] ?? null).filter((value) => value !== null)
    return { name, type: typeOf(values), nulls: rows.length - values.length }
  })
  return { rows: rows.length, columns }
}

export const pipelineFigures = () => {
  const files = []
  const problems = []
  for (const { name: file, rows_min, rules } of catalogue.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const { columns, rows } = look(file)
    const nulls = columns.reduce((sum, column) => sum + column.nulls, 0)
    files.push({ file, bytes: Buffer.byteLength(read(file)), rows, columns: columns.length, nulls })
    if (rows < rows_min) {
      problems.push({ file, column_name: null, problem: `${rows} rows, at least ${rows_min} are wanted` })
    }
    for (const { name, nulls_max, type } of rules) {
      const found = columns.find((column) => column.name === name)
      if (found?.type !== type) {
        problems.push({ file, column_name: name, problem: `${found?.type ?? "missing"} instead of ${type}` })
      }
      if (found !== undefined && found.nulls > nulls_max) {
        const problem = `${found.nulls} nulls, at most ${nulls_max} are tolerated`
        problems.push({ file, column_name: name, problem })
      }
    }
  }
  return { files, problems, rows: files.reduce((sum, { rows }) => sum + rows, 0) }
}
