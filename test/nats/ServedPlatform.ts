/**
 * A whole node as users run it: `datamcp serve` as a child process, on a database and a nats-server of the test's own.
 * Ended by its pid when the scope closes.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Effect, Redacted, type Scope } from "effect"
import type { NatsHandle } from "../support/ServerMakers.ts"
import { freshDatabase, ownNats } from "../support/Servers.ts"

export interface ServedPlatform {
  readonly url: string
  /** The admin key of namespace `default`. */
  readonly key: string
  readonly nats: NatsHandle
  readonly databaseUrl: Redacted.Redacted
  /** Everything it wrote to stderr so far. */
  readonly logs: () => string
  readonly pid: number
  /** SIGKILL: it has no time for anything. */
  readonly kill: Effect.Effect<void>
  /** SIGTERM; resolves with the exit code and how long it took. */
  readonly stop: Effect.Effect<{ readonly code: number | null; readonly millis: number }>
}

const root = fileURLToPath(new URL("../..", import.meta.url))
const startMillis = 40_000

/** Starts it with `environment` over the defaults, or as another node `beside` one, and waits until it says where it serves. */
export const servePlatform = (
  environment: Readonly<Record<string, string>> = {},
  beside?: ServedPlatform,
  /** Folder of the program. */
  from = root
): Effect.Effect<ServedPlatform, never, Scope.Scope> =>
  Effect.gen(function* () {
    const databaseUrl = beside?.databaseUrl ?? (yield* freshDatabase())
    const nats = beside?.nats ?? (yield* ownNats())
    let output = ""
    let logs = ""
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const started = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", "src/cli.ts", "serve"], {
          cwd: from,
          stdio: ["ignore", "pipe", "pipe"],
          env: {
            PATH: process.env["PATH"],
            DATABASE_URL: Redacted.value(databaseUrl),
            DATABASE_CONNECTIONS: "6",
            NATS_URL: nats.natsUrl,
            PORT: "0",
            LOG_FORMAT: "json",
            ...environment
          }
        })
        started.stdout.on("data", (bytes: Buffer) => {
          output += bytes.toString()
        })
        started.stderr.on("data", (bytes: Buffer) => {
          logs += bytes.toString()
        })
        return started
      }),
      (running) => Effect.asVoid(ended(running))
    )
    const [url, key] = yield* until(
      child,
      () => {
        const serves = /datamcp (?:serves|works; health and metrics) on (http:\/\/[^\s"]+)/u.exec(logs)?.[1]
        const made = beside?.key ?? /dma_[A-Za-z0-9_-]+/u.exec(output)?.[0]
        return serves === undefined || made === undefined ? undefined : ([serves, made] as const)
      },
      () => `${output}\n${logs}`
    )
    const kill = Effect.promise(async () => {
      const gone = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGKILL")
      await gone
    })
    return { url, key, nats, databaseUrl, pid: child.pid ?? 0, logs: () => logs, stop: ended(child), kill }
  })

const until = <A>(child: ChildProcess, look: () => A | undefined, output: () => string) =>
  Effect.promise(async () => {
    const begun = performance.now()
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      if (child.exitCode !== null) throw new Error(`the node ended with ${child.exitCode}:\n${output()}`)
      if (performance.now() - begun > startMillis) throw new Error(`the node was not ready in time:\n${output()}`)
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  })

const ended = (child: ChildProcess) => Effect.promise(() => end(child))

/** An orderly end; SIGKILL for what has not ended in 15 s. */
const end = async (child: ChildProcess) => {
  const begun = performance.now()
  if (child.exitCode === null && child.signalCode === null) {
    const gone = new Promise((resolve) => child.once("exit", resolve))
    const hard = setTimeout(() => child.kill("SIGKILL"), 15_000)
    child.kill("SIGTERM")
    await gone
    clearTimeout(hard)
  }
  return { code: child.exitCode, millis: performance.now() - begun }
}
