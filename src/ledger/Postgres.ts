/**
 * Owns the connection to Postgres: the only file that knows the driver. Everything else sees `SqlClient`.
 *
 * Every session commits with `synchronous_commit = on`, which the contract's G1 rests on, and gives up on statements and
 * locks before a caller would.
 */
import { PgClient } from "@effect/sql-pg"
import { Config, Duration, type Redacted } from "effect"

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
      statement_timeout: "15000",
      lock_timeout: "10000",
      idle_in_transaction_session_timeout: "20000"
    }
  })

/** Kept out of the way of `Config`'s own error type in signatures. */
export type PostgresConfigError = Config.ConfigError
