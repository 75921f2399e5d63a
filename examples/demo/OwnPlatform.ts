/**
 * A platform that the demonstration starts for itself: `datamcp up` as a child process with a port and a data folder of
 * its own. It can be killed like a power cut and started again on the same data.
 *
 * Whatever was started is ended when the scope closes.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Redacted, Ref, Schedule, Schema } from "effect"
import { HttpClient } from "effect/http"

const program = fileURLToPath(new URL("../../src/cli.ts", import.meta.url))

/** The first start unpacks Postgres, and may have to fetch nats-server. */
const startWithin = "5 minutes"
/** After SIGTERM; then SIGKILL. */
const endWithin = "20 seconds"

export class PlatformProblem extends Schema.TaggedError<PlatformProblem>()("PlatformProblem", {
  message: Schema.String
}) {}

export interface OwnPlatform {
  readonly url: string
  readonly key: Redacted.Redacted
  /** The serving process, now. */
  readonly pid: Effect.Effect<number>
  /** SIGKILL to the serving process: no handler runs, nothing is flushed. Returns once it is gone. */
  readonly kill: Effect.Effect<void>
  /** Starts it again on the same data and port. Returns once it is ready. */
  readonly startAgain: Effect.Effect<void, PlatformProblem>
}

/** Starts a platform with its data in `folder` and waits until it is ready. Fails with the end of its log. */
export const startPlatform = Effect.fnUntraced(function* (folder: string) {
  mkdirSync(folder, { recursive: true })
  const port = yield* freePort
  const url = `http://127.0.0.1:${port}`
  const child = yield* Ref.make<ChildProcess | undefined>(undefined)
  const http = yield* HttpClient.HttpClient
  const start = Effect.gen(function* () {
    const started = spawnPlatform(folder, port)
    yield* Ref.set(child, started)
    yield* untilReady(url, started, folder)
  }).pipe(Effect.provideService(HttpClient.HttpClient, http))
  yield* Effect.addFinalizer(() =>
    Effect.flatMap(Ref.get(child), (last) => (last === undefined ? Effect.void : end(last)))
  )
  yield* start
  const current = Effect.flatMap(Ref.get(child), Effect.fromNullishOr).pipe(Effect.orDie)
  const platform: OwnPlatform = {
    url,
    key: Redacted.make(readFileSync(join(folder, "admin.key"), "utf8").trim()),
    pid: Effect.map(current, ({ pid }) => pid ?? 0),
    kill: Effect.flatMap(current, (running) => signal(running, "SIGKILL")),
    startAgain: start
  }
  return platform
})

const spawnPlatform = (folder: string, port: number) => {
  const log = openSync(join(folder, "platform.log"), "a")
  // Servers that the user has named are not the demonstration's to kill tasks on.
  const { DATABASE_URL: _database, NATS_URL: _nats, REDIS_URL: _redis, ...environment } = process.env
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program, "up"], {
    env: { ...environment, PORT: String(port), HOST: "127.0.0.1", DATAMCP_DATA: folder },
    stdio: ["ignore", log, log]
  })
  closeSync(log)
  return child
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null

const untilReady = (url: string, child: ChildProcess, folder: string) =>
  Effect.gen(function* () {
    if (hasEnded(child)) return yield* startProblem("The platform ended before it was ready", folder)
    const http = yield* HttpClient.HttpClient
    return yield* Effect.match(http.get(`${url}/health/ready`), {
      onFailure: () => false,
      onSuccess: ({ status }) => status === 200
    })
  }).pipe(
    Effect.repeat({ until: (ready) => ready, schedule: Schedule.spaced("100 millis") }),
    Effect.timeoutOrElse({
      duration: startWithin,
      orElse: () => startProblem(`The platform was not ready within ${startWithin}`, folder)
    }),
    Effect.asVoid
  )

const startProblem = (what: string, folder: string) => {
  const log = join(folder, "platform.log")
  const last = readFileSync(log, "utf8").trimEnd().split("\n").slice(-15).join("\n")
  return Effect.fail(new PlatformProblem({ message: `${what}. The end of ${log}:\n${last}` }))
}

const signal = (child: ChildProcess, name: NodeJS.Signals) =>
  Effect.callback<void>((resume) => {
    if (hasEnded(child)) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill(name)
  })

const end = (child: ChildProcess) =>
  signal(child, "SIGTERM").pipe(Effect.timeoutOrElse({ duration: endWithin, orElse: () => signal(child, "SIGKILL") }))

const freePort = Effect.callback<number, PlatformProblem>((resume) => {
  const probe = createServer()
  probe.on("error", (error) => resume(Effect.fail(new PlatformProblem({ message: error.message }))))
  probe.listen(0, "127.0.0.1", () => {
    const address = probe.address()
    probe.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})
