/**
 * Runs one attempt of a task: references replaced, the behaviour called in a scope of its own, its deadline kept, and
 * whatever it comes to said as an `AttemptEnd`. It never fails, and it does not touch the task's state.
 */
import { Cause, Duration, Effect, Exit, Fiber, Option, type Schema } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import { storable, storableJson } from "../protocol/Storable.ts"
import type { TaskProgress } from "../protocol/Task.ts"
import { BehaviourFailure, type RunAttempt } from "./Behaviour.ts"
import * as Children from "./Children.ts"
import { pointed } from "./Pointer.ts"
import { Ledger } from "./ports/Ledger.ts"
import * as Routing from "./Routing.ts"
import { Scheduler } from "./Scheduler.ts"
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
  const runOn = (scheduler: Scheduler["Service"]) => (payload: Schema.Json) =>
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
        progress: input.progress,
        submit: Children.submitter(scheduler, order)
      })
    )
  const work = Scheduler.use((scheduler) =>
    Effect.flatMap(resolved(order, input.payload ?? order.payload ?? null), runOn(scheduler))
  ).pipe(Effect.map(returned))
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

const returned = (data: Schema.Json): AttemptEnd => {
  const written: string | undefined = JSON.stringify(data)
  if (written === undefined) {
    return { _tag: "Crashed", message: "the behaviour returned something that is not JSON" }
  }
  const text = storableJson(written)
  return {
    _tag: "Returned",
    data: text === written ? data : JSON.parse(text),
    dataBytes: text.length <= 64 * 1024 ? text.length : new TextEncoder().encode(text).length
  }
}

const endOfCause = (cause: Cause.Cause<BehaviourFailure>): AttemptEnd => {
  const crash = cause.reasons.find(Cause.isDieReason)
  if (crash !== undefined) {
    const { defect } = crash
    return {
      _tag: "Crashed",
      message: bounded(defect instanceof Error ? `${defect.name}: ${defect.message}` : String(defect))
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

/** The payload with every `$result` reference replaced by that task's result data. */
const resolved = (order: TaskOrder, payload: Schema.Json) => {
  if (!Routing.hasMeaning(payload)) return Effect.succeed(payload)
  return Effect.gen(function* () {
    const ledger = yield* Ledger
    const data = new Map<string, Schema.Json>()
    const read = Effect.fnUntraced(function* (ids: Iterable<string>) {
      const refs = Array.from(ids, (id) => ({ id }))
      if (refs.length === 0) return
      const results = yield* ledger
        .results(order.namespace, refs)
        .pipe(
          Effect.mapError(
            (error) => new BehaviourFailure({ code: "results_unavailable", message: error.message, retryable: true })
          )
        )
      for (const result of results) data.set(result.id, result.data)
    })
    yield* read(Routing.references(payload))

    // The result of a map names its elements; data that was too large to stand in it is fetched from where it is.
    const elements = new Map<string, { readonly id: string; readonly path: string }>()
    Routing.replaceReferences(payload, ({ id, path }) => {
      if (pointed(data.get(id), path) !== undefined) return null
      const element = elementBehind(data.get(id), path)
      if (element !== undefined) elements.set(`${id}${path}`, element)
      return null
    })
    yield* read(new Set(Array.from(elements.values(), ({ id }) => id)))

    const missing: Array<string> = []
    const whole = Routing.replaceReferences(payload, ({ id, otherwise, path }) => {
      const element = elements.get(`${id}${path}`)
      const value =
        (element === undefined ? pointed(data.get(id), path) : pointed(data.get(element.id), element.path)) ?? otherwise
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

/** Where `/3/data/...` of a map's result leads when the third element's data does not stand in it. */
const elementBehind = (
  data: Schema.Json | undefined,
  path: string
): { readonly id: string; readonly path: string } | undefined => {
  const [, index, rest] = /^\/(\d+)\/data(\/[^]*)?$/u.exec(path) ?? []
  const entry = index === undefined ? undefined : pointed(data, `/${index}`)
  if (entry === undefined || entry === null || typeof entry !== "object" || Object.hasOwn(entry, "data"))
    return undefined
  const id = Reflect.get(entry, "task_id")
  return typeof id === "string" ? { id, path: rest ?? "" } : undefined
}
