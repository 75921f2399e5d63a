/**
 * The engine processes of an agent instance: started when a job needs one, kept a while for the next, killed to cancel.
 *
 * Invariant: no more jobs run on a node than there are slots, a process that failed in any way is never used again, and
 * none outlives its node. A process serves one instance, thus one namespace.
 */
import { type ChildProcess, fork } from "node:child_process"
import { getCompileCacheDir } from "node:module"
import { availableParallelism } from "node:os"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { Clock, Context, Duration, Effect, Exit, Result, Schedule, Schema, type Scope, Semaphore } from "effect"
import { BehaviourFailure } from "../../Behaviour.ts"
import type { Job, JobResult } from "./Job.ts"

/** How many jobs run on this node at a time; others wait. Shared by all `sql` agents of the process. */
export const EngineSlots = Context.Reference<Semaphore.Semaphore>("datamcp/behaviours/EngineSlots", {
  defaultValue: () => Semaphore.makeUnsafe(Math.max(2, availableParallelism()))
})

/** A process that has nothing to do ends after this time. */
const idleTime = Duration.seconds(20)
/** One that still holds more memory than this after a job, in bytes, gives it back by ending. */
const residentBytesMax = 384 * 1024 * 1024
/** Heap of JavaScript in a process, in MiB; DuckDB's memory has its own limit. */
const heapMib = 256
/** How much of what a process said on stderr is told when it dies, in characters. */
const lastWordsMax = 1_000

export interface Engines {
  /**
   * Runs a job in a process of its own. Interruption kills the process. Fails with what the job fails with, or with
   * `sql_engine_died`.
   */
  readonly run: (job: Job, onStep: (step: string) => Effect.Effect<void>) => Effect.Effect<JobResult, BehaviourFailure>
}

/** Processes live as long as the scope at most. */
export const open: Effect.Effect<Engines, never, Scope.Scope> = Effect.gen(function* () {
  const slots = yield* EngineSlots
  const clock = yield* Clock.Clock
  const all = new Set<Engine>()
  /** The one that was used last comes first: the others get to rest long enough to end. */
  let idle: ReadonlyArray<{ readonly engine: Engine; readonly sinceMillis: number }> = []

  const take = Effect.sync(() => {
    const usable = idle.filter(({ engine }) => isAlive(engine))
    idle = usable.slice(1)
    const engine = usable[0]?.engine ?? start()
    all.add(engine)
    return engine
  })

  const rest = (engine: Engine) =>
    Effect.sync(() => {
      idle = [{ engine, sinceMillis: clock.currentTimeMillisUnsafe() }, ...idle]
    })

  const discard = (engine: Engine) =>
    Effect.andThen(
      kill(engine),
      Effect.sync(() => all.delete(engine))
    )

  const endIdle = Effect.gen(function* () {
    const restedSince = clock.currentTimeMillisUnsafe() - Duration.toMillis(idleTime)
    const tired = idle.filter(({ sinceMillis }) => sinceMillis <= restedSince)
    idle = idle.filter((entry) => !tired.includes(entry))
    yield* Effect.forEach(tired, ({ engine }) => discard(engine), { discard: true })
  })

  yield* Effect.addFinalizer(() => Effect.forEach(all, discard, { concurrency: "unbounded", discard: true }))
  yield* Effect.forkScoped(Effect.repeat(endIdle, Schedule.spaced(Duration.divideUnsafe(idleTime, 4))))

  const run: Engines["run"] = (job, onStep) =>
    Effect.acquireUseRelease(
      take,
      (engine) => ask(engine, job, onStep),
      (engine, exit) =>
        Exit.isSuccess(exit) && !(exit.value._tag === "Done" && exit.value.residentBytes > residentBytesMax)
          ? rest(engine)
          : discard(engine)
    ).pipe(
      Semaphore.withPermits(slots, 1),
      Effect.flatMap((answer) =>
        answer._tag === "Done"
          ? Effect.succeed(answer.result)
          : Effect.fail(new BehaviourFailure({ code: answer.code, message: answer.message, retryable: false }))
      )
    )

  return { run }
})

