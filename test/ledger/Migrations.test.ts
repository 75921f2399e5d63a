import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { ledger } from "../../src/ledger/LedgerFunctions.ts"
import { migrate } from "../../src/ledger/Migrations.ts"
import * as Database from "./Database.ts"

const schemas = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ name: string }>`select nspname as name from pg_namespace where nspname like 'ledger\\_%'`
  return rows.map(({ name }) => name).sort()
})

/** The functions of a version that this test makes up, made `hours` ago. */
const madeBefore = Effect.fnUntraced(function* (name: string, hours: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create schema ${sql(name)}`
  yield* sql`insert into datamcp_migrations (name, applied_at)
    values (${`functions/${name}`}, now() - ${hours}::int * interval '1 hour')`
})

describe("migrating", () => {
  it.layer(Database.layer)((it) => {
    it.effect("a second time does nothing", () =>
      Effect.gen(function* () {
        expect(yield* migrate()).toEqual([])
        expect(yield* schemas).toEqual([ledger])
      })
    )

    it.effect("keeps the functions of the two versions before, which other nodes may still call", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        for (const [index, name] of ["ledger_c", "ledger_b", "ledger_a"].entries()) yield* madeBefore(name, index + 1)
        yield* sql`drop schema ${sql(ledger)} cascade`
        expect(yield* migrate()).toEqual([`functions/${ledger}`])
        expect(yield* schemas).toEqual([ledger, "ledger_b", "ledger_c"].sort())
      })
    )

    it.effect("of a newer version leave the database to older ones, unless they say what a node must know", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`drop schema ${sql(ledger)} cascade`
        yield* sql`insert into datamcp_migrations (name, nodes_must_know)
          values ('9998_adds.sql', null), ('9999_takes.sql', '0013_supervision.sql')`
        expect(yield* migrate()).toEqual([`functions/${ledger}`])

        yield* sql`drop schema ${sql(ledger)} cascade`
        yield* sql`update datamcp_migrations set nodes_must_know = '9998_adds.sql' where name = '9999_takes.sql'`
        const refused = yield* Effect.flip(migrate())
        expect(refused).toMatchObject({ _tag: "MigrationFailed", file: "9999_takes.sql" })
        expect(refused.message).toContain("versions that do not know 9998_adds.sql cannot use it")
        expect(yield* schemas).not.toContain(ledger)

        yield* sql`delete from datamcp_migrations where name like '999%'`
        expect(yield* migrate()).toEqual([`functions/${ledger}`])
      })
    )

    it.effect("brings the functions of a version back that nodes return to", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`drop schema ${sql(ledger)} cascade`
        expect(yield* migrate()).toEqual([`functions/${ledger}`])
        expect(yield* sql.unsafe(`select * from ${ledger}.agents_with_work(5)`)).toEqual([])
      })
    )
  })
})
