/**
 * The use cases of talking to tasks that have not ended: signals, approvals among them, and setting aside.
 *
 * What a waiting task asks of a signal is checked here, and the ledger stores it only if that is still what is awaited: who
 * may not, what does not fit, and what comes too late never reach the task.
 */
import { createHash } from "node:crypto"
import { Context, Effect, Layer, type Schema } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import type { SignalOutcome } from "../../actors/ports/SignalLedger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { SignalName, TaskId } from "../../protocol/Ids.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { faultsOf } from "../../protocol/JsonShape.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  Forbidden,
  IdempotencyMismatch,
  InvalidInput,
  Overloaded,
  TaskNotFound,
  TooLarge,
  type Unavailable
} from "../../protocol/Problem.ts"
import {
  ApprovalDecision,
  approvalSignal,
  isSender,
  type SignalReceipt,
  type TaskSignals
} from "../../protocol/Signal.ts"
import type { Task } from "../../protocol/Task.ts"
import { SignalReader, type StoredAwait } from "../ledger/SignalReader.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"

export interface SendSignal {
  readonly name: SignalName
  readonly payload: Schema.Json
  readonly idempotencyKey: string | undefined
}

export class Signals extends Context.Service<
  Signals,
  {
    /**
     * Stores a signal for a task that has not ended; one that waits for it goes on. The same idempotency key gives the same
     * answer. `Conflict` when the task has ended, or an approval is not, or no longer, awaited.
     */
    readonly send: (
      id: TaskId,
      signal: SendSignal
    ) => Effect.Effect<
      SignalReceipt,
      TaskNotFound | Conflict | IdempotencyMismatch | InvalidInput | TooLarge | Overloaded | Forbidden | Unavailable,
      Principal
    >
    /** What a task waits for, and a page of what it was sent. */
    readonly list: (
      id: TaskId,
      options?: { readonly after?: number | undefined; readonly limit?: number | undefined }
    ) => Effect.Effect<TaskSignals, TaskNotFound | Forbidden | Unavailable, Principal>
    /**
     * Sets a task aside. One that is set aside already stays so. `Conflict` when it has ended, or runs and may run at most
     * once.
     */
    readonly pause: (
      id: TaskId,
      reason: string | undefined
    ) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
    /** Back to what it would be now. `Conflict` when nobody has set it aside. */
    readonly resume: (id: TaskId) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Signals") {
  static readonly layer = Layer.effect(
    Signals,
    Effect.gen(function* () {
      const tasks = yield* TaskReader
      const reader = yield* SignalReader
      const ledger = yield* Ledger
      const bus = yield* Bus
      const ids = yield* UuidV7

      const send: Signals["Service"]["send"] = Effect.fn("Signals.send")(function* (id, signal) {
        const isAnswer = signal.name === approvalSignal
        const principal = yield* authorize(isAnswer ? "task:approve" : "task:signal")
        const text = JSON.stringify(signal.payload)
        if (Buffer.byteLength(text) > Limits.signalPayloadBytesMax) return yield* payloadTooLarge
        if (isAnswer) yield* Effect.fromResult(decodeDecision(signal.payload))
        const request = signal.idempotencyKey === undefined ? `once:${ids.next()}` : `key:${signal.idempotencyKey}`
        const fingerprint = createHash("sha256")
          .update(JSON.stringify([signal.name, text]))
          .digest("hex")
        // What is awaited may change between the look and the commit; each time it has, the task has gone on.
        for (let look = 0; look < looksMax; look++) {
          const awaited = yield* reader.openAwait(principal.namespace, id, signal.name)
          if (awaited !== undefined) yield* checked(awaited, signal.payload, principal)
          const outcome = yield* ledger.signals.send({
            ...{ namespace: principal.namespace, taskId: id, name: signal.name, payload: signal.payload },
            ...{ actor: principal.actor, request, fingerprint, checked: awaited?.position, isAnswer }
          })
          if (outcome._tag === "Stored") {
            const agent = outcome.runsOn
            if (agent !== undefined) yield* bus.notify({ _tag: "Signalled", agent, tasks: [id] })
            return outcome.receipt
          }
          if (outcome._tag === "Existing") {
            if (outcome.same) return outcome.receipt
            return yield* new IdempotencyMismatch({
              detail: "This task was sent another signal with the same idempotency key.",
              key: signal.idempotencyKey ?? ""
            })
          }
          if (outcome.why !== "changed") return yield* refused(id, signal.name, outcome)
        }
        return yield* new Overloaded({
          detail: `Task ${id} takes signals faster than this one could be checked; try again.`,
          retry_after_seconds: 1
        })
      }, orUnavailable)

      const list: Signals["Service"]["list"] = Effect.fn("Signals.list")(function* (id, options = {}) {
        const { namespace } = yield* authorize("task:read")
        if ((yield* tasks.head(namespace, id)) === undefined) return yield* taskNotFound(id)
        const { after = 0, limit = Limits.pageEntriesDefault } = options
        const awaiting = yield* reader.openAwaits(namespace, id)
        const data = yield* reader.signals(namespace, id, { after, limit: Math.min(limit, Limits.pageEntriesMax) })
        const last = data.at(-1)?.number
        const more = last === undefined ? [] : yield* reader.signals(namespace, id, { after: last, limit: 1 })
        return {
          awaiting: awaiting.map((open) => ({ ...open, shape: open.shape === null ? null : jsonOf(open.shape) })),
          data,
          next_after: last === undefined || more.length === 0 ? null : last
        }
      }, orUnavailable)

      const pause: Signals["Service"]["pause"] = Effect.fn("Signals.pause")(function* (id, reason) {
        const { actor, namespace } = yield* authorize("task:pause")
        const { outcome, ranOn } = yield* ledger.signals.pause(namespace, id, { actor, reason })
        if (ranOn !== undefined) yield* bus.notify({ _tag: "Interrupt", agent: ranOn, tasks: [id] })
        const task = (yield* tasks.get(namespace, id)) ?? (yield* taskNotFound(id))
        if (outcome === "ended") return yield* inState(task, `has ended as ${task.status}`)
        return outcome === "at_most_once"
          ? yield* inState(task, "runs and may run at most once: it can be cancelled, not paused")
          : task
      }, orUnavailable)

      const resume: Signals["Service"]["resume"] = Effect.fn("Signals.resume")(function* (id) {
        const { actor, namespace } = yield* authorize("task:pause")
        const outcome = yield* ledger.signals.resume(namespace, id, actor)
        const task = (yield* tasks.get(namespace, id)) ?? (yield* taskNotFound(id))
        if (outcome === "not_paused") return yield* inState(task, `is ${task.status}, not paused`)
        if (outcome === "held")
          return yield* inState(task, "is paused with its graph, or with a task above it: resume that")
        if (outcome !== "waits") return task
        return yield* task.waiting_for === "children"
          ? inState(task, "waits for its children, and goes on when they have ended")
          : inState(task, "waits for a signal, and goes on when it comes")
      }, orUnavailable)

      return Signals.of({ send, list, pause, resume })
    })
  )
}

