/**
 * Brings a database to the schema of this version: the numbered files of `sql/`, forward only and each once, then the
 * ledger's functions, in one transaction. Several nodes may start at once: an advisory lock lets one of them migrate while the others wait.
 *
 * A database that a newer version has migrated is used as it is, because migrations add; one whose migrations say that a node must
 * know what this version does not know is refused, and nothing is changed.
 */
import { Effect, FileSystem, Path, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as LedgerFunctions from "./LedgerFunctions.ts"
import { messageOf } from "./Postgres.ts"

export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  /** The file that failed, or `none` when the database could not be asked at all. */
  file: Schema.String,
  message: Schema.String
}) {}

/** The folder with the migrations, next to the sources. */
const folder = new URL("../../sql/", import.meta.url)

/** Any number that nobody else uses: names the lock under which migrations run. */
const advisoryLock = 4_815_162_342

/** Applies what is missing. Returns the names of what was applied. Fails with `MigrationFailed`, having changed nothing. */
export const migrate = Effect.fn("Migrations.migrate")(
  function* () {
    const sql = yield* SqlClient.SqlClient
    const files = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const sqlFolder = yield* path.fromFileUrl(folder)
    const names = (yield* files.readDirectory(sqlFolder)).filter((name) => /^\d{4}_.+\.sql$/.test(name)).sort()
    const applied: Array<string> = []

    yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`select pg_advisory_xact_lock(${advisoryLock})`
        yield* sql`create table if not exists datamcp_migrations (
        name text primary key, applied_at timestamptz not null default now())`
        const done = new Set((yield* sql<{ name: string }>`select name from datamcp_migrations`).map((row) => row.name))
        for (const name of names) {
          if (done.has(name)) continue
          const text = yield* files.readFileString(path.join(sqlFolder, name))
          // A prepared statement holds one command; `execute` inside a block runs a whole file.
          yield* sql
            .unsafe(`do $datamcp_block$ begin execute $datamcp_file$${text}$datamcp_file$; end $datamcp_block$`)
            .unprepared.pipe(
              Effect.mapError(
                (error) =>
                  new MigrationFailed({ file: name, message: `${name} cannot be applied: ${messageOf(error)}` })
              )
            )
          yield* sql`insert into datamcp_migrations (name) values (${name})`
          const mustKnow = /^-- Nodes must know: (\S+)$/m.exec(text)?.[1]
          if (mustKnow !== undefined) {
            yield* sql`update datamcp_migrations set nodes_must_know = ${mustKnow} where name = ${name}`
          }
          applied.push(name)
        }
        yield* refuseWhatIsTooNew(names)
        applied.push(...(yield* LedgerFunctions.create))
      })
    )
    return applied
  },
  Effect.mapError((error) => {
    if (error._tag === "MigrationFailed") return error
    const message =
      error._tag === "SqlError"
        ? `Postgres cannot be used: ${messageOf(error)}. Check that it runs, and what DATABASE_URL says.`
        : error.message
    return new MigrationFailed({ file: "none", message })
  })
)

/** `known` are the names of this version's migrations. */
const refuseWhatIsTooNew = Effect.fnUntraced(function* (known: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  const [newer] = yield* sql<{ name: string; must_know: string }>`
    select name, nodes_must_know as must_know from datamcp_migrations
    where nodes_must_know is not null and not nodes_must_know = any(${known}) order by name limit 1`
  if (newer === undefined) return
  return yield* new MigrationFailed({
    file: newer.name,
    message: `A newer version of datamcp has changed this database (${newer.name}), and versions that do not know ${newer.must_know} cannot use it. Start that version, or a newer one.`
  })
})
