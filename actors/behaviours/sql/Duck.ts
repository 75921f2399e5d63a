/**
 * DuckDB within an engine process: one database in memory per job, locked before anything of a task is read.
 *
 * Invariant: from its first statement on it reaches no file but those of the job's folder, loads no extension and lets
 * nobody change that. Effect is imported by sub-path in the files of the engine: the whole of it takes longer to load
 * than DuckDB.
 */
import { type DuckDBConnection, DuckDBInstance, type DuckDBResult, StatementType } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Job, JobFailure } from "./Job.ts"

export const failure = (code: string, message: string): JobFailure => ({ _tag: "Failed", code, message })

/** A call of DuckDB; what it throws becomes a failure of the job. */
export const duck = <A>(call: () => Promise<A>): Effect.Effect<A, JobFailure> =>
  Effect.tryPromise({
    try: call,
    catch: (cause) => {
      const message = cause instanceof Error ? cause.message : String(cause)
      // DuckDB gives no codes: the kind of an error is the beginning of its message.
      return failure(message.startsWith("Out of Memory Error") ? "sql_out_of_memory" : "sql_error", message)
    }
  })

/** Opens and locks the database of a job. */
export const open = (job: Job): Effect.Effect<DuckDBConnection, JobFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const instance = yield* Effect.acquireRelease(
      duck(() =>
        DuckDBInstance.create(":memory:", {
          threads: `${job.threads}`,
          memory_limit: `${job.memoryMib}MiB`,
          // None at all where nothing may be spilled: a limit of 0 would mean that there is no limit.
          temp_directory: job.spillMib === 0 ? "" : `${job.folder}/spill`,
          home_directory: job.folder,
          autoinstall_known_extensions: "false",
          autoload_known_extensions: "false",
          allow_community_extensions: "false",
          allow_persistent_secrets: "false"
        })
      ),
      (opened) => Effect.sync(() => opened.closeSync())
    )
    const connection = yield* Effect.acquireRelease(
      duck(() => instance.connect()),
      (opened) => Effect.sync(() => opened.closeSync())
    )
    for (const sql of [
      "set TimeZone = 'UTC'",
      // Among the options of `create` it is shown by DuckDB 1.5, and not kept.
      ...(job.spillMib === 0 ? [] : [`set max_temp_directory_size = '${job.spillMib}MiB'`]),
      `set allowed_directories = [${text(`${job.folder}/`)}]`,
      "set enable_external_access = false",
      "set lock_configuration = true"
    ]) {
      yield* duck(() => connection.run(sql))
    }
    return connection
  })

/** What a task may do: look, and change tables of its own that end with it. */
const permitted: ReadonlySet<StatementType> = new Set([
  StatementType.SELECT,
  StatementType.INSERT,
  StatementType.UPDATE,
  StatementType.DELETE,
  StatementType.MERGE_INTO,
  StatementType.CREATE,
  StatementType.CREATE_FUNC,
  StatementType.ALTER,
  StatementType.DROP,
  StatementType.TRANSACTION,
  StatementType.EXPLAIN,
  StatementType.ANALYZE
])

/**
 * Runs the statements of a text one after the other and hands over the result of the last one: `stream` computes it as
 * it is read, `run` at once. `what` names the text in failures.
 */
export const runTask = Effect.fnUntraced(function* (
  connection: DuckDBConnection,
  sql: string,
  what: string,
  mode: "stream" | "run"
) {
  const statements = yield* duck(() => connection.extractStatements(sql)).pipe(located(what))
  let last: DuckDBResult | undefined
  for (let index = 0; index < statements.count; index++) {
    const statement = yield* duck(() => statements.prepare(index)).pipe(located(what))
    if (!permitted.has(statement.statementType)) {
      return yield* Effect.fail(
        failure(
          "sql_statement_refused",
          `${what}: a ${StatementType[statement.statementType]} statement is not permitted; a task may query, and change tables of its own`
        )
      )
    }
    const streams = mode === "stream" && index === statements.count - 1
    last = yield* duck(() => (streams ? statement.stream() : statement.run())).pipe(located(what))
  }
  return last === undefined ? yield* Effect.fail(failure("sql_error", `${what}: there is no statement`)) : last
})

/** A statement of the engine's own, all of its result at once. */
export const query = (connection: DuckDBConnection, sql: string) =>
  duck(async () => (await connection.runAndReadAll(sql)).getRowsJS())

const located = (what: string) =>
  Effect.mapError((error: JobFailure) => failure(error.code, `${what}: ${error.message}`))

/** A text as SQL writes it. */
export const text = (value: string): string => `'${value.replaceAll("'", "''")}'`

/** A name as SQL writes it. */
export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`
