/**
 * The program of an isolated process: it loads one module, opens its behaviour for one agent, and runs that agent's
 * attempts one at a time, until its node ends it.
 *
 * What the behaviour does to the process it does to nobody else. The process knows nothing of the node but the line to it:
 * no credentials, no database. A watchdog beside it ends it when its node is gone, whatever it is doing.
 */
import { writeFileSync } from "node:fs"
import { flushCompileCache } from "node:module"
import { constants, setPriority } from "node:os"
import { Worker } from "node:worker_threads"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { Cause, Effect, Exit, Fiber, Layer, Logger, References, Result, type Schema, Scope } from "effect"
import type { Behaviour, BehaviourFailure, BehaviourServices, RunAttempt } from "../../actors/Behaviour.ts"
import { stackOf } from "../../actors/CrashStack.ts"
import * as BehaviourModule from "../BehaviourModule.ts"
import { farArtifacts, farAttempt } from "./FarAttempt.ts"
import * as Line from "./Line.ts"
import type { AttemptFacts, FromProcess, LogLevelName, Start, ToProcess } from "./Messages.ts"
import type { WatchdogData } from "./watchdog.ts"

/** Longest text of a log entry, or of a crash, that leaves the process, in characters. */
const textCharactersMax = 4_000
/** Time between two beats of the event loop that the watchdog looks for. */
const beatEveryMillis = 100

type End = Extract<FromProcess, { readonly _tag: "Ended" }>["end"]
type Told = Exclude<ToProcess, { readonly _tag: "Answer" | "Refusal" }>

/** Read before the module is there, which may change it. */
const start: Start = JSON.parse(process.argv[2] ?? "{}")

/** When memory is short this process goes first, and it never keeps the node from its heartbeats. */
const yieldToTheNode = () => {
  Result.try(() => writeFileSync("/proc/self/oom_score_adj", "1000"))
  Result.try(() => setPriority(constants.priority.PRIORITY_BELOW_NORMAL))
}

const pulse = new SharedArrayBuffer(4)

const watched = () => {
  const workerData: WatchdogData = {
    pulse,
    residentBytesMax: start.residentBytesMax,
    unresponsiveMillis: start.unresponsiveMillis
  }
  new Worker(new URL("./watchdog.ts", import.meta.url), { workerData, execArgv: [], env: {} }).unref()
}

const beat = () => {
  const beats = new Int32Array(pulse)
  // At once too: what comes next may never let the timer run.
  Atomics.add(beats, 0, 1)
  setInterval(() => Atomics.add(beats, 0, 1), beatEveryMillis).unref()
}

const running: {
  behaviour?: Behaviour
  run?: RunAttempt
  fiber?: Fiber.Fiber<unknown, BehaviourFailure>
  /** False once an attempt has ended and until the next begins. */
  busy: boolean
} = { busy: false }

/** Of what `open` opens: closed in an orderly end of the process. */
const life = Scope.makeUnsafe()

const hear = (told: Told): void => {
  switch (told._tag) {
    case "Check":
      return void Effect.runFork(check(told.settings))
    case "Open":
      return void Effect.runFork(open(told.settings))
    case "Begin":
      running.busy = true
      running.fiber = Effect.runFork(attempt(told.attempt, told.logLevel))
      // Interrupted too, it says how it ended.
      running.fiber.addObserver((exit) => ended(Exit.isSuccess(exit) ? returned(exit.value) : endOf(exit.cause)))
      return
    case "Stop":
      line.say({ _tag: "Stopping" })
      if (running.fiber !== undefined) Effect.runFork(Fiber.interrupt(running.fiber))
      return
    case "Close":
      return void Effect.runFork(
        Effect.andThen(
          Scope.close(life, Exit.void),
          Effect.sync(() => process.exit(0))
        )
      )
  }
}

const line = Line.open({ hear, onEnd: () => process.kill(-process.pid, "SIGKILL") })

const services = Effect.runSync(
  Effect.scoped(Layer.build(Layer.mergeAll(farArtifacts(line), NodeFileSystem.layer, NodePath.layer)))
)

/** What the behaviour's effects run in: its services, and logs that its node writes. */
const surroundings =
  (logLevel: LogLevelName) =>
  <A, E>(effect: Effect.Effect<A, E, BehaviourServices>): Effect.Effect<A, E> =>
    effect.pipe(
      Effect.provideContext(services),
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, logLevel)
    )

const logger = Logger.make<unknown, void>(({ cause, fiber, logLevel, message }) => {
  const parts = (Array.isArray(message) ? message : [message]).map((part) =>
    typeof part === "string"
      ? part
      : (Result.getOrElse(
          Result.try(() => JSON.stringify(part)),
          () => "?"
        ) ?? String(part))
  )
  if (cause.reasons.length > 0) parts.push(Cause.pretty(cause))
  line.say({
    _tag: "Log",
    level: logLevel,
    message: bounded(parts.join(" ")),
    annotations: Object.fromEntries(
      Object.entries(fiber.getRef(References.CurrentLogAnnotations)).map(([key, value]) => [
        key,
        bounded(String(value))
      ])
    )
  })
})

