/**
 * One Postgres data folder and the command line that serves it: made once, whole or not at all, then only started.
 *
 * Owns the settings of a Postgres that shares a small machine with its only client. Does not supervise, choose ports
 * or keep passwords: `EmbeddedPostgres.ts` does for users, `test/support` for tests.
 */
import { connect } from "node:net"
import { Effect, FileSystem, Option, Redacted, Schedule, Schema } from "effect"
import { diskFull, EmbeddedProblem, unwritable } from "./EmbeddedProblem.ts"
import { type CommandLine, commandAs, type OsUser } from "./OsUser.ts"
import type { PostgresPrograms } from "./PostgresPrograms.ts"
import { runProgram } from "./Program.ts"

export interface PostgresServer {
  readonly programs: PostgresPrograms
  readonly user: Option.Option<OsUser>
  /** Holds the cluster's files; created by `initialise`. Its parent must exist. */
  readonly dataFolder: string
  readonly port: number
}

/** The only role: owner of every database. */
export const role = "datamcp"

export const urlOf = (server: { readonly port: number }, password: Redacted.Redacted, database = "postgres") =>
  Redacted.make(
    `postgres://${role}:${encodeURIComponent(Redacted.value(password))}@127.0.0.1:${server.port}/${database}`
  )

/**
 * Durable settings for two cores shared with the nodes that use it. Each differs from Postgres's default for the reason given.
 */
export const durableSettings = {
  // Only this machine may connect, and only by TCP: socket folders have length limits that deep clones exceed.
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  // An accepted task is on disk before the answer: the defaults, said aloud.
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  // The working set of queued and running tasks; 128 MB by default.
  shared_buffers: "256MB",
  // Checkpoints by time rather than by volume: each one makes the next writes log whole pages again.
  max_wal_size: "4GB",
  min_wal_size: "256MB",
  checkpoint_timeout: "15min",
  wal_compression: "on",
  wal_buffers: "16MB",
  // Queue tables turn over quickly: look often, clean early.
  autovacuum_naptime: "10s",
  autovacuum_vacuum_scale_factor: "0.05",
  autovacuum_analyze_scale_factor: "0.05",
  // Short statements only: compiling them costs more than it saves, and solid-state storage has no seek.
  jit: "off",
  random_page_cost: "1.1",
  max_connections: "100",
  cluster_name: "datamcp",
  timezone: "UTC",
  log_timezone: "UTC",
  log_line_prefix: "%m [%p] %q%a@%d ",
  log_checkpoints: "off"
} as const satisfies Record<string, string>

/** The same server for tests: what a crash of the machine would lose is thrown away anyway. */
export const throwAwaySettings = {
  ...durableSettings,
  fsync: "off",
  full_page_writes: "off",
  shared_buffers: "128MB",
  max_wal_size: "1GB",
  min_wal_size: "80MB",
  max_connections: "200"
} as const satisfies Record<string, string>

/**
 * Makes the data folder unless it is there. Made in a draft beside it and renamed when finished, so a folder that
 * exists is complete. Fails with `EmbeddedProblem` that quotes initdb.
 */
export const initialise = Effect.fn("PostgresServer.initialise")(
  function* (server: PostgresServer, password: Redacted.Redacted, options: { readonly sync: boolean }) {
    const fs = yield* FileSystem.FileSystem
    if (yield* fs.exists(`${server.dataFolder}/PG_VERSION`)) return
    const draft = `${server.dataFolder}.draft`
    const passwordFile = `${draft}.password`
    yield* fs.remove(draft, { recursive: true, force: true })
    yield* fs.makeDirectory(draft, { mode: 0o700 })
    yield* fs.writeFileString(passwordFile, Redacted.value(password), { mode: 0o600 })
    yield* Effect.forEach(Option.toArray(server.user), ({ gid, uid }) =>
      Effect.andThen(fs.chown(draft, uid, gid), fs.chown(passwordFile, uid, gid))
    )
    const args = [
      ["-D", draft, "-U", role, `--pwfile=${passwordFile}`, "--auth=scram-sha-256", "--encoding=UTF8"],
      // Postgres's own collation: the same order of texts on every machine, whatever locales it has.
      ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
      options.sync ? [] : ["--no-sync"]
    ].flat()
    const result = yield* runProgram(...commandAs(server.user, server.programs.initdb, args)).pipe(
      Effect.ensuring(Effect.ignore(fs.remove(passwordFile, { force: true })))
    )
    if (!Option.exists(result.exitCode, (code) => code === 0)) return yield* initdbFailed(draft, result.output)
    yield* fs.rename(draft, server.dataFolder)
  },
  (effect, server) =>
    Effect.catchTag(effect, "PlatformError", (cause) => Effect.fail(unwritable(server.dataFolder)(cause)))
)

const initdbFailed = (draft: string, output: string) =>
  /No space left on device/i.test(output)
    ? diskFull(draft)
    : new EmbeddedProblem({
        reason: "StartFailed",
        what: `initdb could not make ${draft}:\n${output.trim()}`,
        remedy: "Mend what it says and start again, or set DATABASE_URL to a Postgres >= 16 of yours."
      })

/** The command that serves the data folder in the foreground, to be run as the server's user. SIGINT ends it quickly and cleanly. */
export const serverCommand = (server: PostgresServer, settings: Readonly<Record<string, string>>): CommandLine => [
  server.programs.postgres,
  [
    "-D",
    server.dataFolder,
    "-p",
    String(server.port),
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  ]
]

/** Waits until the server takes connections. Fails with `NotAccepting` after `patience` attempts, 25 ms apart. */
export const awaitAccepting = Effect.fn("PostgresServer.awaitAccepting")((port: number, patience = 1200) =>
  answersStartup(port).pipe(
    Effect.filterOrFail(
      (answers) => answers,
      () => new NotAccepting({ port })
    ),
    Effect.retry({ schedule: Schedule.spaced("25 millis"), times: patience })
  )
)

export class NotAccepting extends Schema.TaggedError<NotAccepting>()("NotAccepting", { port: Schema.Int }) {
  override get message() {
    return `Postgres takes no connections on port ${this.port}`
  }
}

/** Protocol 3.0's StartupMessage: a server that is up asks for a password (`R`); one that starts or stops refuses (`E`). */
const startupMessage = () => {
  const body = Buffer.from(`\0\x03\0\0user\0${role}\0database\0postgres\0\0`, "latin1")
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length + 4)
  return Buffer.concat([length, body])
}

const answersStartup = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = connect({ host: "127.0.0.1", port, timeout: 1_000 })
    const end = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.on("connect", () => socket.write(startupMessage()))
    socket.on("data", (bytes) => end(bytes[0] === "R".charCodeAt(0)))
    socket.on("error", () => end(false))
    socket.on("close", () => end(false))
    socket.on("timeout", () => end(false))
    return Effect.sync(() => socket.destroy())
  })
