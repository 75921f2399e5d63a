/**
 * A behaviour whose code runs in processes of its own: to the node it looks like any other. Its attempts share nothing
 * with the node, with each other, or with those of another agent but the line to the node.
 *
 *   take (ready one, or a new one) --> open --> attempt --> clean? rest, for the next
 *                                                  '------> else the process goes with it
 *
 * Invariant: a process runs one attempt at a time, for one agent under one definition; after a crash, a kill or a breach
 * it is never used again; those at work on a node are bounded, those at rest end after a while; none outlives the scope.
 */
import { Clock, Duration, Effect, Latch, Metric, References, Result, Schedule, Schema, Semaphore } from "effect"
import { type Attempt, AttemptLost, type Behaviour, BehaviourFailure, SettingsInvalid } from "../../actors/Behaviour.ts"
import * as Isolation from "../../actors/Isolation.ts"
import * as LargeData from "../../actors/LargeData.ts"
import type { Isolation as Asked } from "../../protocol/Agent.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { TaskProgress } from "../../protocol/Task.ts"
import type { Traits } from "../BehaviourModule.ts"
import * as AttemptServer from "./AttemptServer.ts"
import { type Bounds, type IsolatedProcess, ProcessDeath, start } from "./IsolatedProcess.ts"
import type { Failure, FromProcess, LogLevelName } from "./Messages.ts"

/** What isolated behaviours of a node share. */
export interface IsolationHost {
  /** Attempts that run in processes at a time; others wait. */
  readonly slots: Semaphore.Semaphore
  /** Processes that only look at settings at a time. */
  readonly checks: Semaphore.Semaphore
  /** All that a process gets to know of the node's environment. */
  readonly environment: Readonly<Record<string, string>>
  /** Processes that live now. */
  readonly alive: Set<IsolatedProcess>
}

export const makeHost = (options: {
  readonly processesMax: number
  readonly environment: Readonly<Record<string, string>>
}): IsolationHost => ({
  slots: Semaphore.makeUnsafe(options.processesMax),
  checks: Semaphore.makeUnsafe(2),
  environment: options.environment,
  alive: new Set()
})

/** How long a module may take to load, and a behaviour to open or to look at settings. */
const readyWithin = Duration.seconds(30)
const checkWithin = Duration.seconds(10)
/** A process that has nothing to do ends after this time, but for the last one of an instance. */
const idleTime = Duration.seconds(20)
/** One that still holds more than this share of its memory after an attempt gives it back by ending. */
const restingShare = 0.75
/** How long a process may take to notice that its attempt is cancelled, and then to clean up. */
const noticeWithin = Duration.seconds(1)
const cleanUpWithin = Duration.seconds(4)
/** Log entries and pieces of output of one process per second that are passed on; others are dropped. */
const entriesPerSecond = 100

/** What a module says of itself, or all that is wrong with it, learned in a process that ends with it. */
export const describe = (host: IsolationHost, module: string): Effect.Effect<Traits, ReadonlyArray<string>> =>
  withProcess(host, module, (held) => loaded(held.process)).pipe(
    Effect.timeoutOrElse({
      duration: readyWithin,
      orElse: () => Effect.fail([`it cannot be loaded: it takes more than ${Duration.format(readyWithin)}`])
    }),
    Effect.mapError((error) => (error instanceof ProcessDeath ? [`it cannot be loaded: ${error.message}`] : error))
  )

/** The behaviour of a module that `describe` has described so. */
export const make = (host: IsolationHost, module: string, traits: Traits): Behaviour => ({
  ...traits,
  isolated: true,
  check: (settings) =>
    withProcess(host, module, ({ process }) =>
      Effect.andThen(
        loaded(process),
        process.ask({ _tag: "Check", settings }, (said) => (said._tag === "Checked" ? said : undefined))
      )
    ).pipe(
      Effect.mapError((error) => (error instanceof ProcessDeath ? error.message : error.join("; "))),
      Effect.timeoutOrElse({
        duration: checkWithin,
        orElse: () => Effect.fail(`looking at them takes more than ${Duration.format(checkWithin)}`)
      }),
      Effect.flatMap(({ fault }) => (fault === null ? Effect.void : Effect.fail(fault.message))),
      Effect.mapError((message) => new SettingsInvalid({ message })),
      Semaphore.withPermits(host.checks, 1)
    ),
  open: (settings, asked = {}) => openPool(host, module, settings, asked)
})

