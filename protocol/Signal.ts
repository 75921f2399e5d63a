/**
 * Owns what is said of signals: input that is sent to a task that has not ended, kept until the task awaits it, and taken
 * once. An approval is a signal of a known name and shape that must be awaited when it comes.
 */
import { Schema } from "effect"
import { SignalName, TaskId } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { Permission, type Principal, Role } from "./Permission.ts"
import { TaskStatus, Timestamp } from "./Task.ts"

/** Who may send a signal: one of these is enough. */
export const Senders = Schema.Struct({
  roles: Schema.optionalKey(Schema.Array(Role).check(Schema.isBetweenLength(1, 10))),
  permission: Schema.optionalKey(Permission),
  actors: Schema.optionalKey(
    Schema.Array(Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax))).check(
      Schema.isBetweenLength(1, 100)
    )
  ).annotateKey({ description: "As events name them, e.g. `key:<id>`." })
}).annotate({ identifier: "Senders" })
export type Senders = typeof Senders.Type

/** Whether a principal is among the senders. */
export const isSender = (senders: Senders, principal: Principal["Service"]): boolean =>
  senders.roles?.includes(principal.role) === true ||
  (senders.permission !== undefined && principal.permissions.has(senders.permission)) ||
  senders.actors?.includes(principal.actor) === true

/** The signal that answers an approval. */
export const approvalSignal: SignalName = "approval"

/** Payload of the signal `approval`. */
export const ApprovalDecision = Schema.Struct({
  decision: Schema.Literals(["approve", "reject"]),
  comment: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax)))
}).annotate({ identifier: "ApprovalDecision" })
export type ApprovalDecision = typeof ApprovalDecision.Type

/** What sending a signal answers. */
export const SignalReceipt = Schema.Struct({
  task_id: TaskId,
  name: SignalName,
  number: Schema.Int.annotateKey({ description: "Counts the task's signals from 1 without gaps." }),
  at: Timestamp,
  duplicate: Schema.Boolean.annotateKey({
    description: "True when an earlier request with the same idempotency key was answered again."
  }),
  status: TaskStatus.annotateKey({ description: "Of the task, once the signal was stored." })
}).annotate({ identifier: "SignalReceipt" })
export type SignalReceipt = typeof SignalReceipt.Type

/** View: a signal as it is kept. */
export const Signal = Schema.Struct({
  number: Schema.Int,
  name: SignalName,
  payload: Schema.Json,
  actor: Schema.String,
  at: Timestamp,
  taken: Schema.Boolean.annotateKey({ description: "Whether an await has taken it." })
}).annotate({ identifier: "Signal" })
export type Signal = typeof Signal.Type

/** View: what a task waits for at the moment. */
export const OpenAwait = Schema.Struct({
  position: Schema.Int.annotateKey({ description: "Counts the awaits of the task from 1." }),
  name: SignalName,
  message: Schema.NullOr(Schema.String),
  shape: Schema.NullOr(Schema.Json).annotateKey({ description: "JSON Schema of the payload." }),
  from: Schema.NullOr(Senders),
  opened_at: Timestamp,
  until: Schema.NullOr(Timestamp)
}).annotate({ identifier: "OpenAwait" })
export type OpenAwait = typeof OpenAwait.Type

/** View: what was said to a task, in the order of arrival, and what it waits for. */
export const TaskSignals = Schema.Struct({
  awaiting: Schema.Array(OpenAwait),
  data: Schema.Array(Signal),
  next_after: Schema.NullOr(Schema.Int).annotateKey({
    description: "What to pass as `after` to go on; null when these were the last for now."
  })
}).annotate({ identifier: "TaskSignals" })
export type TaskSignals = typeof TaskSignals.Type

/** Body of a pause; may be left out. */
export const PauseTask = Schema.Struct({
  reason: Schema.optionalKey(
    Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax)).annotate({
      description: "Kept in the event for whoever asks why."
    })
  )
}).annotate({ identifier: "PauseTask" })
export type PauseTask = typeof PauseTask.Type
