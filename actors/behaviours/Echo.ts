/**
 * The behaviour `echo`: gives its payload back, and on request sleeps, takes steps, emits chunks, awaits signals or children,
 * fails, crashes, hangs or returns a result of a given size. For tests, tours and benchmarks.
 *
 * A payload that asks for nothing is not decoded at all: benchmarks run tens of thousands of them a second.
 */
import { Duration, Effect, Schema } from "effect"
import { defaultStream } from "../../protocol/Chunk.ts"
import { SignalName, StreamName } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { SubmitTask } from "../../protocol/Task.ts"
import { type Attempt, type Behaviour, BehaviourFailure, type RunAttempt } from "../Behaviour.ts"
import { parametersOf, payloadDecoder, settingsDecoder } from "./BehaviourInput.ts"

/** Largest result on request, in bytes: far above `Limits.resultBytesMax`, so that its refusal can be tried. */
const resultBytesMax = 4 * 1024 * 1024
const stepsMax = 1_000
const chunksMax = 100_000

const count = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 1, maximum }))

/** What a payload may ask for, in the order in which it happens. Every other key is only echoed. */
const requestFields = {
  /** Time to take before anything else, spread over `steps`. */
  sleep_ms: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.timeoutMillisMax }))),
  /** Progress is reported after each of so many steps. */
  steps: Schema.optionalKey(count(stepsMax)),
  /** Emits so many chunks, `{"chunk": 1}` and so on, `bytes` long if given, with a pause after each. */
  emit: Schema.optionalKey(
    Schema.Struct({
      chunks: count(chunksMax),
      stream: Schema.optionalKey(StreamName),
      pause_ms: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60_000 }))),
      bytes: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 32, maximum: 2 * Limits.chunkBytesMax })))
    })
  ),
  /** Awaits signals of these names, one after the other; the result then has their payloads as `signals`. */
  await: Schema.optionalKey(
    Schema.Array(
      Schema.Struct({
        signal: SignalName,
        timeout_ms: Schema.optionalKey(
          Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.scheduleAheadMillisMax }))
        ),
        /** Time to hold the slot before the task is parked. */
        hold_ms: Schema.optionalKey(
          Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.timeoutMillisMax }))
        )
      })
    ).check(Schema.isBetweenLength(1, 20))
  ),
  /**
   * Awaits the ends of all children that it has by then, or of so many that it submits; the result then has the ends as
   * `children`. The payload is that of each; an agent of its own type does them unless one is named.
   */
  await_children: Schema.optionalKey(
    Schema.Union([
      Schema.Literal(true),
      Schema.Struct({
        count: count(Limits.awaitedChildrenMax),
        agent: SubmitTask.fields.agent,
        payload: Schema.optionalKey(Schema.Json),
        labels: SubmitTask.fields.labels,
        hold_ms: Schema.optionalKey(
          Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.timeoutMillisMax }))
        )
      })
    ])
  ),
  /** Ends by a defect: in the first `times` attempts, or in all of them. */
  crash: Schema.optionalKey(
    Schema.Union([
      Schema.Boolean,
      Schema.Struct({
        times: Schema.optionalKey(count(Limits.attemptsMax)),
        message: Schema.optionalKey(Schema.String)
      })
    ])
  ),
  /** Ends by an expected failure: in the first `times` attempts, or in all of them. */
  fail: Schema.optionalKey(
    Schema.Union([
      Schema.Boolean,
      Schema.Struct({
        times: Schema.optionalKey(count(Limits.attemptsMax)),
        retryable: Schema.optionalKey(Schema.Boolean),
        code: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 64))),
        message: Schema.optionalKey(Schema.String),
        retry_after_ms: Schema.optionalKey(
          Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.retryDelayMillisMax }))
        )
      })
    ])
  ),
  /** Never ends by itself. */
  hang: Schema.optionalKey(Schema.Boolean),
  /** Returns `{"data": "xxx..."}` of exactly so many bytes of JSON instead of the echo. */
  result_bytes: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: emptyResultBytes(), maximum: resultBytesMax }))
  )
}

const Request = Schema.Struct(requestFields)
type Request = typeof Request.Type

const keys = Object.keys(requestFields)
const decodeRequest = payloadDecoder(Request)
/** A struct without fields would accept anything. */
const decodeSettings = settingsDecoder(
  Schema.Record(Schema.String, Schema.Json).check(
    Schema.makeFilter((settings) => Object.keys(settings).length === 0, { expected: "empty: echo has no settings" })
  )
)

const run: RunAttempt = (attempt) => {
  const asked = requestOf(attempt.payload)
  return asked === undefined
    ? Effect.succeed({ echo: attempt.payload })
    : Effect.flatMap(decodeRequest(asked), (request) => perform(attempt, request))
}

/** The part of a payload that asks for something; undefined when there is none. */
const requestOf = (payload: Schema.Json): Record<string, Schema.Json> | undefined => {
  if (payload === null || typeof payload !== "object" || Array.isArray(payload)) return undefined
  let request: Record<string, Schema.Json> | undefined
  for (const [key, value] of Object.entries<Schema.Json>(payload)) {
    if (keys.includes(key)) (request ??= {})[key] = value
  }
  return request
}

