/**
 * The nodes of a proof: `datamcp serve` as child processes, killed with SIGKILL and started again under their names, as an operator's
 * supervisor would.
 *
 *   starting -> up -> (killed, or ended by itself) -> down -> starting ...
 *
 * Each has a port and a log of its own. All are gone when the scope has closed, also after Ctrl-C; where the system can do so they die with
 * this process, however it dies.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Deferred, Effect, Option, Schedule } from "effect"
import { serverAs } from "../embedded/OsUser.ts"
import { ProofProblem } from "./ProofProblem.ts"

export interface ProofNode {
  readonly name: string
  readonly url: string
  readonly isUp: () => boolean
  /** SIGKILL; started again after `downMillis`. False when it is down already, or still starting. */
  readonly kill: (downMillis: number) => Effect.Effect<boolean>
}

export interface ProofNodes {
  readonly all: ReadonlyArray<ProofNode>
  /** Those that serve now. */
  readonly up: () => ReadonlyArray<ProofNode>
  /** Ends of nodes that nobody killed, for example of one that found no Postgres at its start. */
  readonly endedByThemselves: () => number
  /** Never succeeds. Fails when a node cannot be started. */
  readonly gaveUp: Effect.Effect<never, ProofProblem>
}

const program = fileURLToPath(new URL("../cli.ts", import.meta.url))

const readyWithin = "60 seconds"
/** After SIGTERM; then SIGKILL. */
const endWithin = "5 seconds"
/** Before a node that ended by itself is started again. */
const pauseMillis = 500
/** Starts in a row after which a node that never was ready is given up. */
const startsMax = 20

interface NodesOptions {
  /** Names are `<prefix>-0`, `<prefix>-1`, ... */
  readonly prefix: string
  readonly count: number
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
}

/** Starts all and returns when all serve. Fails with the end of the log of one that does not. */
export const start = Effect.fnUntraced(function* (options: NodesOptions) {
  const gaveUp = yield* Deferred.make<never, ProofProblem>()
  let alone = 0
  const makers = yield* Effect.forEach(
    Array.from({ length: options.count }, (_, index) => `${options.prefix}-${index}`),
    (name) => makeNode(name, options, () => alone++)
  )
  // All in one fiber, so that they are told to end at the same time.
  yield* Effect.all(
    makers.map(({ run }) => run),
    { concurrency: "unbounded", discard: true }
  ).pipe(
    Effect.catch((problem) => Deferred.fail(gaveUp, problem)),
    Effect.forkScoped
  )
  const all = makers.map(({ node }) => node)
  const allUp = Effect.repeat(
    Effect.sync(() => all.every(({ isUp }) => isUp())),
    { until: (up) => up, schedule: Schedule.spaced("50 millis") }
  )
  yield* Effect.raceFirst(allUp, Deferred.await(gaveUp))
  return {
    all,
    up: () => all.filter(({ isUp }) => isUp()),
    endedByThemselves: () => alone,
    gaveUp: Deferred.await(gaveUp)
  } satisfies ProofNodes
})

const makeNode = Effect.fnUntraced(function* (name: string, options: NodesOptions, endedByItself: () => void) {
  const port = yield* freePort
  const url = `http://127.0.0.1:${port}`
  const log = join(options.folder, `${name}.log`)
  const command = yield* serverAs(
    Option.none(),
    [process.execPath, ["--disable-warning=ExperimentalWarning", program, "serve"]],
    "SIGTERM"
  )
  let running: ChildProcess | undefined
  let up = false
  let killed = false
  let downMillis = pauseMillis

  const begin = Effect.sync(() => {
    const output = openSync(log, "a")
    const child = spawn(command[0], [...command[1]], {
      env: {
        ...process.env,
        LOG_LEVEL: "warn",
        ...options.environment,
        HOST: "127.0.0.1",
        PORT: String(port),
        DATAMCP_NODE_NAME: name,
        DATAMCP_DATA: join(options.folder, name)
      },
      stdio: ["ignore", output, output],
      // Ctrl-C is for this process, which then ends its nodes itself.
      detached: true
    })
    closeSync(output)
    killed = false
    running = child
    return child
  })

  const life = (child: ChildProcess) =>
    Effect.gen(function* () {
      const ready = yield* Effect.raceFirst(Effect.as(untilReady(url), true), Effect.as(exitOf(child), false)).pipe(
        Effect.timeoutOrElse({ duration: readyWithin, orElse: () => Effect.succeed(false) })
      )
      up = ready
      if (ready) yield* exitOf(child)
      up = false
      if (!killed) endedByItself()
      return ready
    })

  const run = Effect.gen(function* () {
    for (let failed = 0; ; ) {
      const ready = yield* Effect.acquireUseRelease(begin, life, (child) =>
        Effect.andThen(
          Effect.sync(() => {
            up = false
          }),
          end(child)
        )
      )
      failed = ready || killed ? 0 : failed + 1
      if (failed >= startsMax) return yield* notStarted(name, log)
      yield* Effect.sleep(killed ? downMillis : pauseMillis)
    }
  })

  const node: ProofNode = {
    name,
    url,
    isUp: () => up,
    kill: (millis) =>
      Effect.sync(() => {
        if (!up || running === undefined) return false
        up = false
        killed = true
        downMillis = millis
        return running.kill("SIGKILL")
      })
  }
  return { node, run }
})

const untilReady = (url: string) =>
  Effect.tryPromise((signal) =>
    fetch(`${url}/health/ready`, { signal }).then(async (response) => {
      await response.arrayBuffer()
      return response.ok
    })
  ).pipe(
    Effect.timeout("2 seconds"),
    Effect.orElseSucceed(() => false),
    Effect.repeat({ until: (ready) => ready, schedule: Schedule.spaced("50 millis") })
  )

const hasEnded = (child: ChildProcess) =>
  child.exitCode !== null || child.signalCode !== null || child.pid === undefined

const exitOf = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    const gone = () => resume(Effect.void)
    if (hasEnded(child)) return gone()
    child.once("exit", gone)
    child.once("error", gone)
  })

const end = (child: ChildProcess) =>
  Effect.suspend(() => {
    if (hasEnded(child)) return Effect.void
    child.kill("SIGTERM")
    return exitOf(child).pipe(
      Effect.timeoutOrElse({
        duration: endWithin,
        orElse: () =>
          Effect.suspend(() => {
            child.kill("SIGKILL")
            return exitOf(child)
          })
      })
    )
  })

const notStarted = (name: string, log: string) =>
  Effect.suspend(() => {
    const last = readFileSync(log, "utf8").trimEnd().split("\n").slice(-15).join("\n")
    return Effect.fail(
      new ProofProblem({ message: `Node ${name} ended ${startsMax} times at its start. The end of its log:\n${last}` })
    )
  })

const freePort = Effect.callback<number, ProofProblem>((resume) => {
  const probe = createServer()
  probe.on("error", (error) => resume(Effect.fail(new ProofProblem({ message: error.message }))))
  probe.listen(0, "127.0.0.1", () => {
    const address = probe.address()
    probe.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})