interface Engine {
  readonly child: ChildProcess
  readonly lastWords: () => string
}

const program = fileURLToPath(new URL("./engine.ts", import.meta.url))

/** Compiled sources, where the node keeps them (each version of Node in a folder below): a start takes a third less. */
const compileCache = getCompileCacheDir()

const start = (): Engine => {
  const child = fork(program, [], {
    execArgv: [`--max-old-space-size=${heapMib}`],
    // Nothing of the node's environment: no secrets, and no time zone but UTC.
    env: { TZ: "UTC", ...(compileCache !== undefined && { NODE_COMPILE_CACHE: dirname(compileCache) }) },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    serialization: "json"
  })
  let words = ""
  const hear = (text: string) => {
    words = `${words}${text}`.slice(-lastWordsMax)
  }
  child.stderr?.setEncoding("utf8").on("data", hear)
  child.on("error", (error) => hear(error.message))
  return { child, lastWords: () => words.trim() }
}

const isAlive = ({ child }: Engine) => child.exitCode === null && child.signalCode === null && child.connected

/** Returns when the process is gone. */
const kill = ({ child }: Engine): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

type End = typeof Done.Type | typeof Failed.Type

/** Fails only when the process cannot be used any more. */
const ask = Effect.fnUntraced(function* (
  { child, lastWords }: Engine,
  job: Job,
  onStep: (step: string) => Effect.Effect<void>
) {
  const tell = Effect.runForkWith(yield* Effect.context<never>())
  return yield* Effect.callback<End, BehaviourFailure>((resume) => {
    const end = (effect: Effect.Effect<End, BehaviourFailure>) => {
      child.off("message", onMessage).off("close", onClose).off("error", onError)
      resume(effect)
    }
    const died = (how: string) => {
      const message = `the process that ran the query ended (${how})${lastWords() === "" ? "" : `: ${lastWords()}`}`
      end(Effect.fail(new BehaviourFailure({ code: "sql_engine_died", message, retryable: true })))
    }
    const onMessage = (message: unknown) => {
      const answer = decodeAnswer(message)
      if (Result.isFailure(answer)) return died("it answered something that is no answer")
      if (answer.success._tag === "Step") tell(onStep(answer.success.step))
      else end(Effect.succeed(answer.success))
    }
    const onClose = (code: number | null, signal: NodeJS.Signals | null) => died(signal ?? `exit code ${code}`)
    const onError = (error: Error) => died(error.message)
    child.on("message", onMessage).on("close", onClose).on("error", onError)
    child.send(job, (error) => {
      if (error !== null) died(error.message)
    })
  })
})

const Column = Schema.Struct({ name: Schema.String, type: Schema.String })
const Rows = { columns: Schema.Array(Column), rows: Schema.Array(Schema.Record(Schema.String, Schema.Json)) }
const Done = Schema.TaggedStruct("Done", {
  result: Schema.Struct({
    checks: Schema.Array(
      Schema.Struct({
        table: Schema.String,
        rows: Schema.Int,
        columns: Schema.Array(Schema.Struct({ ...Column.fields, nulls: Schema.optionalKey(Schema.Int) }))
      })
    ),
    result: Schema.optionalKey(Schema.Struct({ ...Rows, rowCount: Schema.Int })),
    sections: Schema.Array(Schema.Struct(Rows))
  }),
  residentBytes: Schema.Int
})

const Failed = Schema.TaggedStruct("Failed", { code: Schema.String, message: Schema.String })

/** A process that a query has taken over may say anything. */
const decodeAnswer = Schema.decodeUnknownResult(
  Schema.Union([Schema.TaggedStruct("Step", { step: Schema.String }), Done, Failed])
)
