/**
 * Servers for one test file, or for one test that mistreats them.
 *
 * `TestServers.layer` is what nearly every file wants: an empty database of its own on the run's Postgres, and a
 * nats-server of its own, because streams have fixed names. `ownPostgres` and `ownNats` are for tests that kill and
 * restart. When a scope closes, whatever the test still holds open on its servers is a leak and fails the test.
 */
import { chmodSync, mkdtempSync } from "node:fs"
import { join } from "node:path"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, type Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import type { NatsCredentials } from "../../src/embedded/NatsServer.ts"
import { urlOf } from "../../src/embedded/PostgresServer.ts"
import { onRealClock } from "./realClock.ts"
import { makeNats, makePostgres, type NatsHandle, password } from "./ServerMakers.ts"

export class TestServers extends Context.Service<
  TestServers,
  {
    /** An empty database that only this file uses. */
    readonly databaseUrl: Redacted.Redacted
    /** A nats-server with an empty JetStream that only this file uses; no credentials needed. */
    readonly natsUrl: string
    /** Handles to mistreat that nats-server. */
    readonly nats: NatsHandle
  }
>()("datamcp/test/TestServers") {
  static readonly layer = Layer.effect(
    TestServers,
    Effect.gen(function* () {
      const [databaseUrl, nats] = yield* Effect.all([freshDatabase(), ownNats()], { concurrency: 2 })
      return TestServers.of({ databaseUrl, natsUrl: nats.natsUrl, nats })
    })
  )
}

/**
 * An empty database on the run's shared Postgres, or a copy of `template`; dropped when the scope closes. Connections
 * that are still open then, after a second's grace, are a leak and fail the test.
 */
export const freshDatabase = (options: { readonly template?: string } = {}) =>
  Effect.gen(function* () {
    const name = `t_${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`
    const template = options.template ?? "template0"
    yield* Effect.acquireRelease(
      administer((sql) => sql`create database ${sql(name)} template ${sql(template)}`),
      () =>
        leftOpen(name).pipe(
          Effect.ensuring(administer((sql) => sql`drop database if exists ${sql(name)} with (force)`)),
          Effect.flatMap((open) => failIfLeaked("database connections", open))
        )
    )
    return urlOf({ port: inject("postgresPort") }, password, name)
  })

/** A nats-server with JetStream of this scope's own. Without `users` everybody may do everything. */
export const ownNats = (users: ReadonlyArray<NatsCredentials> = []) =>
  Effect.gen(function* () {
    const nats = yield* makeNats(inject("machine"), ownFolder("nats-"), users)
    const names = Effect.map(nats.connections, (open) => open.map(({ name }) => name))
    yield* Effect.addFinalizer(() =>
      nats.pid() === 0
        ? Effect.void
        : untilNone(names).pipe(
            Effect.flatMap((open) => failIfLeaked("NATS connections", open)),
            onRealClock
          )
    )
    return nats
  }).pipe(onRealClock)

/** A Postgres of this scope's own, to kill and restart. `settings` as in postgresql.conf, for example `{ fsync: "on" }`. */
export const ownPostgres = (settings: Readonly<Record<string, string>> = {}) =>
  onRealClock(makePostgres(inject("machine"), ownFolder("postgres-"), settings))

/** A folder of this test's own that Postgres's user may enter; removed with everything else at the end of the run. */
export const ownFolder = (prefix: string) => {
  const folder = mkdtempSync(join(inject("machine").folder, prefix))
  chmodSync(folder, 0o755)
  return folder
}

const administer = <A, E>(statement: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
  Effect.flatMap(SqlClient.SqlClient, statement).pipe(
    Effect.provide(PgClient.layer({ url: urlOf({ port: inject("postgresPort") }, password), maxConnections: 1 })),
    Effect.orDie,
    onRealClock
  )

const leftOpen = (database: string) =>
  untilNone(
    administer((sql) =>
      Effect.map(
        sql<{ application_name: string; query: string }>`
          select application_name, left(query, 80) as query from pg_stat_activity where datname = ${database}
        `,
        (rows) => rows.map(({ application_name, query }) => `${application_name}: ${query}`)
      )
    )
  ).pipe(onRealClock)

/** Closing a socket takes the server a moment to notice. */
const untilNone = <E>(open: Effect.Effect<ReadonlyArray<string>, E>) =>
  Effect.repeat(open, { until: (left) => left.length === 0, schedule: Schedule.spaced("25 millis"), times: 40 })

const failIfLeaked = (what: string, open: ReadonlyArray<string>) =>
  open.length === 0 ? Effect.void : Effect.die(new Error(`The test left ${what} open: ${open.join(", ")}`))
