/**
 * Runs one attempt of a task: references replaced, the behaviour called in a scope of its own, its deadline kept, and
 * whatever it comes to said as an `AttemptEnd`. It never fails, and it does not touch the task's state.
 */
import { Cause, Duration, Effect, Exit, Fiber, Option, type Schema, Semaphore } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import * as Limits from "../protocol/Limits.ts"
import { storable, storableJson } from "../protocol/Storable.ts"
import type { TaskProgress } from "../protocol/Task.ts"
import { artifactFailure } from "./ArtifactFailure.ts"
import { AttemptLost, BehaviourFailure, type RunAttempt } from "./Behaviour.ts"
import * as Children from "./Children.ts"
import type { Conversation } from "./Conversation.ts"
import { stackOf } from "./CrashStack.ts"
import * as LargeData from "./LargeData.ts"
import { type Budget, type Violation, wholeBudget } from "./PayloadSchema.ts"
import { pointed } from "./Pointer.ts"
import { Ledger } from "./ports/Ledger.ts"
import * as Routing from "./Routing.ts"
import { Scheduler } from "./Scheduler.ts"
import type { AttemptEnd } from "./TaskLifecycle.ts"

/** Longest text of an error that is kept, in characters. */
const messageCharactersMax = 4_000

/**
 * `nowMillis` is when the attempt begins, by Postgres's clock. The behaviour has a fiber of its own, so that one whose clean-up hangs costs no
 * more than `cleanUpWithin`: after that it is left behind. Interrupts itself with its caller.
 */
export const run = (input: {
  readonly order: TaskOrder
  readonly number: number
  readonly payload: Schema.Json | undefined
  /** What a payload breaks of what the agent takes; asked once everything of it is known. Undefined: it takes any. */
  readonly violationsOf: ViolationsOf | undefined
  readonly behaviour: RunAttempt
  readonly progress: (progress: TaskProgress) => Effect.Effect<void>
  readonly conversation: Conversation
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
        signal: input.conversation.signal,
        emit: input.conversation.emit,
        submit: Children.submitter(scheduler, order),
        awaitChildren: input.conversation.awaitChildren
      })
    )
  const stored = input.payload ?? order.payload ?? null
  const work = Scheduler.use((scheduler) =>
    resolved(order, stored).pipe(
      Effect.flatMap((payload) => {
        const running = Effect.flatMap(runOn(scheduler)(payload), (data) => returned(order, data))
        return input.violationsOf === undefined
          ? running
          : Effect.flatMap(inTurn(input.violationsOf, { payload, stored }), (errors) =>
              errors.length === 0 ? running : Effect.succeed(incompatible(errors))
            )
      })
    )
  )
  const abandon = (fiber: Fiber.Fiber<unknown, unknown>) =>
    Effect.timeoutOrElse(Fiber.interrupt(fiber), {
      duration: input.cleanUpWithin,
      orElse: () => Effect.logWarning("an interrupted attempt does not end and is left behind")
    }).pipe(Effect.annotateLogs({ task: order.id, attempt: input.number }))
  return Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* (): Effect.fn.Return<AttemptEnd | Parked, never, Effect.Services<typeof work>> {
      if (timeoutMillis === 0) return timedOut
      const fiber = yield* Effect.forkDetach(work, { startImmediately: true })
      const exit =
        fiber.pollUnsafe() ??
        (yield* restore(Effect.timeoutOption(overOrParked(fiber, input.conversation), timeout)).pipe(
          Effect.onInterrupt(() => abandon(fiber)),
          Effect.map(Option.getOrUndefined)
        ))
      if (exit !== undefined && !Exit.isExit(exit)) {
        yield* abandon(fiber)
        return exit
      }
      if (exit !== undefined) return Exit.isSuccess(exit) ? exit.value : endOfCause(exit.cause)
      yield* abandon(fiber)
      return timedOut
    })
  )
}

/** The run ended to wait for a signal, or for its children, without its slot. */
export interface Parked {
  readonly _tag: "Parked"
  /** Of the await. */
  readonly position: number
}

/** Whichever comes first: the fiber's end, or its wish to park. */
const overOrParked = <A, E>(fiber: Fiber.Fiber<A, E>, conversation: Conversation) =>
  Effect.callback<Exit.Exit<A, E> | Parked>((resume) => {
    conversation.onPark((position) => resume(Effect.succeed({ _tag: "Parked", position })))
    return Effect.sync(fiber.addObserver((exit) => resume(Effect.succeed(exit))))
  })

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
    if (defect instanceof AttemptLost) {
      const { code, details, message } = defect
      return {
        _tag: "Lost",
        error: { code, message: bounded(message), ...(details !== undefined && { details }) }
      }
    }
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

type ViolationsOf = (
  payload: {
    readonly payload: Schema.Json
    /** As it stood in the task, before references were replaced. */
    readonly stored: Schema.Json
  },
  budget: Budget
) => ReadonlyArray<Violation>

/** Checks a payload. Many attempts begin at once: of checks that take long each has a turn of the event loop of its own. */
const inTurn = (violationsOf: ViolationsOf, payload: Parameters<ViolationsOf>[0]) =>
  checking.withPermits(1)(
    Effect.suspend(() => {
      const budget = wholeBudget()
      const before = budget.left
      const violations = violationsOf(payload, budget)
      return before - budget.left > stepsOfTurnMax ? Effect.as(Effect.yieldNow, violations) : Effect.succeed(violations)
    })
  )

const checking = Semaphore.makeUnsafe(1)
const stepsOfTurnMax = 5_000

/** The end of an attempt whose payload breaks rules: what it broke stays with the task. */
const incompatible = (errors: ReadonlyArray<Violation>): AttemptEnd => ({
  _tag: "Incompatible",
  error: {
    code: "payload_incompatible",
    message: `the payload does not fit the agent's payload_schema: ${errors
      .slice(0, 3)
      .map(({ field, message }) => `${field} ${message}`)
      .join("; ")}`,
    details: { errors: errors.map(({ field, message, rule }) => ({ field, message, rule })) }
  }
})

/** The payload, brought back from its artifact, with every `$result` reference replaced by that task's result data. */
const resolved = (order: TaskOrder, payload: Schema.Json) => {
  const artifact = LargeData.referenceOf(payload)
  return artifact === undefined
    ? withResults(order, payload)
    : Effect.flatMap(LargeData.load(order.namespace, artifact), (loaded) => withResults(order, loaded))
}

const withResults = (order: TaskOrder, payload: Schema.Json) => {
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
      for (const result of results) {
        const artifact = LargeData.referenceOf(result.data)
        data.set(result.id, artifact === undefined ? result.data : yield* LargeData.load(order.namespace, artifact))
      }
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
