/**
 * Owns the connections to Postgres: the only file that knows the driver. Everything else sees `SqlClient`.
 *
 * Every session commits with `synchronous_commit = on`, which the contract's G1 rests on, and gives up on statements and
 * locks after a bound. No session is ever on a standby, and where several servers are named all are on the primary.
 *
 * A pooler keeps the sessions for itself: then its role has these settings (docs/operations.md), and a start without the
 * one that G1 rests on is refused.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Duration, Effect, Layer, Predicate, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import * as PrimaryServer from "./PrimaryServer.ts"

export interface PostgresOptions {
  /** With several hosts and commas between them: those of one primary and its standbys. */
  readonly url: Redacted.Redacted
  /** Most connections of this node. */
  readonly connectionsMax: number
  /** Shown in `pg_stat_activity`. */
  readonly applicationName: string
  /** False behind a pooler that gives each transaction another session (PgBouncer in transaction mode). */
  readonly preparedStatements?: boolean
}

/** The sessions that a pooler gives us would not keep a promise. `message` is written for the person who starts the program. */
export class SessionProblem extends Schema.TaggedError<SessionProblem>()("SessionProblem", {
  message: Schema.String
}) {}

export const layer = (options: PostgresOptions) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const pooled = options.preparedStatements === false
      const urls = PrimaryServer.urlsOf(Redacted.value(options.url))
      const [url = ""] = urls
      const session: PgClient.PgClientConfig = {
        url: Redacted.make(url),
        applicationName: options.applicationName,
        connectTimeout: Duration.seconds(3),
        prepare: !pooled,
        startupParameters: pooled ? pooledSettings : sessionSettings
      }
      const whereto = urls.length === 1 ? undefined : yield* PrimaryServer.follow(urls, admission(session))
      const client = PgClient.layer(
        // Not spread: it is read anew for every connection.
        Object.defineProperties(
          { ...session, maxConnections: options.connectionsMax, minConnections: 1 },
          whereto === undefined ? {} : Object.getOwnPropertyDescriptors(whereto)
        )
      )
      return pooled ? Layer.effectDiscard(checkPooled).pipe(Layer.provideMerge(client)) : client
    })
  )

/** As the ledger's own sessions are opened: a server that admits this one admits them. */
const admission =
  (session: PgClient.PgClientConfig): PrimaryServer.Admission<SqlError> =>
  (server, patience) =>
    Effect.map(PgConnection.make({ ...session, ...server, connectTimeout: patience, prepare: false }), (connection) =>
      connection.query("select 1")
    )

const sessionSettings = {
  synchronous_commit: "on",
  // A standby cannot grant it, and so refuses the session: where a name or a proxy leads to one, nobody stays there.
  transaction_read_only: "off",
  timezone: "UTC",
  statement_timeout: "15000",
  lock_timeout: "10000",
  idle_in_transaction_session_timeout: "20000"
}

/** What poolers pass on, PgBouncer among them; they refuse the others. */
const pooledSettings = { timezone: "UTC" }

const checkPooled = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ commits: string }>`select current_setting('synchronous_commit') as commits`
  const commits = rows[0]?.commits
  if (commits === "on" || commits === "remote_apply") return
  return yield* new SessionProblem({
    message: `DATABASE_URL: its sessions commit with synchronous_commit=${commits}, which would lose accepted tasks. Run: alter role <the role> set synchronous_commit = on.`
  })
})

/** The SQLSTATE of an error that Postgres reported; undefined when it came from the connection. */
export const sqlState = (error: SqlError): string | undefined => {
  const cause = error.reason.cause
  return Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : undefined
}

/** What Postgres said, for people; without the values of the statement. */
export const messageOf = (error: SqlError): string => {
  const cause = error.reason.cause
  return Predicate.hasProperty(cause, "message") && typeof cause.message === "string"
    ? cause.message
    : error.reason.message
}

/** Classes of SQLSTATE that say the statement itself is wrong: data, constraint, syntax or access, raised by a function. */
const permanentClasses = new Set(["22", "23", "42", "0A", "P0"])

/** Whether the same statement may succeed later: anything but a mistake in the statement, so also a session refused. */
export const isTransient = (error: SqlError): boolean => {
  if (error.reason.operation === "connect") return true
  const state = sqlState(error)
  if (state !== undefined) return !permanentClasses.has(state.slice(0, 2))
  return !error.reason.message.includes("Failed to encode")
}
