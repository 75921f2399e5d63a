/**
 * A server process that a test owns and may treat badly: kill it, keep it down, start it again.
 *
 * Nothing restarts it by itself. Whatever ends it goes by its own pid and waits until it is gone; what it wrote last
 * is part of the error when it does not start. Works the same inside a test whose clock is simulated.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { Effect } from "effect"
import { onRealClock } from "./realClock.ts"

export interface ServerProcess {
  /** 0 while it is down. */
  readonly pid: () => number
  /** SIGKILL, and waits until the process is gone. The server stays down until `start`. */
  readonly kill9: Effect.Effect<void>
  /** Stops the process (SIGSTOP) as a stalled machine would, until `thaw` (SIGCONT). */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** An orderly end, SIGKILL after 10 s. */
  readonly stop: Effect.Effect<void>
  /** Starts it again on the same data and port and waits until it answers. */
  readonly start: Effect.Effect<void>
  /** kill9, then start. */
  readonly restart: Effect.Effect<void>
}

interface ServerProcessOptions<E> {
  readonly command: readonly [command: string, args: ReadonlyArray<string>]
  readonly stopSignal: NodeJS.Signals
  /** Succeeds once the server answers. */
  readonly ready: Effect.Effect<unknown, E>
}

/** Starts the process; ends it when the scope closes. */
export const serverProcess = Effect.fn("serverProcess")(function* <E>(options: ServerProcessOptions<E>) {
  const [command, args] = options.command
  let child: ChildProcess | undefined

  const start = Effect.suspend(() => {
    let log = ""
    const started = spawn(command, [...args], { stdio: ["ignore", "pipe", "pipe"], detached: true })
    child = started
    for (const stream of [started.stdout, started.stderr]) {
      stream.on("data", (bytes) => {
        log = (log + bytes).slice(-8_000)
      })
    }
    const endedEarly = Effect.andThen(
      exitOf(started),
      Effect.suspend(() => Effect.die(new Error(`${command} ended before it was ready:\n${log}`)))
    )
    return Effect.raceFirst(Effect.orDie(options.ready), endedEarly)
  }).pipe(Effect.asVoid, onRealClock)

  const signal = (name: NodeJS.Signals) =>
    Effect.sync(() => {
      if (child !== undefined && isUp(child)) child.kill(name)
    })

  const end = (name: NodeJS.Signals) =>
    Effect.suspend(() => {
      if (child === undefined || !isUp(child)) return Effect.void
      const exit = exitOf(child)
      return Effect.andThen(signal(name), exit).pipe(
        Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.andThen(signal("SIGKILL"), exit) })
      )
    }).pipe(onRealClock)

  const stop = Effect.andThen(signal("SIGCONT"), end(options.stopSignal))
  yield* Effect.acquireRelease(start, () => stop)
  return {
    pid: () => (child !== undefined && isUp(child) ? (child.pid ?? 0) : 0),
    kill9: end("SIGKILL"),
    freeze: signal("SIGSTOP"),
    thaw: signal("SIGCONT"),
    stop,
    start,
    restart: Effect.andThen(end("SIGKILL"), start)
  } satisfies ServerProcess
})

const exitOf = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    const gone = () => resume(Effect.void)
    if (!isUp(child)) return gone()
    child.once("exit", gone)
    child.once("error", gone)
  })

const isUp = (child: ChildProcess) => child.exitCode === null && child.signalCode === null && child.pid !== undefined