/** A process for the time of one use. */
const withProcess = <A, E>(host: IsolationHost, module: string, use: (held: Held) => Effect.Effect<A, E>) =>
  Effect.flatMap(LargeData.LargeDataLimits, ({ bytesMax }) =>
    Effect.acquireUseRelease(startOne(host, module, boundsOf({}, bytesMax)), use, ({ process }) => process.kill())
  )

const boundsOf = ({ memory_mb, unresponsive_ms }: Asked, resultBytesMax: number): Bounds => ({
  memoryMib: memory_mb ?? Isolation.defaults.memoryMib,
  unresponsiveMillis: unresponsive_ms,
  resultBytesMax
})

/** A process with what its node keeps of it. */
interface Held {
  readonly process: IsolatedProcess
  /** Writes down what it says, within its bound. */
  readonly note: (level: LogLevelName, message: string, annotations?: Readonly<Record<string, string>>) => void
  /** Of the attempt that it runs. */
  attempt: Attempt | undefined
  opened: boolean
  /** It may run another attempt. */
  clean: boolean
  restedSince: number
}

const startOne = Effect.fnUntraced(function* (host: IsolationHost, module: string, bounds: Bounds) {
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const clock = yield* Clock.Clock
  let second = 0
  let entries = 0
  const note: Held["note"] = (level, message, annotations = {}) => {
    const now = Math.floor(clock.currentTimeMillisUnsafe() / 1_000)
    entries = now === second ? entries + 1 : 1
    second = now
    if (entries > entriesPerSecond) return
    const task = held.attempt === undefined ? {} : { task: held.attempt.taskId, attempt: held.attempt.number }
    const severity = level === "All" || level === "None" ? "Info" : level
    fork(Effect.annotateLogs(Effect.logWithLevel(severity)(message), { ...annotations, ...task }))
  }
  const process = start({
    ...{ module, bounds, environment: host.environment },
    onOutput: (text) => note("Info", `an isolated behaviour printed: ${text.trimEnd().slice(0, 2_000)}`),
    onDeath: (death) => {
      host.alive.delete(process)
      if (death === undefined) return
      fork(Metric.update(Metrics.isolatedKills({ reason: death.reason }), 1))
      note("Warn", `a process of an isolated behaviour is gone (${death.reason}): ${death.message}`)
    }
  })
  host.alive.add(process)
  const held: Held = { process, note, attempt: undefined, opened: false, clean: false, restedSince: 0 }
  return held
})

const loaded = (process: IsolatedProcess): Effect.Effect<Traits, ProcessDeath | ReadonlyArray<string>> =>
  Effect.flatMap(
    process.ask(undefined, (said) => (said._tag === "Loaded" || said._tag === "Unloadable" ? said : undefined)),
    (said) => (said._tag === "Loaded" ? Effect.succeed(said.traits) : Effect.fail(said.mistakes))
  )

