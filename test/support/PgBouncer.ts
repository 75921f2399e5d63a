/**
 * A real PgBouncer in transaction mode before a Postgres of a test's own: found on the PATH, or fetched once through this machine's
 * apt (`DebianPackage`) into the tools folder of the clone, without installing anything.
 */
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Option, Redacted } from "effect"
import { inject } from "vitest"
import * as DebianPackage from "../../src/embedded/DebianPackage.ts"
import { serverAs } from "../../src/embedded/OsUser.ts"
import { awaitAccepting } from "../../src/embedded/PostgresServer.ts"
import { succeeds } from "../../src/embedded/Program.ts"
import { onRealClock } from "./realClock.ts"
import { freePort, type PostgresHandle, password } from "./ServerMakers.ts"
import { type ServerProcess, serverProcess } from "./ServerProcess.ts"
import { ownFolder } from "./Servers.ts"

export interface PgBouncerHandle extends ServerProcess {
  readonly port: number
  /** Of the database `postgres`, by way of the pooler. */
  readonly url: Redacted.Redacted
}

const tools = fileURLToPath(new URL("../../.datamcp/tools/pgbouncer", import.meta.url))

/** What a slim system lacks of what it is linked with; later releases of Debian have another name for one of them. */
const libraries = [
  ["libevent-2.1-7", "libc-ares2"],
  ["libevent-2.1-7t64", "libc-ares2"]
] as const

interface Program {
  readonly path: string
  /** Where its libraries are, when they came with it. */
  readonly libraryFolder: string | undefined
}

/** A PgBouncer that runs on this machine, or why there is none. */
export const pgBouncerProgram: Effect.Effect<Program | { readonly missing: string }> = Effect.gen(function* () {
  for (const path of ["pgbouncer", "/usr/sbin/pgbouncer"]) {
    if (yield* succeeds(path, ["--version"])) return { path, libraryFolder: undefined }
  }
  if (!existsSync(tools)) {
    if (!(yield* DebianPackage.isAvailable)) {
      return { missing: "there is no pgbouncer on the PATH, and no apt-get to fetch it with" }
    }
    const draft = `${tools}.${process.pid}`
    mkdirSync(draft, { recursive: true })
    const fetched = yield* Effect.result(
      Effect.firstSuccessOf(libraries.map((names) => DebianPackage.unpack(["pgbouncer", ...names], "own", draft))).pipe(
        Effect.timeout("2 minutes")
      )
    )
    if (fetched._tag === "Success") renameSync(join(draft, "unpacked"), tools)
    rmSync(draft, { recursive: true, force: true })
    if (fetched._tag === "Failure") return { missing: `it could not be fetched: ${fetched.failure.message}` }
  }
  const [folder] = readdirSync(join(tools, "usr/lib")).map((name) => join(tools, "usr/lib", name))
  const program = { path: join(tools, "usr/sbin/pgbouncer"), libraryFolder: folder }
  const [command, args] = started(program, ["--version"])
  return (yield* succeeds(command, args)) ? program : { missing: "the one that apt offers does not run here" }
}).pipe(Effect.provide(NodeServices.layer), onRealClock)

const started = ({ libraryFolder, path }: Program, args: ReadonlyArray<string>) =>
  ["env", [...(libraryFolder === undefined ? [] : [`LD_LIBRARY_PATH=${libraryFolder}`]), path, ...args]] as const

/** Starts it in transaction mode with `poolSize` sessions on `postgres`, as docs/operations.md says. */
export const startPgBouncer = (found: Program, postgres: PostgresHandle, poolSize: number) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const folder = ownFolder("pgbouncer-")
    const user = Option.fromNullOr(inject("machine").user)
    // Its user may not be let into the clone.
    const program =
      found.libraryFolder === undefined
        ? found
        : { path: join(folder, "pgbouncer"), libraryFolder: join(folder, "libraries") }
    if (program !== found && found.libraryFolder !== undefined) {
      cpSync(found.path, program.path)
      cpSync(found.libraryFolder, join(folder, "libraries"), { recursive: true })
      chmodSync(program.path, 0o755)
    }
    const url = new URL(Redacted.value(postgres.url()))
    writeFileSync(join(folder, "users.txt"), `"${url.username}" "${Redacted.value(password)}"\n`)
    writeFileSync(
      join(folder, "pgbouncer.ini"),
      [
        "[databases]",
        `postgres = host=127.0.0.1 port=${postgres.port} dbname=postgres`,
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        `listen_port = ${port}`,
        "unix_socket_dir =",
        "pool_mode = transaction",
        "auth_type = scram-sha-256",
        `auth_file = ${join(folder, "users.txt")}`,
        `default_pool_size = ${poolSize}`,
        "max_client_conn = 2000",
        ""
      ].join("\n")
    )
    const server = yield* serverProcess({
      command: yield* serverAs(user, started(program, [join(folder, "pgbouncer.ini")]), "SIGINT"),
      stopSignal: "SIGINT",
      ready: awaitAccepting(port)
    })
    url.port = String(port)
    return { ...server, port, url: Redacted.make(url.href) } satisfies PgBouncerHandle
  }).pipe(Effect.provide(NodeServices.layer), Effect.orDie)
