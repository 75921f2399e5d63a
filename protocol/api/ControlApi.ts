/**
 * Owns the HTTP contract of finding and controlling many tasks: counts, attempts, actions by filter and the operations that
 * carry them out, dead letters, retention.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { OperationId, TaskId } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { Page } from "../Page.ts"
import { AgentNotFound, Conflict, OperationNotFound, SubmitProblem, TaskNotFound } from "../Problem.ts"
import { ListTasks } from "../Query.ts"
import { Retention, SetRetention } from "../Retention.ts"
import { AcceptedTask, Task } from "../Task.ts"
import {
  AcknowledgeTask,
  ActOnTasks,
  CountTasks,
  DeadLetter,
  DeletedTask,
  DryRun,
  Operation,
  PrioritiseTask,
  ReplayTask,
  RerouteTask,
  TaskAttempt,
  TaskCounts
} from "../TaskAction.ts"
import { TaskFilter } from "../TaskFilter.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem, RequestTimeout, UnsupportedMediaType } from "./TransportProblem.ts"
import { documented, IfMatch, prefix } from "./Wire.ts"

const params = { id: TaskId }

/** Attempts of a task, the first one first. */
export const AttemptList = Schema.Struct({ data: Schema.Array(TaskAttempt) }).annotate({ identifier: "AttemptList" })

/** Which dead letters: those of the filter. */
export const ListDeadLetters = Schema.Struct({
  limit: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.deadLettersPageMax }))),
  cursor: ListTasks.fields.cursor,
  type: ListTasks.fields.type,
  agent: ListTasks.fields.agent,
  label: ListTasks.fields.label,
  error: ListTasks.fields.error,
  completed_after: ListTasks.fields.completed_after,
  completed_before: ListTasks.fields.completed_before
})
export type ListDeadLetters = typeof ListDeadLetters.Type

/** Command: replay many dead letters. */
export const ReplayDeadLetters = Schema.Struct({ filter: TaskFilter, ...ReplayTask.fields }).annotate({
  identifier: "ReplayDeadLetters"
})
export type ReplayDeadLetters = typeof ReplayDeadLetters.Type

const counts = HttpApiEndpoint.get("counts", "/tasks/counts", {
  query: CountTasks,
  success: TaskCounts,
  error: AgentNotFound
}).annotateMerge(
  documented({
    summary: "Count tasks by status",
    description: "Ends are exact, whatever their number. Of what waits or runs, counting stops at a bound and says so."
  })
)

const attempts = HttpApiEndpoint.get("attempts", "/tasks/:id/attempts", {
  params,
  success: AttemptList,
  error: TaskNotFound
}).annotateMerge(
  documented({ summary: "Attempts of a task", description: "Each with its error, duration and node, from the events." })
)

const act = HttpApiEndpoint.post("act", "/tasks/actions", {
  payload: ActOnTasks,
  success: [Operation.pipe(HttpApiSchema.status(202)), DryRun.pipe(HttpApiSchema.status(200))],
  error: BodyProblem
}).annotateMerge(
  documented({
    summary: "Do one thing to many tasks",
    description:
      "Cancel, retry, delete, prioritise, reroute or acknowledge every task that the filter finds and that was accepted " +
      "before. It is carried out in the background, in small steps: follow the operation. With `dry_run` nothing changes.",
    answers: { 202: { location: "Path of the operation." } }
  })
)