const perform = Effect.fnUntraced(function* (attempt: Attempt, request: Request) {
  yield* takeSteps(attempt, request)
  if (request.emit !== undefined) yield* emitChunks(attempt, request.emit)
  const signals = yield* awaitSignals(attempt, request.await ?? [])
  const children = request.await_children === undefined ? [] : yield* awaitChildren(attempt, request.await_children)
  if (isDue(request.crash, attempt)) return yield* Effect.die(new Error(textOf(request.crash) ?? "crashed on request"))
  if (isDue(request.fail, attempt)) return yield* failureOf(request.fail, attempt)
  if (request.hang === true) return yield* Effect.never
  return request.result_bytes === undefined
    ? {
        echo: attempt.payload,
        ...(request.await !== undefined && { signals }),
        ...(request.await_children !== undefined && { children })
      }
    : { data: "x".repeat(request.result_bytes - emptyResultBytes()) }
})

const takeSteps = Effect.fnUntraced(function* (attempt: Attempt, request: Request) {
  const steps = request.steps ?? 1
  const pause = Duration.millis((request.sleep_ms ?? 0) / steps)
  for (let step = 1; step <= steps; step++) {
    if (request.sleep_ms !== undefined) yield* Effect.sleep(pause)
    if (request.steps !== undefined) {
      yield* attempt.progress({
        percentage: Math.round((step / steps) * 100),
        current_step: `step ${step}`,
        completed_steps: step,
        total_steps: steps
      })
    }
  }
})

const emitChunks = Effect.fnUntraced(function* (attempt: Attempt, wish: NonNullable<Request["emit"]>) {
  const { bytes, chunks, pause_ms: pauseMillis = 0, stream = defaultStream } = wish
  for (let chunk = 1; chunk <= chunks; chunk++) {
    const head = `{"chunk":${chunk},"text":""}`
    yield* attempt.emit(stream, bytes === undefined ? { chunk } : { chunk, text: "x".repeat(bytes - head.length) })
    if (pauseMillis > 0) yield* Effect.sleep(Duration.millis(pauseMillis))
  }
})

const awaitSignals = (attempt: Attempt, wishes: NonNullable<Request["await"]>) =>
  Effect.forEach(wishes, ({ hold_ms: hold, signal, timeout_ms: timeout }) =>
    Effect.map(
      attempt.signal(signal, {
        ...(hold !== undefined && { hold: Duration.millis(hold) }),
        ...(timeout !== undefined && { timeout: Duration.millis(timeout) })
      }),
      ({ payload }) => payload
    )
  )

const awaitChildren = Effect.fnUntraced(function* (attempt: Attempt, wish: NonNullable<Request["await_children"]>) {
  const ends = wish === true ? yield* attempt.awaitChildren() : yield* submitAndAwait(attempt, wish)
  return ends.map(
    ({ data, error, id, left_out, status }): Schema.Json => ({
      ...{ id, status },
      ...(data !== undefined && { data }),
      ...(error !== undefined && { error: { ...error } }),
      ...(left_out === true && { left_out })
    })
  )
})

const submitAndAwait = Effect.fnUntraced(function* (
  attempt: Attempt,
  wish: Exclude<NonNullable<Request["await_children"]>, true>
) {
  const { agent, count, hold_ms: hold, labels, payload } = wish
  const child = {
    ...(agent === undefined ? { type: attempt.type } : { agent }),
    ...(payload !== undefined && { payload }),
    ...(labels !== undefined && { labels })
  }
  const ids = yield* attempt.submit(
    "children",
    Array.from({ length: count }, () => child)
  )
  return yield* attempt.awaitChildren(ids, hold === undefined ? {} : { hold: Duration.millis(hold) })
})

const isDue = (wish: boolean | { readonly times?: number } | undefined, attempt: Attempt): boolean =>
  typeof wish === "object" ? attempt.number <= (wish.times ?? Number.POSITIVE_INFINITY) : wish === true

const textOf = (wish: boolean | { readonly message?: string } | undefined) =>
  typeof wish === "object" ? wish.message : undefined

const failureOf = (wish: Request["fail"], attempt: Attempt) => {
  const options = typeof wish === "object" ? wish : {}
  return new BehaviourFailure({
    code: options.code ?? "failed_on_request",
    message: options.message ?? `attempt ${attempt.number} failed on request`,
    retryable: options.retryable ?? true,
    ...(options.retry_after_ms !== undefined && { retryAfterMillis: options.retry_after_ms })
  })
}

function emptyResultBytes() {
  return `{"data":""}`.length
}

export const echo: Behaviour = {
  idempotent: true,
  type: "echo",
  description:
    "Gives its payload back; sleeps, takes steps, emits chunks, awaits signals or children, fails, crashes or hangs on request.",
  capabilities: [
    {
      name: "echo",
      version: "1",
      description:
        "Returns {echo: payload}. The keys sleep_ms, steps, emit, await, await_children, crash, fail, hang and result_bytes ask for more; all others are only echoed.",
      parameters: parametersOf(Request)
    }
  ],
  check: decodeSettings,
  open: (settings) => Effect.as(decodeSettings(settings), run)
}
