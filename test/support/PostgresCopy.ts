/**
 * A copy of a running Postgres, taken while it works: what `pg_basebackup` does, by the functions that Postgres itself
 * offers for it, because the programs that come from npm have no `pg_basebackup`.
 *
 * The copy is a folder for another server: a standby that follows, or a restored one that reads the archive first.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { PgClient } from "@effect/sql-pg"
import { Effect, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { serverAs } from "../../src/embedded/OsUser.ts"
import { awaitAccepting, type PostgresServer, role, serverCommand, urlOf } from "../../src/embedded/PostgresServer.ts"
import { onRealClock } from "./realClock.ts"
import { freePort, type PostgresHandle, password } from "./ServerMakers.ts"
import { serverProcess } from "./ServerProcess.ts"

const run = promisify(execFile)

/** One statement as the superuser, on a connection of its own. */
export const administer = <Row extends object>(server: Pick<PostgresHandle, "url">, statement: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Row>(statement)).pipe(
    Effect.provide(PgClient.layer({ url: server.url(), maxConnections: 1 })),
    Effect.orDie,
    onRealClock
  )

/**
 * Copies the data folder of a running server to `<folder>/postgres`, without its log of writes: whoever serves the copy
 * takes that from the primary or from an archive.
 */
export const copyPostgres = Effect.fn("copyPostgres")(
  function* (_primary: PostgresHandle, folder: string) {
    const sql = yield* SqlClient.SqlClient
    const connection = yield* sql.reserve
    const [where] = (yield* connection.execute("show data_directory", [], undefined)) as ReadonlyArray<{
      readonly data_directory: string
    }>
    const from = where?.data_directory ?? ""
    const to = join(folder, "postgres")
    mkdirSync(to, { mode: 0o700, recursive: true })
    yield* connection.execute("select pg_backup_start('test', true)", [], undefined)
    yield* Effect.promise(() =>
      run("sh", [
        "-c",
        `tar -C "$1" --exclude=./pg_wal/* --exclude=./postmaster.* --ignore-failed-read -cf - . | tar -C "$2" -xpf -`,
        "sh",
        from,
        to
      ])
    )
    const [label] = (yield* connection.execute(
      "select labelfile from pg_backup_stop(false)",
      [],
      undefined
    )) as ReadonlyArray<{
      readonly labelfile: string
    }>
    writeFileSync(join(to, "backup_label"), label?.labelfile ?? "")
    if (!existsSync(join(to, "pg_wal/archive_status")))
      mkdirSync(join(to, "pg_wal/archive_status"), { recursive: true })
    return to
  },
  (effect, primary) =>
    effect.pipe(
      Effect.scoped,
      Effect.provide(PgClient.layer({ url: primary.url(), maxConnections: 1 })),
      Effect.orDie,
      onRealClock
    )
)

export type CopyRole =
  /** Follows `primary` until it is promoted. Its name is what the primary's `synchronous_standby_names` sees. */
  | { readonly _tag: "Standby"; readonly primary: PostgresHandle; readonly name: string }
  /** Reads `archive` to its end, or to a moment, then takes writes. */
  | { readonly _tag: "Restored"; readonly archive: string; readonly until?: string }

/** Serves a copy, in a process of its own that ends with the scope. */
export const serveCopy = (dataFolder: string, as: CopyRole, settings: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const machine = inject("machine")
    const server: PostgresServer = {
      programs: machine.postgres,
      user: Option.fromNullOr(machine.user),
      dataFolder,
      port: yield* freePort
    }
    writeFileSync(join(dataFolder, as._tag === "Standby" ? "standby.signal" : "recovery.signal"), "")
    if (machine.user !== null) {
      const { gid, uid } = machine.user
      yield* Effect.promise(() => run("chown", ["-R", `${uid}:${gid}`, dataFolder]))
    }
    const recovery: Record<string, string> =
      as._tag === "Standby"
        ? {
            primary_conninfo: `host=127.0.0.1 port=${as.primary.port} user=${role} password=${Redacted.value(password)} application_name=${as.name}`,
            wal_retrieve_retry_interval: "200ms"
          }
        : {
            restore_command: `cp "${as.archive}/%f" "%p"`,
            recovery_target_action: "promote",
            ...(as.until === undefined ? {} : { recovery_target_time: as.until })
          }
    const process = yield* serverProcess({
      command: yield* serverAs(server.user, serverCommand(server, { ...settings, ...recovery }), "SIGINT"),
      stopSignal: "SIGINT",
      ready: awaitAccepting(server.port)
    })
    return {
      ...process,
      port: server.port,
      url: (database?: string) => urlOf(server, password, database)
    } satisfies PostgresHandle
  }).pipe(Effect.provide(NodeServices.layer), Effect.orDie, onRealClock)
