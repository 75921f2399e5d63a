/**
 * Runs one attempt of a task: references replaced, the behaviour called in a scope of its own, its deadline kept, and
 * whatever it comes to said as an `AttemptEnd`. It never fails, and it does not touch the task's state.
 */
import { Cause, Duration, Effect, Exit, Fiber, JsonPointer, Option, Schema } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import * as Limits from "../protocol/Limits.ts"
import { storable, storableJson } from "../protocol/Storable.ts"
import type { TaskProgress } from "../protocol/Task.ts"
import { artifactFailure } from "./ArtifactFailure.ts"
import { BehaviourFailure, type RunAttempt } from "./Behaviour.ts"
import { stackOf } from "./CrashStack.ts"
import * as LargeData from "./LargeData.ts"
import { Ledger } from "./ports/Ledger.ts"
import * as Routing from "./Routing.ts"
import type { AttemptEnd } from "./TaskLifecycle.ts"

/** Longest text of an error that is kept, in characters. */
const messageCharactersMax = 4_000

/**
 * `nowMillis` is when the attempt begins. The behaviour has a fiber of its own, so that one whose clean-up hangs costs no
 * more than `cleanUpWithin`: after that it is left behind. Interrupts itself with its caller.
 */
export const run = (input: {
  readonly order: TaskOrder
  readonly number: number
  readonly payload: Schema.Json | undefined
  readonly behaviour: RunAttempt
  readonly progress: (progress: TaskProgress) => Effect.Effect<void>
  readonly nowMillis: number
  readonly cleanUpWithin: Duration.Duration
}) => {
  const { order } = input
  const configured = order.timeout_ms ?? Routing.defaults.timeoutMillis
  const untilDeadline =
    order.deadline === undefined ? Number.POSITIVE_INFINITY : Date.parse(order.deadline) - input.nowMillis
  const timeoutMillis = Math.max(0, Math.min(configured, untilDeadline))
  const timeout = Duration.millis(timeoutMillis)
  const timedOut: AttemptEnd = { _tag: "TimedOut", afterMillis: timeoutMillis, deadline: untilDeadline <= configured }
  const work = Effect.flatMap(resolved(order, input.payload ?? order.payload ?? null), (payload) =>
    Effect.scoped(
      input.behaviour({
        taskId: order.id,
        namespace: order.namespace,
        graphId: order.graph_id,
        name: order.name,
        type: order.type,
        number: input.number,
        payload,
        idempotencyKey: order.id,
        timeout,
        progress: input.progress
      })
    )
  ).pipe(Effect.flatMap((data) => returned(order, data)))
  const abandon = (fiber: Fiber.Fiber<unknown, unknown>) =>
    Effect.timeoutOrElse(Fiber.interrupt(fiber), {
      duration: input.cleanUpWithin,
      orElse: () => Effect.logWarning("an interrupted attempt does not end and is left behind")
    }).pipe(Effect.annotateLogs({ task: order.id, attempt: input.number }))
  return Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      if (timeoutMillis === 0) return timedOut
      const fiber = yield* Effect.forkDetach(work, { startImmediately: true })
      const exit =
        fiber.pollUnsafe() ??
        (yield* restore(Effect.timeoutOption(Fiber.await(fiber), timeout)).pipe(
          Effect.onInterrupt(() => abandon(fiber)),
          Effect.map(Option.getOrUndefined)
        ))
      if (exit !== undefined) return Exit.isSuccess(exit) ? exit.value : endOfCause(exit.cause)
      yield* abandon(fiber)
      return timedOut
    })
  )
}

const returned = (order: TaskOrder, data: Schema.Json) => {
  const written: string | undefined = JSON.stringify(data)
  if (written === undefined) {
    const message = "the behaviour returned something that is not JSON"
    return Effect.succeed<AttemptEnd>({ _tag: "Crashed", message })
  }
  const text = storableJson(written)
  const dataBytes = text.length <= 64 * 1024 ? text.length : new TextEncoder().encode(text).length
  if (dataBytes > Limits.resultBytesMax) return kept(order, text, dataBytes)
  return Effect.succeed<AttemptEnd>({
    _tag: "Returned",
    data: text === written ? data : JSON.parse(text),
    dataBytes
  })
}

