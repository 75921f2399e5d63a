/**
 * Owns the HTTP contract of tasks: submit, look, follow, cancel, retry.
 */
import { Schema } from "effect"
import { Sse } from "effect/encoding"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Event } from "../Event.ts"
import { TaskId } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { Page } from "../Page.ts"
import { Conflict, GraphNotFound, Overloaded, SubmitProblem, TaskNotFound } from "../Problem.ts"
import { BatchItem, ListTasks } from "../Query.ts"
import { AcceptedTask, Graph, SubmitTask, Task } from "../Task.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem, RequestTimeout, UnsupportedMediaType } from "./TransportProblem.ts"
import { documented, Flag, prefix, SubmitHeaders, Wait } from "./Wire.ts"

const params = { id: TaskId }
const submitProblems = [...SubmitProblem, UnsupportedMediaType, RequestTimeout] as const

/** Body of a cancellation; may be left out. */
export const CancelTask = Schema.Struct({
  reason: Schema.optionalKey(
    Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax)).annotate({
      description: "Kept with the task for whoever asks why."
    })
  )
}).annotate({ identifier: "CancelTask" })
export type CancelTask = typeof CancelTask.Type

/** Outcomes of a batch in the order of its items. */
export const BatchOutcome = Schema.Struct({
  accepted: Schema.Int,
  refused: Schema.Int,
  data: Schema.Array(BatchItem)
}).annotate({ identifier: "BatchOutcome" })
export type BatchOutcome = typeof BatchOutcome.Type

/** Events of a task with a number above `after`, oldest first. */
export const EventPage = Schema.Struct({
  data: Schema.Array(Event),
  /** What to pass as `after` to go on; null when these were the last for now. */
  next_after: Schema.NullOr(Schema.Int)
}).annotate({ identifier: "EventPage" })
export type EventPage = typeof EventPage.Type

/** One server-sent event: `id` is the event's number, `event` its type, `data` the event itself as JSON. */
export const ServerSentEvent = Schema.Struct({ ...Sse.EventEncoded.fields, data: Schema.fromJsonString(Event) })
export type ServerSentEvent = typeof ServerSentEvent.Type

const number = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))

const submit = HttpApiEndpoint.post("submit", "/tasks", {
  headers: SubmitHeaders,
  payload: SubmitTask,
  success: AcceptedTask.pipe(HttpApiSchema.status(202)),
  error: submitProblems
}).annotateMerge(
  documented({
    summary: "Submit a task",
    description:
      "Accepts one task. 202 means it is committed and will reach exactly one recorded end. With an `Idempotency-Key` " +
      "(or `idempotency_key` in the body) a repeat gives the first answer again.",
    answers: { 202: { location: "Path of the task." } }
  })
)

const submitBatch = HttpApiEndpoint.post("submitBatch", "/tasks/batch", {
  headers: SubmitHeaders,
  query: { atomic: Schema.optionalKey(Flag.annotate({ description: "All or none instead of each on its own." })) },
  payload: [
    Schema.Array(SubmitTask).check(Schema.isMaxLength(Limits.batchTasksMax)),
    HttpApiSchema.StreamNdjson({ schema: SubmitTask, maxBytes: Limits.batchBodyBytesMax })
  ],
  success: [BatchOutcome.pipe(HttpApiSchema.status(202)), BatchOutcome.pipe(HttpApiSchema.status(207))],
  error: submitProblems
}).annotateMerge(
  documented({
    summary: "Submit many tasks",
    description:
      `A JSON array, or one JSON object per line (application/x-ndjson); at most ${Limits.batchTasksMax} tasks. Each item ` +
      "is accepted or refused on its own and has its outcome at its place: 202 when all were accepted, else 207. With " +
      "`atomic=true` one refused item refuses all, with 422. With an `Idempotency-Key` an item without a key of " +
      "its own gets `<key>/<index>`, so that the whole batch may be repeated."
  })
)

const list = HttpApiEndpoint.get("list", "/tasks", {
  query: ListTasks,
  success: Page(Task)
}).annotateMerge(
  documented({
    summary: "List tasks",
    description: "Newest first, by cursor; payload and result are left out. Filters combine with and."
  })
)

const get = HttpApiEndpoint.get("get", "/tasks/:id", {
  params,
  query: {
    wait: Schema.optionalKey(Wait),
    tree: Schema.optionalKey(
      Flag.annotate({ description: "With `wait`: for the end of all tasks below it too (`parent_id`)." })
    )
  },
  success: Task,
  error: TaskNotFound
}).annotateMerge(
  documented({
    summary: "Get a task",
    description:
      "The task as the ledger has it. With `wait` the answer comes when the task has ended, or as it stands when the " +
      "wait is over: look at `status`."
  })
)

const events = HttpApiEndpoint.get("events", "/tasks/:id/events", {
  params,
  query: {
    after: Schema.optionalKey(number.annotate({ description: "Events with a greater number only." })),
    limit: ListTasks.fields.limit
  },
  headers: {
    accept: Schema.optionalKey(Schema.String),
    "last-event-id": Schema.optionalKey(number)
  },
  success: [EventPage, HttpApiSchema.StreamSse({ events: ServerSentEvent })],
  error: [TaskNotFound, Overloaded]
}).annotateMerge(
  documented({
    summary: "Events of a task",
    description:
      "A page of recorded events as JSON; or, with `Accept: text/event-stream`, all events from the first (or from " +
      "after `Last-Event-ID`) on and then live, until the task has ended. Numbers have no gaps and no doubles. A stream " +
      "that ends without an end event was cut: reconnect with the last id."
  })
)

const graphOf = HttpApiEndpoint.get("graph", "/tasks/:id/graph", {
  params,
  success: Graph,
  error: [TaskNotFound, GraphNotFound]
}).annotateMerge(documented({ summary: "The graph that a task belongs to" }))

const cancel = HttpApiEndpoint.post("cancel", "/tasks/:id/cancel", {
  params,
  query: {
    tree: Schema.optionalKey(Flag.annotate({ description: "All tasks below it too (`parent_id`)." }))
  },
  payload: CancelTask,
  success: Task,
  error: [TaskNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Cancel a task",
    description:
      "Ends it as `cancelled` whatever it is doing; running code is interrupted. 409 when it has ended already, with " +
      "`tree` when all below it have too. A tree is cancelled in portions: repeat the call if it is not answered."
  })
)

const retry = HttpApiEndpoint.post("retry", "/tasks/:id/retry", {
  params,
  success: AcceptedTask.pipe(HttpApiSchema.status(202)),
  error: [...SubmitProblem, TaskNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Retry a task that has ended",
    description:
      "Starts it anew as a task of its own that links back by `retry_of`. 409 when it completed or still lives.",
    answers: { 202: { location: "Path of the new task." } }
  })
)

export class TasksApi extends HttpApiGroup.make("tasks")
  .add(submit, submitBatch, list, get, events, graphOf, cancel, retry)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Tasks", description: "Units of work and their life." })) {}