/** The processes of one instance under one definition of its agent. */
const openPool = Effect.fnUntraced(function* (
  host: IsolationHost,
  module: string,
  settings: Schema.Json,
  asked: Asked
) {
  const { bytesMax } = yield* LargeData.LargeDataLimits
  const clock = yield* Clock.Clock
  const bounds = boundsOf(asked, bytesMax)
  const all = new Set<Held>()
  /** The one that was used last comes first: the others get to rest long enough to end. */
  let idle: ReadonlyArray<Held> = []

  const take = Effect.suspend(() => {
    const usable = idle.filter(({ process }) => process.isAlive())
    idle = usable.slice(1)
    const [first] = usable
    if (first !== undefined) return Effect.succeed(first)
    return Effect.tap(startOne(host, module, bounds), (held) => Effect.sync(() => all.add(held)))
  })

  const giveBack = (held: Held) =>
    Effect.suspend(() => {
      held.attempt = undefined
      if (held.clean && held.process.isAlive()) {
        held.restedSince = clock.currentTimeMillisUnsafe()
        idle = [held, ...idle]
        return Effect.void
      }
      all.delete(held)
      return held.process.kill()
    })

  const closeOne = (held: Held) =>
    Effect.andThen(
      held.process.close,
      Effect.sync(() => all.delete(held))
    )

  const endIdle = Effect.suspend(() => {
    const restedSince = clock.currentTimeMillisUnsafe() - Duration.toMillis(idleTime)
    const tired = idle.slice(1).filter((held) => held.restedSince <= restedSince)
    idle = idle.filter((held) => !tired.includes(held) && held.process.isAlive())
    return Effect.forEach(tired, closeOne, { concurrency: "unbounded", discard: true })
  })

  yield* Effect.addFinalizer(() =>
    Effect.forEach(all, (held) => (idle.includes(held) ? closeOne(held) : held.process.kill()), {
      concurrency: "unbounded",
      discard: true
    })
  )
  // What does not open is told before there is anything to run.
  yield* Effect.acquireUseRelease(
    take,
    (held) => Effect.tap(ready(held, settings), () => Effect.sync(() => (held.clean = true))),
    giveBack
  )
  yield* Effect.forkScoped(Effect.repeat(endIdle, Schedule.spaced(Duration.divideUnsafe(idleTime, 4))))

  return (attempt: Attempt) =>
    Effect.acquireUseRelease(
      take,
      (held) =>
        Effect.andThen(
          Effect.mapError(ready(held, settings), (error) =>
            error._tag === "BehaviourFailure"
              ? error
              : new BehaviourFailure({ code: "open_failed", message: error.message, retryable: true })
          ),
          run(held, attempt, bounds)
        ),
      giveBack
    ).pipe(Semaphore.withPermits(host.slots, 1))
})

/** Loads and opens what is not open yet. */
const ready = Effect.fnUntraced(function* (
  held: Held,
  settings: Schema.Json
): Effect.fn.Return<void, SettingsInvalid | BehaviourFailure> {
  if (held.opened) return
  const { process } = held
  const read = (said: FromProcess) => {
    if (said._tag === "Log") held.note(said.level, said.message, said.annotations)
    if (said._tag === "Call") process.tell({ _tag: "Refusal", call: said.call, failure: noAttempt })
    return said._tag === "Opened" ? said : undefined
  }
  const { fault } = yield* Effect.andThen(loaded(process), process.ask({ _tag: "Open", settings }, read)).pipe(
    Effect.mapError(
      (error) =>
        new BehaviourFailure({
          code: "open_failed",
          message: error instanceof ProcessDeath ? error.message : error.join("; "),
          retryable: true
        })
    ),
    Effect.timeoutOrElse({ duration: readyWithin, orElse: () => Effect.fail(opensTooSlowly) })
  )
  if (fault?._tag === "SettingsFault") return yield* new SettingsInvalid({ message: fault.message })
  if (fault?._tag === "Failure") return yield* failureOf(fault)
  if (fault?._tag === "Crash") {
    return yield* new BehaviourFailure({ code: "open_failed", message: fault.message, retryable: true })
  }
  held.opened = true
})

const noAttempt = {
  _tag: "Fault" as const,
  reason: "unavailable" as const,
  message: "a behaviour reaches its node only while an attempt runs"
}

const opensTooSlowly = new BehaviourFailure({
  code: "open_failed",
  message: `it takes more than ${Duration.format(readyWithin)} to load and open`,
  retryable: true
})

type End = Extract<FromProcess, { readonly _tag: "Ended" }>["end"]