/** Looks at what is awaited before a signal is given up. */
const looksMax = 5

const decodeDecision = inputDecoder(ApprovalDecision)

/** Refuses a signal that an open await would not take. */
const checked = ({ from, name, shape }: StoredAwait, payload: Schema.Json, principal: Principal["Service"]) => {
  if (from !== null && !isSender(from, principal)) {
    return Effect.fail(
      new Forbidden({
        permission: from.permission ?? (name === approvalSignal ? "task:approve" : "task:signal"),
        detail: `The task takes the signal ${name} from certain senders only, and this key is none of them.`
      })
    )
  }
  const faults = shape === null ? [] : faultsOf(shape, payload)
  const [first] = faults
  if (first === undefined) return Effect.void
  const detail = first.field === "" ? first.message : `${first.field}: ${first.message}`
  return Effect.fail(new InvalidInput({ detail, errors: faults }))
}

const refused = (
  id: TaskId,
  name: SignalName,
  { version, why }: Extract<SignalOutcome, { readonly _tag: "Refused" }>
): Effect.Effect<never, TaskNotFound | Conflict | TooLarge> => {
  if (why === "unknown") return taskNotFound(id)
  if (why === "full") {
    return Effect.fail(
      new TooLarge({
        detail: `Task ${id} was sent ${Limits.signalsMax} signals, which is the limit.`,
        field: "signals",
        limit: Limits.signalsMax,
        unit: "signals"
      })
    )
  }
  return Effect.fail(
    new Conflict({
      detail: `Task ${id} ${reasons(name)[why]}.`,
      reason: "state",
      ...(version !== undefined && { current_version: version })
    })
  )
}

const reasons = (name: SignalName) =>
  ({
    ended: "has ended and takes no more signals",
    not_awaited: `does not wait for ${name}`,
    expired: `waited for ${name}, and the time for it is over`,
    answered: `has its ${name} already`,
    changed: "has gone on"
  }) as const

const payloadTooLarge = Effect.fail(
  new TooLarge({
    detail: `The payload is larger than ${Limits.signalPayloadBytesMax} bytes.`,
    field: "payload",
    limit: Limits.signalPayloadBytesMax,
    unit: "bytes"
  })
)

const taskNotFound = (id: TaskId) =>
  Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id} in this namespace.` }))

const inState = (task: Task, why: string) =>
  Effect.fail(new Conflict({ detail: `Task ${task.id} ${why}.`, reason: "state", current_version: task.version }))

const jsonOf = (shape: object): Schema.Json => JSON.parse(JSON.stringify(shape))