const bounded = (text: string) => text.slice(0, textCharactersMax)

const load = Effect.gen(function* () {
  const loaded = yield* BehaviourModule.load(start.module)
  // A process that is killed keeps nothing of what it has compiled; the next one would compile it again.
  flushCompileCache()
  beat()
  if (Result.isFailure(loaded)) {
    line.say({ _tag: "Unloadable", mistakes: loaded.failure.map(bounded) })
    return
  }
  const { capabilities, description, idempotent, isolated, type } = loaded.success
  running.behaviour = loaded.success
  const traits = {
    ...{ type, description, capabilities },
    ...(idempotent !== undefined && { idempotent }),
    ...(isolated !== undefined && { isolated })
  }
  if (!line.say({ _tag: "Loaded", traits })) {
    line.say({ _tag: "Unloadable", mistakes: ["what it says of itself is too long"] })
  }
})

/** It may be plain JavaScript, which returns what it likes. */
const effectOf = <A, E, R>(make: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const made = make()
    return Effect.isEffect(made) ? made : Effect.die(new TypeError("the behaviour returned no Effect"))
  })

const check = (settings: Schema.Json) =>
  Effect.matchCause(surroundings("Info")(effectOf(() => theBehaviour().check(settings))), {
    onSuccess: () => {
      line.say({ _tag: "Checked", fault: null })
    },
    onFailure: (cause) => {
      const refused = cause.reasons.find(Cause.isFailReason)?.error
      line.say({
        _tag: "Checked",
        fault: refused === undefined ? crashOf(cause) : { _tag: "SettingsFault", message: bounded(refused.message) }
      })
    }
  })

const open = (settings: Schema.Json) =>
  effectOf(() => theBehaviour().open(settings)).pipe(
    Effect.provideService(Scope.Scope, life),
    surroundings("Info"),
    Effect.matchCause({
      onSuccess: (run) => {
        running.run = run
        line.say({ _tag: "Opened", fault: null })
      },
      onFailure: (cause) => {
        const failed = cause.reasons.find(Cause.isFailReason)?.error
        line.say({
          _tag: "Opened",
          fault:
            failed === undefined
              ? crashOf(cause)
              : failed._tag === "SettingsInvalid"
                ? { _tag: "SettingsFault", message: bounded(failed.message) }
                : failureOf(failed)
        })
      }
    })
  )

const attempt = (facts: AttemptFacts, logLevel: LogLevelName) =>
  surroundings(logLevel)(Effect.scoped(effectOf(() => theRun()(farAttempt(line, facts)))))

const ended = (end: End) => {
  if (!running.busy) return
  running.busy = false
  const residentBytes = process.memoryUsage.rss()
  if (!line.say({ _tag: "Ended", end, residentBytes })) {
    const message = "what the failure says of itself is too long"
    line.say({ _tag: "Ended", end: { _tag: "Crash", message }, residentBytes })
  }
}

const returned = (data: unknown): End => {
  const written = Result.try((): string | undefined => JSON.stringify(data))
  if (Result.isFailure(written) || written.success === undefined) {
    return { _tag: "Crash", message: "the behaviour returned something that is not JSON" }
  }
  const bytes = Buffer.byteLength(written.success)
  if (bytes > start.resultBytesMax) return { _tag: "ReturnedTooMuch", bytes }
  line.giveResult(written.success)
  return { _tag: "Returned" }
}

const endOf = (cause: Cause.Cause<BehaviourFailure>): End => {
  if (cause.reasons.some(Cause.isDieReason)) return crashOf(cause)
  const failed = cause.reasons.find(Cause.isFailReason)?.error
  return failed === undefined ? { _tag: "Interrupted" } : failureOf(failed)
}

/** Of a module with an `effect` of its own too: its class is another one, its fields are the same. */
const failureOf = ({ code, details, message, retryAfterMillis, retryable }: BehaviourFailure) => ({
  _tag: "Failure" as const,
  ...{ code, message: bounded(message), retryable },
  ...(retryAfterMillis !== undefined && { retryAfterMillis }),
  ...(details !== undefined && { details })
})

const crashOf = (cause: Cause.Cause<unknown>) => crashed(Cause.squash(cause))

const crashed = (defect: unknown) => {
  const stack = stackOf(defect)
  return {
    _tag: "Crash" as const,
    message: bounded(defect instanceof Error ? `${defect.name}: ${defect.message}` : String(defect)),
    ...(stack !== undefined && { stack })
  }
}

const theBehaviour = () => running.behaviour ?? fail("its module is not loaded")
const theRun = () => running.run ?? fail("it is not open")

function fail(what: string): never {
  throw new Error(what)
}

/** Code that nobody waits for has thrown: what it leaves behind is not known, so the process goes with it. */
const uncaught = (defect: unknown) => {
  ended(crashed(defect))
  void line.drained().then(() => process.exit(1))
}

yieldToTheNode()
watched()
process.on("uncaughtException", uncaught)
process.on("unhandledRejection", uncaught)
Effect.runFork(load)
