/**
 * What a `sql` task may ask for, and what its agent may be set to: shapes, limits and defaults.
 */
import { Schema } from "effect"
import * as Limits from "../../../protocol/Limits.ts"
import { networkSettings } from "../AddressGuard.ts"
import { ArtifactName } from "../SavedArtifact.ts"
import { formatByName, SqlInput, TableName } from "./SqlInputs.ts"

const inputsMax = 32
const statementsMax = 64
const sectionsMax = 50
const queryCharactersMax = 100_000
const rowsMaxMax = 100_000

const Query = Schema.String.check(Schema.isBetweenLength(1, queryCharactersMax))

/** What a `sql` task says. */
export const SqlPayload = Schema.Struct({
  /** Tables by name. */
  inputs: Schema.optionalKey(Schema.Record(TableName, SqlInput).check(Schema.isMaxProperties(inputsMax))),
  /** Run in order before the query: views, tables, corrections. */
  statements: Schema.optionalKey(Schema.Array(Query).check(Schema.isMaxLength(statementsMax))),
  /** Its last statement's rows are the result. */
  query: Schema.optionalKey(Query),
  /** Most rows of the query and of each section of the report. */
  max_rows: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: rowsMaxMax }))),
  /** Counts the nulls of every column of every input. */
  profile: Schema.optionalKey(Schema.Boolean),
  /** Keeps all rows of the query as an artifact: `.csv`, `.json`, `.ndjson`, `.jsonl` or `.parquet`. */
  save_as: Schema.optionalKey(
    ArtifactName.check(
      Schema.makeFilter((name: string) => formatByName(name) !== undefined && !/\.(gz|zst|tsv|geojson)$/iu.test(name), {
        expected: "a name that ends in .csv, .json, .ndjson, .jsonl or .parquet"
      })
    )
  ),
  /** One Markdown table per section. */
  report: Schema.optionalKey(
    Schema.Struct({
      title: Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax)),
      sections: Schema.Array(
        Schema.Struct({
          heading: Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax)),
          /** Markdown between heading and table. */
          text: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
          query: Query
        })
      ).check(Schema.isBetweenLength(1, sectionsMax))
    })
  )
}).check(
  Schema.makeFilter(({ inputs, query, report }) => (inputs ?? query ?? report) !== undefined, {
    expected: "a payload with inputs, query or report"
  }),
  Schema.makeFilter(({ query, save_as }) => save_as === undefined || query !== undefined, {
    expected: "a payload with a query when it has save_as"
  })
)
export type SqlPayload = typeof SqlPayload.Type

const between = (minimum: number, maximum: number) =>
  Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** What an agent of type `sql` is set to. */
export const SqlSettings = Schema.Struct({
  ...networkSettings,
  /** Memory of one query; 512 when absent. What does not fit is spilled to disk. */
  memory_mib: between(64, 1024 * 1024),
  /** Disk that one query may spill to; 1,024 when absent. */
  spill_mib: between(0, 1024 * 1024),
  /** Threads of one query; 2 when absent. */
  threads: between(1, 64),
  /** All inputs of a task together; 256 when absent. */
  input_mib: between(1, 16 * 1024),
  /** `max_rows` of tasks that set none, and the most that they may set; 1,000 when absent. */
  max_rows: between(1, rowsMaxMax),
  /** Longest fetch of one input; 60 s when absent. */
  fetch_timeout_ms: between(1, Limits.timeoutMillisMax)
})
export type SqlSettings = typeof SqlSettings.Type
