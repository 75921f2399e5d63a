/**
 * A server process that a test owns and may treat badly: kill it, keep it down, start it again.
 *
 * Nothing restarts it by itself. `stop` ends it by its own pid and waits until it is gone; what it wrote last is part
 * of the error when it does not start.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { Effect } from "effect"

export interface ServerProcess {
  /** 0 while it is down. */
  readonly pid: () => number
  /** SIGKILL, and waits until the process is gone. The server stays down until `start`. */
  readonly kill9: Effect.Effect<void>
  /** Freezes (SIGSTOP) and thaws (SIGCONT) the process. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** An orderly end, SIGKILL after 10 s. */
  readonly stop: Effect.Effect<void>
  /** Starts it again on the same data and port and waits until it answers. */
  readonly start: Effect.Effect<void>
  /** kill9, then start. */
  readonly restart: Effect.Effect<void>
}

interface ServerProcessOptions {
  readonly command: readonly [command: string, args: ReadonlyArray<string>]
  readonly stopSignal: NodeJS.Signals
  readonly ready: () => Promise<unknown>
}

/** Starts the process; ends it when the scope closes. */
export const serverProcess = Effect.fn("serverProcess")(function* (options: ServerProcessOptions) {
  let child: ChildProcess | undefined
  let log = ""

  const start = Effect.promise(async () => {
    const [command, args] = options.command
    const started = spawn(command, [...args], { stdio: ["ignore", "pipe", "pipe"], detached: true })
    child = started
    const keep = (bytes: Buffer) => {
      log = (log + bytes.toString()).slice(-8_000)
    }
    started.stdout.on("data", keep)
    started.stderr.on("data", keep)
    const exited = new Promise((_, reject) => {
      started.once("error", reject)
      started.once("exit", (code, signal) => reject(new Error(`${command} ended (${code ?? signal}):\n${log}`)))
    })
    await Promise.race([options.ready(), exited])
  })

  const signal = (name: NodeJS.Signals) =>
    Effect.sync(() => {
      if (child !== undefined && isUp(child)) child.kill(name)
    })

  const end = (name: NodeJS.Signals) =>
    Effect.promise(async () => {
      if (child === undefined || !isUp(child)) return
      const ending = child
      const gone = new Promise((resolve) => ending.once("exit", resolve))
      ending.kill(name)
      const impatience = setTimeout(() => ending.kill("SIGKILL"), 10_000)
      await gone
      clearTimeout(impatience)
    })

  const handle: ServerProcess = {
    pid: () => (child !== undefined && isUp(child) ? (child.pid ?? 0) : 0),
    kill9: end("SIGKILL"),
    freeze: signal("SIGSTOP"),
    thaw: signal("SIGCONT"),
    stop: Effect.andThen(signal("SIGCONT"), end(options.stopSignal)),
    start,
    restart: Effect.andThen(end("SIGKILL"), start)
  }
  yield* Effect.acquireRelease(start, () => handle.stop)
  return handle
})

const isUp = (child: ChildProcess) => child.exitCode === null && child.signalCode === null