/** A result that is too large for its task's row, as an artifact; one that is too large for that as it is, to be refused. */
const kept = Effect.fnUntraced(function* ({ id, namespace }: TaskOrder, text: string, dataBytes: number) {
  const { bytesMax } = yield* LargeData.LargeDataLimits
  if (dataBytes > bytesMax) {
    const tooLarge: AttemptEnd = { _tag: "ReturnedTooMuch", dataBytes, bytesMax }
    return tooLarge
  }
  const data = yield* Effect.mapError(LargeData.keep({ namespace, owner: id, name: "result", text }), artifactFailure)
  const end: AttemptEnd = { _tag: "Returned", data, dataBytes: JSON.stringify(data).length }
  return end
})

const endOfCause = (cause: Cause.Cause<BehaviourFailure>): AttemptEnd => {
  const crash = cause.reasons.find(Cause.isDieReason)
  if (crash !== undefined) {
    const { defect } = crash
    return {
      _tag: "Crashed",
      message: bounded(defect instanceof Error ? `${defect.name}: ${defect.message}` : String(defect)),
      stack: stackOf(defect)
    }
  }
  const failure = cause.reasons.find(Cause.isFailReason)?.error
  // Nobody interrupted it but itself: given back without counting, it would come again for ever.
  if (failure === undefined) return { _tag: "Crashed", message: "the behaviour interrupted itself" }
  return {
    _tag: "Failed",
    retryable: failure.retryable,
    retryAfterMillis: failure.retryAfterMillis,
    error: {
      code: failure.code,
      message: bounded(failure.message),
      ...(failure.details !== undefined && { details: failure.details })
    }
  }
}

const bounded = (text: string) =>
  text.length <= messageCharactersMax
    ? storable(text)
    : `${storable(text.slice(0, messageCharactersMax))}... (${text.length} characters)`

/** The payload, brought back from its artifact, with every `$result` reference replaced by that task's result data. */
const resolved = (order: TaskOrder, payload: Schema.Json) => {
  const artifact = LargeData.referenceOf(payload)
  return artifact === undefined
    ? withResults(order, payload)
    : Effect.flatMap(LargeData.load(order.namespace, artifact), (loaded) => withResults(order, loaded))
}

const withResults = (order: TaskOrder, payload: Schema.Json) => {
  const ids = Routing.references(payload)
  if (ids.size === 0) return Effect.succeed(payload)
  return Effect.gen(function* () {
    const ledger = yield* Ledger
    const results = yield* ledger
      .results(
        order.namespace,
        Array.from(ids, (id) => ({ id }))
      )
      .pipe(
        Effect.mapError(
          (error) => new BehaviourFailure({ code: "results_unavailable", message: error.message, retryable: true })
        )
      )
    const data = new Map<string, Schema.Json>()
    for (const result of results) {
      const artifact = LargeData.referenceOf(result.data)
      data.set(result.id, artifact === undefined ? result.data : yield* LargeData.load(order.namespace, artifact))
    }
    const missing: Array<string> = []
    const whole = Routing.replaceReferences(payload, ({ id, path }) => {
      const value = pointed(data.get(id), path)
      if (value === undefined) missing.push(`${id}${path}`)
      return value ?? null
    })
    if (missing.length > 0) {
      return yield* new BehaviourFailure({
        code: "result_reference",
        message: `the payload refers to results that are not there: ${missing.slice(0, 5).join(", ")}`,
        retryable: false
      })
    }
    return whole
  })
}

/** The value that a JSON Pointer (RFC 6901) names; undefined when it names nothing. */
const pointed = (value: Schema.Json | undefined, path: string): Schema.Json | undefined => {
  if (value === undefined || path === "") return value
  if (!path.startsWith("/")) return undefined
  let at: unknown = value
  for (const token of path.slice(1).split("/")) {
    const key = JsonPointer.unescapeToken(token)
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, key)) return undefined
    at = Reflect.get(at, key)
  }
  return Schema.is(Schema.Json)(at) ? at : undefined
}