const prioritise = HttpApiEndpoint.post("prioritise", "/tasks/:id/priority", {
  params,
  payload: PrioritiseTask,
  success: Task,
  error: [TaskNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({ summary: "Move a waiting task to another lane", description: "409 when it runs or has ended." })
)

const reroute = HttpApiEndpoint.post("reroute", "/tasks/:id/agent", {
  params,
  payload: RerouteTask,
  success: Task,
  error: [TaskNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({ summary: "Give a waiting task to another agent", description: "409 when it runs or has ended." })
)

const remove = HttpApiEndpoint.delete("remove", "/tasks/:id", {
  params,
  success: DeletedTask,
  error: [TaskNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Delete a task that has ended",
    description:
      "With its events, dependencies and idempotency key. 409 while it lives, or while tasks that depend on it do."
  })
)

const operation = HttpApiEndpoint.get("operation", "/operations/:id", {
  params: { id: OperationId },
  success: Operation,
  error: OperationNotFound
}).annotateMerge(documented({ summary: "Get an operation", description: "How far an action on many tasks is." }))

const stopOperation = HttpApiEndpoint.post("stopOperation", "/operations/:id/cancel", {
  params: { id: OperationId },
  success: Operation,
  error: [OperationNotFound, Conflict]
}).annotateMerge(
  documented({ summary: "Stop an operation", description: "What it has done stays done. 409 when it has ended." })
)

const deadLetters = HttpApiEndpoint.get("deadLetters", "/dead-letters", {
  query: ListDeadLetters,
  success: Page(DeadLetter)
}).annotateMerge(
  documented({
    summary: "List dead letters",
    description:
      "Tasks that failed or timed out and were neither acknowledged nor retried, newest first, with their attempts."
  })
)

const deadLetter = HttpApiEndpoint.get("deadLetter", "/dead-letters/:id", {
  params,
  success: DeadLetter,
  error: TaskNotFound
}).annotateMerge(
  documented({
    summary: "Get a dead letter",
    description: "Also one that was dealt with: by whom, or as which tasks it was tried again."
  })
)

const acknowledge = HttpApiEndpoint.post("acknowledge", "/dead-letters/:id/acknowledge", {
  params,
  payload: AcknowledgeTask,
  success: DeadLetter,
  error: [TaskNotFound, ...BodyProblem]
}).annotateMerge(documented({ summary: "Mark a dead letter as dealt with", description: "Again: the same answer." }))

const replay = HttpApiEndpoint.post("replay", "/dead-letters/:id/replay", {
  params,
  payload: ReplayTask,
  success: AcceptedTask.pipe(HttpApiSchema.status(202)),
  error: [...SubmitProblem, TaskNotFound, Conflict, UnsupportedMediaType, RequestTimeout]
}).annotateMerge(
  documented({
    summary: "Start a dead letter anew",
    description: "As it is, or with another payload, configuration or agent; the new task links back by `retry_of`.",
    answers: { 202: { location: "Path of the new task." } }
  })
)

const replayMany = HttpApiEndpoint.post("replayMany", "/dead-letters/replay", {
  payload: ReplayDeadLetters,
  success: Operation.pipe(HttpApiSchema.status(202)),
  error: BodyProblem
}).annotateMerge(
  documented({
    summary: "Start many dead letters anew",
    description: "Those that the filter finds; an empty filter finds all of them.",
    answers: { 202: { location: "Path of the operation." } }
  })
)

const retention = HttpApiEndpoint.get("get", "/retention", { success: Retention }).annotateMerge(
  documented({
    summary: "Get the retention rules",
    description: "What is deleted when, what was, and the newest archives."
  })
)

const setRetention = HttpApiEndpoint.put("set", "/retention", {
  headers: { "if-match": Schema.optionalKey(IfMatch) },
  payload: SetRetention,
  success: Retention,
  error: [Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Set the retention rules",
    description: "The first rule that fits an ended task decides; a task that none fits is kept.",
    answers: { 200: { etag: "The version of the rules." } }
  })
)

export class ControlApi extends HttpApiGroup.make("control")
  .add(
    counts,
    attempts,
    act,
    prioritise,
    reroute,
    remove,
    operation,
    stopOperation,
    deadLetters,
    deadLetter,
    acknowledge,
    replay,
    replayMany
  )
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Control", description: "Finding and changing many tasks." })) {}

export class RetentionApi extends HttpApiGroup.make("retention")
  .add(retention, setRetention)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Retention", description: "How long ended tasks are kept." })) {}
