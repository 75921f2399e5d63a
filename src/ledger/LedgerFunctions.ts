/**
 * Owns which functions of the ledger this version calls: the files of `sql/functions`, as one set in a schema named after
 * their content.
 *
 * Invariant: a schema that exists holds exactly the functions its name stands for, so nodes of different versions share a
 * database without calling each other's. Statements name the schema themselves: a pooler may give every transaction another
 * session.
 */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const folder = new URL("../../sql/functions/", import.meta.url)

const written = readdirSync(folder)
  .filter((name) => name.endsWith(".sql"))
  .sort()
  .map((name) => readFileSync(new URL(name, folder), "utf8"))
  .join("\n")

/** The schema of this version's functions. */
export const ledger = `ledger_${createHash("sha256").update(written).digest("hex").slice(0, 12)}`

/** Sets of older versions that are kept for nodes that still run them, and for going back. */
const olderKept = 2

/** Makes the functions unless they are there, in the transaction of the caller, who holds the lock of migrations. */
export const create = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const known = yield* sql<{ name: string }>`
    select n.nspname as name from pg_namespace n left join datamcp_migrations m on m.name = 'functions/' || n.nspname
    where n.nspname like 'ledger\\_%' order by m.applied_at desc nulls last`
  if (known.some(({ name }) => name === ledger)) return []
  const text = written.replaceAll(/(?<![\w.])ledger\.(?=\w)/g, `${ledger}.`)
  yield* sql`create schema ${sql(ledger)}`
  yield* sql.unsafe(`do $datamcp_block$ begin execute $datamcp_file$${text}$datamcp_file$; end $datamcp_block$`)
    .unprepared
  yield* sql`insert into datamcp_migrations (name) values (${`functions/${ledger}`})
    on conflict (name) do update set applied_at = now()`
  for (const { name } of known.slice(olderKept)) yield* sql`drop schema ${sql(name)} cascade`
  return [`functions/${ledger}`]
})
