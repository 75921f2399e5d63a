/** The fixtures themselves: isolated, mistreatable, and able to notice a leak. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it, layer } from "@effect/vitest"
import { connect } from "@nats-io/transport-node"
import { Cause, Effect, Exit, type Redacted, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { freshDatabase, ownNats, ownPostgres, TestServers } from "./Servers.ts"

const query = (url: Redacted.Redacted) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql<{ one: number }>`select 1 as one`).pipe(
    Effect.provide(PgClient.layer({ url, maxConnections: 1 }))
  )

layer(TestServers.layer)("a file's own servers", (it) => {
  it.effect("are an empty database and an empty JetStream", () =>
    Effect.gen(function* () {
      const servers = yield* TestServers
      expect(yield* query(servers.databaseUrl)).toEqual([{ one: 1 }])
      const connection = yield* Effect.promise(() => connect({ servers: servers.natsUrl }))
      expect(connection.info?.jetstream).toBe(true)
      yield* Effect.promise(() => connection.close())
    })
  )
})

describe("servers to mistreat", () => {
  it.effect("nats-server comes back on its port after kill -9", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const before = nats.pid()
      yield* nats.kill9
      expect(nats.pid()).toBe(0)
      yield* nats.start
      expect(nats.pid()).not.toBe(before)
    })
  )

  it.effect("Postgres keeps what it has committed over kill -9", () =>
    Effect.gen(function* () {
      const postgres = yield* ownPostgres()
      const write = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table kept (n int)`)
      yield* write.pipe(Effect.provide(PgClient.layer({ url: postgres.url(), maxConnections: 1 })))
      yield* postgres.restart
      const read = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select * from kept`)
      expect(yield* read.pipe(Effect.provide(PgClient.layer({ url: postgres.url(), maxConnections: 1 })))).toEqual([])
    })
  )
})

describe("leak checks", () => {
  it.live("a NATS connection left open fails the test", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const nats = yield* Scope.provide(ownNats(), scope)
      const connection = yield* Effect.promise(() => connect({ servers: nats.natsUrl, name: "forgotten" }))
      const exit = yield* Effect.exit(Scope.close(scope, Exit.void))
      yield* Effect.promise(() => connection.close())
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("forgotten")
    })
  )

  it.live("a database connection left open fails the test", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const url = yield* Scope.provide(freshDatabase(), scope)
      const held = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`select 1`
        return yield* Effect.exit(Scope.close(scope, Exit.void))
      })
      const exit = yield* held.pipe(
        Effect.provide(PgClient.layer({ url, maxConnections: 1, applicationName: "forgotten" }))
      )
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("forgotten")
    })
  )
})