/** One attempt in a process that is open. */
const run = Effect.fnUntraced(function* (held: Held, attempt: Attempt, bounds: Bounds) {
  const { process } = held
  const logLevel = yield* References.MinimumLogLevel
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const serve = yield* AttemptServer.serve(attempt, process.tell)
  const noticed = Latch.makeUnsafe(false)
  const over = Latch.makeUnsafe(false)
  held.attempt = attempt
  held.clean = false

  const read = (said: FromProcess): End | undefined => {
    switch (said._tag) {
      case "Call":
        if (!serve(said)) fork(process.kill("message_limit", "it had more calls open than it may"))
        return
      case "Progress": {
        const progress = decodeProgress(said.progress)
        if (Result.isSuccess(progress)) fork(attempt.progress(progress.success))
        return
      }
      case "Log":
        held.note(said.level, said.message, said.annotations)
        return
      case "Stopping":
        noticed.openUnsafe()
        return
      case "Ended":
        // Before anybody who waits for the end looks at it.
        held.clean = said.end._tag !== "Crash" && said.residentBytes <= bounds.memoryMib * 1024 * 1024 * restingShare
        noticed.openUnsafe()
        over.openUnsafe()
        return said.end
      // Answers to what nobody asks while an attempt runs.
      case "Loaded":
      case "Unloadable":
      case "Checked":
      case "Opened":
        return
    }
  }

  /** Told to stop, it gets time to clean up; one that does not even notice gets none. */
  const stop = Effect.gen(function* () {
    process.tell({ _tag: "Stop" })
    const hasNoticed = yield* within(noticed, process, noticeWithin)
    if (!hasNoticed) return yield* process.kill("unresponsive", "it did not notice that it was cancelled")
    const isOver = yield* within(over, process, cleanUpWithin)
    if (!isOver) return yield* process.kill("unresponsive", "it did not clean up after it was cancelled")
  })

  const facts = {
    ...{ taskId: attempt.taskId, namespace: attempt.namespace, graphId: attempt.graphId, name: attempt.name },
    ...{ type: attempt.type, number: attempt.number, payload: attempt.payload },
    ...{ idempotencyKey: attempt.idempotencyKey, timeoutMillis: Duration.toMillis(attempt.timeout) }
  }
  const end = yield* Effect.catchTag(
    process.ask({ _tag: "Begin", attempt: facts, logLevel }, read, stop),
    "ProcessDeath",
    ({ message, reason }) => Effect.die(new AttemptLost({ code: reason, message }))
  )
  switch (end._tag) {
    case "Returned": {
      const data: Schema.Json = JSON.parse(process.takeResult())
      return data
    }
    case "ReturnedTooMuch": {
      const message = `the result has ${end.bytes} bytes; at most ${bounds.resultBytesMax} are kept, save larger data as an artifact`
      return yield* new BehaviourFailure({ code: "result_too_large", message, retryable: false })
    }
    case "Failure":
      return yield* failureOf(end)
    case "Interrupted":
      return yield* crashed(process, "the behaviour interrupted itself")
    case "Crash":
      return yield* crashed(process, end.message, end.stack)
  }
}, Effect.scoped)

/** What it leaves behind in its process is not known: that goes with it. */
const crashed = (process: IsolatedProcess, message: string, stack?: string) =>
  Effect.andThen(
    process.kill("crashed", message),
    Effect.die(new AttemptLost({ code: "crashed", message, ...(stack !== undefined && { details: { stack } }) }))
  )

/** True when the latch opens, or the process is gone, within the time. */
const within = (latch: Latch.Latch, process: IsolatedProcess, duration: Duration.Duration) =>
  Effect.raceFirst(Effect.as(latch.await, true), Effect.as(process.gone, true)).pipe(
    Effect.timeoutOrElse({ duration, orElse: () => Effect.succeed(false) })
  )

const failureOf = ({ _tag: _, ...fields }: typeof Failure.Type) => new BehaviourFailure(fields)

const decodeProgress = Schema.decodeUnknownResult(TaskProgress)
