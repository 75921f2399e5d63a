/**
 * What is said between a node and its engine process: one job, its steps, and one answer. It imports types only, so
 * that an engine starts fast.
 */
import type { Schema } from "effect"

export type InputFormat = "csv" | "json" | "ndjson" | "parquet"
export type SaveFormat = InputFormat

/** What an input must hold; the first rule that it breaks ends the job. */
export interface Expectation {
  readonly rows_min?: number
  readonly rows_max?: number
  readonly not_null?: ReadonlyArray<string>
  readonly unique?: ReadonlyArray<string>
}

export interface JobInput {
  /** Name of the table that it becomes. */
  readonly table: string
  /** Undefined for an input without rows: its columns are those of `types`. */
  readonly file: string | undefined
  readonly format: InputFormat
  /** Column to SQL type, instead of the types that are found by reading. */
  readonly types: Readonly<Record<string, string>>
  /** True when `types` lists every column, in order. */
  readonly typesAreComplete: boolean
  readonly csv: {
    readonly delimiter?: string
    readonly header?: boolean
    readonly null_values?: ReadonlyArray<string>
  }
  readonly expect: Expectation
}

/** Paths are absolute and lie in `folder`, the only place of the disk that a job can reach. */
export interface Job {
  readonly folder: string
  readonly memoryMib: number
  readonly spillMib: number
  readonly threads: number
  readonly inputs: ReadonlyArray<JobInput>
  /** Run one after the other, before the query. */
  readonly statements: ReadonlyArray<string>
  readonly query: string | undefined
  readonly sections: ReadonlyArray<string>
  readonly save: { readonly file: string; readonly format: SaveFormat } | undefined
  /** Counts nulls per column of each input. */
  readonly profile: boolean
  /** Most rows of each query. */
  readonly rowsMax: number
  /** Rows of the query that are shown when it is saved. */
  readonly previewRows: number
  /** Most bytes of JSON of all rows together. */
  readonly resultBytesMax: number
}

export type Column = {
  readonly name: string
  /** As SQL writes it. */
  readonly type: string
}

export interface Rows {
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Readonly<Record<string, Schema.Json>>>
}

export interface InputCheck {
  readonly table: string
  readonly rows: number
  readonly columns: ReadonlyArray<Column & { readonly nulls?: number }>
}

export interface JobResult {
  readonly checks: ReadonlyArray<InputCheck>
  /** Of the query; when it is saved, only its first rows. */
  readonly result?: (Rows & { readonly rowCount: number }) | undefined
  readonly sections: ReadonlyArray<Rows>
}

/** An expected end of a job without a result. `code` and `message` go to the task. */
export interface JobFailure {
  readonly _tag: "Failed"
  readonly code: string
  readonly message: string
}

export type Answer =
  | { readonly _tag: "Step"; readonly step: string }
  /** `residentBytes`: memory that the process still holds. */
  | { readonly _tag: "Done"; readonly result: JobResult; readonly residentBytes: number }
  | JobFailure
