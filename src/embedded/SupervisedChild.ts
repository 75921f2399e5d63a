/**
 * A server that runs as our child: started, watched, started again when it dies, and ended with our scope.
 *
 *   starting -> running -> (dies) -> waiting -> starting ...
 *                                  -> given up, when it has died too often in the window
 *
 * Guarantees: at most one process at a time; its output is always read; when the scope closes it is told to end and is
 * gone before the close returns. Where its data, port or password come from is not its business.
 */
import { Clock, Deferred, Duration, Effect, Fiber, Option, Ref, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { diskFull, EmbeddedProblem } from "./EmbeddedProblem.ts"
import type { CommandLine } from "./OsUser.ts"
import { childEnvironment } from "./Program.ts"

export interface SupervisedChild {
  /** `none` between a death and the next start. */
  readonly pid: Effect.Effect<Option.Option<number>>
  /** Deaths that were followed by a start. */
  readonly restarts: Effect.Effect<number>
  /** Never succeeds. Fails once the child has died too often: its owner should stop. */
  readonly gaveUp: Effect.Effect<never, EmbeddedProblem>
}

export interface ChildOptions<E, R> {
  readonly name: string
  readonly command: CommandLine
  readonly stopSignal: "SIGINT" | "SIGTERM"
  /** Runs before every start; for example clears what the last one left. */
  readonly prepare: Effect.Effect<void, never, R>
  /** Succeeds once the server answers. */
  readonly ready: Effect.Effect<unknown, E, R>
  /** How long it may take to end when told to, before SIGKILL; 15 s unless given. */
  readonly endsWithin?: Duration.Input
}

/** Deaths within the window after which we give up: about three minutes of failing starts. */
const deathsMax = 20
const deathWindow = Duration.minutes(5)
const backoff = { first: Duration.millis(100), most: Duration.seconds(10) }
const readyWithin = Duration.minutes(2)
const endsWithinDefault = Duration.seconds(15)
/** Characters of output kept to explain a death. */
const logCharactersMax = 8_000

/** Starts the child and returns when it is ready. Fails with `EmbeddedProblem`, quoting the child, when its first start fails. */
export const superviseChild = Effect.fn("superviseChild")(function* <E, R>(
  options: ChildOptions<E, R>
): Effect.fn.Return<SupervisedChild, EmbeddedProblem, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope | R> {
  const pid = yield* Ref.make(Option.none<number>())
  const restarts = yield* Ref.make(0)
  const firstReady = yield* Deferred.make<void, EmbeddedProblem>()
  const gaveUp = yield* Deferred.make<never, EmbeddedProblem>()

  const supervise = Effect.gen(function* () {
    let deaths: ReadonlyArray<number> = []
    for (;;) {
      const log = yield* runOnce(options, pid, firstReady)
      // The first start is the person's to mend; later ones are ours.
      if (yield* Deferred.completeWith(firstReady, Effect.fail(startFailed(options.name, log)))) return
      const now = yield* Clock.currentTimeMillis
      deaths = [...deaths.filter((at) => now - at < Duration.toMillis(deathWindow)), now]
      if (deaths.length >= deathsMax) {
        yield* Deferred.fail(gaveUp, keepsCrashing(options.name, log))
        return
      }
      yield* Ref.update(restarts, (count) => count + 1)
      const pause = pauseAfter(deaths.length)
      yield* Effect.logWarning(`${options.name} ended unexpectedly; starting it again`).pipe(
        Effect.annotateLogs({ pauseMillis: Duration.toMillis(pause), output: lastLines(log, 3) })
      )
      yield* Effect.sleep(pause)
    }
  })

  yield* Effect.forkScoped(supervise)
  yield* Deferred.await(firstReady)
  return { pid: Ref.get(pid), restarts: Ref.get(restarts), gaveUp: Deferred.await(gaveUp) }
})

/** One life of the child, to its end; answers its last words. */
const runOnce = <E, R>(
  options: ChildOptions<E, R>,
  pid: Ref.Ref<Option.Option<number>>,
  firstReady: Deferred.Deferred<void, EmbeddedProblem>
) =>
  Effect.gen(function* () {
    yield* options.prepare
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const [command, args] = options.command
    let log = ""
    const child = yield* spawner.spawn(
      ChildProcess.make(command, args, {
        env: childEnvironment(),
        stdin: "ignore",
        killSignal: options.stopSignal,
        forceKillAfter: options.endsWithin ?? endsWithinDefault
      })
    )
    yield* Ref.set(pid, Option.some(Number(child.pid)))
    yield* Effect.addFinalizer(() => Ref.set(pid, Option.none()))
    const reading = yield* child.all.pipe(
      Stream.decodeText,
      Stream.runForEach((text) =>
        Effect.sync(() => {
          log = (log + text).slice(-logCharactersMax)
        })
      ),
      Effect.ignore,
      Effect.forkScoped
    )
    const announce = options.ready.pipe(
      Effect.timeoutOrElse({ duration: readyWithin, orElse: () => Effect.fail("not ready in time") }),
      Effect.andThen(Deferred.succeed(firstReady, undefined)),
      // Not ready in time is as good as dead: end it, so that the next life can begin.
      Effect.matchEffect({ onFailure: () => Effect.void, onSuccess: () => Effect.never })
    )
    // The exit code of a process ended by a signal is a failure; both are the end.
    yield* Effect.raceFirst(Effect.ignore(child.exitCode), announce)
    // Its last words may still be in the pipe, which a process that it started can hold open.
    yield* Fiber.await(reading).pipe(Effect.timeoutOption("1 second"))
    return log
  }).pipe(
    Effect.scoped,
    Effect.catchTag("PlatformError", (error) => Effect.succeed(error.message))
  )

const pauseAfter = (deaths: number) =>
  Duration.min(Duration.times(backoff.first, 2 ** Math.min(deaths - 1, 10)), backoff.most)

const startFailed = (name: string, log: string) =>
  /No space left on device/i.test(log)
    ? diskFull(`the data of ${name}`)
    : new EmbeddedProblem({
        reason: "StartFailed",
        what: `${name} did not start. Its last words:\n${lastLines(log)}`,
        remedy: "Mend what it says and start again."
      })

const keepsCrashing = (name: string, log: string) =>
  new EmbeddedProblem({
    reason: "KeepsCrashing",
    what: `${name} has died ${deathsMax} times within ${Duration.format(deathWindow)}. Its last words:\n${lastLines(log)}`,
    remedy: "Mend what it says and start again; everything that was accepted is kept."
  })

const lastLines = (log: string, count = 8) => log.trim().split("\n").slice(-count).join("\n") || "(none)"
