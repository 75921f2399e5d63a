/**
 * Owns the connection to Postgres: the only file that knows the driver. Everything else sees `SqlClient`.
 *
 * Every session commits with `synchronous_commit = on`, which the contract's G1 rests on, and gives up on statements and
 * locks after a bound.
 */
import { PgClient } from "@effect/sql-pg"
import { Duration, Predicate, type Redacted } from "effect"
import type { SqlError } from "effect/sql/SqlError"

export interface PostgresOptions {
  readonly url: Redacted.Redacted
  /** Most connections of this node. */
  readonly connectionsMax: number
  /** Shown in `pg_stat_activity`. */
  readonly applicationName: string
  /** False behind a pooler that gives each transaction another session (PgBouncer in transaction mode). */
  readonly preparedStatements?: boolean
}

export const layer = (options: PostgresOptions) =>
  PgClient.layer({
    url: options.url,
    maxConnections: options.connectionsMax,
    minConnections: 1,
    applicationName: options.applicationName,
    connectTimeout: Duration.seconds(3),
    prepare: options.preparedStatements ?? true,
    startupParameters: {
      synchronous_commit: "on",
      timezone: "UTC",
      statement_timeout: "15000",
      lock_timeout: "10000",
      idle_in_transaction_session_timeout: "20000"
    }
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

/** Whether the same statement may succeed later: anything but a mistake in the statement. */
export const isTransient = (error: SqlError): boolean => {
  const state = sqlState(error)
  if (state !== undefined) return !permanentClasses.has(state.slice(0, 2))
  return !error.reason.message.includes("Failed to encode")
}
