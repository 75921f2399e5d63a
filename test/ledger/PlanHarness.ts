/** One session on an empty, migrated database, whose plans are made when it first needs them, and what its statements read. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { migrate } from "../../src/ledger/Migrations.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import { freshDatabase } from "../support/Servers.ts"

export const oneSession = Layer.unwrap(
  Effect.map(freshDatabase(), (url) =>
    Layer.effectDiscard(migrate()).pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          Postgres.layer({ url, connectionsMax: 1, applicationName: "plans" }),
          NodeServices.layer,
          UuidV7.layer
        )
      )
    )
  )
)

/** Keeps autovacuum from these tables: what it learns about them would make other plans. */
export const withoutAutovacuum = Effect.fnUntraced(function* (tables: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  for (const table of tables) yield* sql`alter table ${sql(table)} set (autovacuum_enabled = off)`
})

/** Rows of tables that were read so far, and how often tasks and events were read from end to end. */
export const readsOf = Effect.fnUntraced(function* (tables: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`select pg_stat_force_next_flush()`
  const [read] = yield* sql<{ readonly rows: number; readonly scans: number }>`
    select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows,
      coalesce(sum(seq_scan) filter (where relname in ('tasks', 'events')), 0)::int as scans
    from pg_stat_user_tables where relname in ${sql.in(tables)}
  `
  return read ?? { rows: 0, scans: 0 }
})

/** Rows of tables that were read so far. */
export const rowsRead = (tables: ReadonlyArray<string>) => Effect.map(readsOf(tables), ({ rows }) => rows)
