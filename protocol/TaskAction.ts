/**
 * Owns what is said about changing many tasks at once: the command, the operation that carries it out, and what is told
 * of single attempts, dead letters and counts.
 */
import { Schema } from "effect"
import { AgentId, AgentName, AgentRef, Namespace, NodeName, OperationId, TaskId } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { Task, TaskConfiguration, TaskError, TaskPriority, TaskStatus, Timestamp } from "./Task.ts"
import { TaskFilter } from "./TaskFilter.ts"

export const actions = ["cancel", "retry", "delete", "prioritise", "reroute", "acknowledge"] as const
export const TaskActionName = Schema.Literals(actions)
export type TaskActionName = typeof TaskActionName.Type

/** In which states an action finds tasks at all. */
export const actsOn: { readonly [A in TaskActionName]: ReadonlyArray<TaskStatus> } = {
  cancel: ["pending", "queued", "running", "paused"],
  retry: ["failed", "timeout", "cancelled"],
  delete: ["completed", "failed", "timeout", "cancelled"],
  prioritise: ["pending", "queued", "paused"],
  reroute: ["pending", "queued", "paused"],
  acknowledge: ["failed", "timeout"]
}

const text = Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))

/** What a replay changes of the task that it repeats. */
const editFields = {
  agent: Schema.optionalKey(AgentRef).annotateKey({ description: "Another agent." }),
  payload: Schema.optionalKey(Schema.Json).annotateKey({ description: "Another payload, in place of the old one." }),
  configuration: Schema.optionalKey(TaskConfiguration).annotateKey({
    description: "Parts of the configuration, over the old ones."
  })
}

/** Command: start a dead letter anew, as it is or changed. */
export const ReplayTask = Schema.Struct(editFields).annotate({ identifier: "ReplayTask" })
export type ReplayTask = typeof ReplayTask.Type

/** Command: mark a dead letter as dealt with. */
export const AcknowledgeTask = Schema.Struct({
  note: Schema.optionalKey(text).annotateKey({ description: "Kept for whoever asks what was done about it." })
}).annotate({ identifier: "AcknowledgeTask" })
export type AcknowledgeTask = typeof AcknowledgeTask.Type

export const PrioritiseTask = Schema.Struct({ priority: TaskPriority }).annotate({ identifier: "PrioritiseTask" })
export const RerouteTask = Schema.Struct({ agent: AgentRef }).annotate({ identifier: "RerouteTask" })

/** Command: do one thing to every task that a filter finds. */
export const ActOnTasks = Schema.Struct({
  action: TaskActionName,
  filter: TaskFilter,
  dry_run: Schema.optionalKey(Schema.Boolean).annotateKey({
    description: "Change nothing: say how many tasks it would be, and some of them."
  }),
  reason: Schema.optionalKey(text).annotateKey({ description: "Of `cancel`: kept with each task." }),
  note: Schema.optionalKey(text).annotateKey({ description: "Of `acknowledge`: kept with each task." }),
  priority: Schema.optionalKey(TaskPriority).annotateKey({ description: "Of `prioritise`: the new priority." }),
  ...editFields
}).annotate({ identifier: "ActOnTasks" })
export type ActOnTasks = typeof ActOnTasks.Type

/** What a dry run answers. */
export const DryRun = Schema.Struct({
  dry_run: Schema.Literal(true),
  action: TaskActionName,
  matched: Schema.Int,
  complete: Schema.Boolean.annotateKey({
    description: "False: counting stopped before the end, and it may be more than `matched`."
  }),
  sample: Schema.Array(TaskId).annotateKey({ description: "The newest of them." })
}).annotate({ identifier: "DryRun" })
export type DryRun = typeof DryRun.Type

/** View: an action on many tasks and how far it is. */
export const Operation = Schema.Struct({
  id: OperationId,
  namespace: Namespace,
  action: TaskActionName,
  filter: TaskFilter,
  status: Schema.Literals(["running", "completed", "cancelled", "failed"]),
  matched: Schema.Int.annotateKey({ description: "Tasks that the filter has found so far." }),
  done: Schema.Int.annotateKey({ description: "Of these, how many were changed." }),
  failed: Schema.Int.annotateKey({ description: "Of these, how many were refused; see `errors`." }),
  skipped: Schema.Int.annotateKey({
    description: "Of these, how many had moved on by themselves, or cannot be deleted while others depend on them."
  }),
  errors: Schema.Array(Schema.Struct({ task_id: Schema.NullOr(TaskId), detail: Schema.String })).annotateKey({
    description: "The first failures."
  }),
  actor: Schema.String,
  created_at: Timestamp,
  updated_at: Timestamp,
  ended_at: Schema.NullOr(Timestamp)
}).annotate({ identifier: "Operation" })
export type Operation = typeof Operation.Type

/** View: one attempt, put together from the task's events. */
export const TaskAttempt = Schema.Struct({
  attempt: Schema.Int,
  outcome: Schema.Literals([
    "running",
    "completed",
    "failed",
    "timeout",
    "retried",
    "released",
    "instance_lost",
    "cancelled"
  ]).annotateKey({
    description: "`retried`: it failed and another one followed. `released`: given back by its node; it does not count."
  }),
  started_at: Timestamp,
  ended_at: Schema.NullOr(Timestamp),
  execution_time_ms: Schema.NullOr(Schema.Finite),
  error: Schema.NullOr(TaskError),
  retry_delay_ms: Schema.NullOr(Schema.Finite),
  node: Schema.NullOr(NodeName).annotateKey({ description: "Where it ran." }),
  instance: Schema.NullOr(Schema.Int).annotateKey({
    description: "Index of its agent's instance; of the last attempt."
  })
}).annotate({ identifier: "TaskAttempt" })
export type TaskAttempt = typeof TaskAttempt.Type

/** View: a task that failed or timed out, and why. */
export const DeadLetter = Schema.Struct({
  task: Task,
  error: Schema.NullOr(TaskError),
  attempts: Schema.Array(TaskAttempt),
  acknowledged: Schema.NullOr(
    Schema.Struct({ at: Timestamp, actor: Schema.String, note: Schema.NullOr(Schema.String) })
  ),
  retried_as: Schema.Array(TaskId)
}).annotate({ identifier: "DeadLetter" })
export type DeadLetter = typeof DeadLetter.Type

const counts = Schema.Record(TaskStatus, Schema.Int)

/** View: how many tasks there are in each state. */
export const TaskCounts = Schema.Struct({
  namespace: Namespace,
  counts,
  at_least: Schema.Array(TaskStatus).annotateKey({
    description: "States whose counting stopped at its bound: there are so many, or more."
  }),
  agents: Schema.optionalKey(
    Schema.Array(Schema.Struct({ agent_id: AgentId, name: AgentName, counts, at_least: Schema.Array(TaskStatus) }))
  ).annotateKey({ description: "With `by=agent`: the same for each agent that has tasks." })
}).annotate({ identifier: "TaskCounts" })
export type TaskCounts = typeof TaskCounts.Type

export const CountTasks = Schema.Struct({
  agent: Schema.optionalKey(AgentRef).annotateKey({ description: "Tasks of this agent only." }),
  by: Schema.optionalKey(Schema.Literal("agent"))
})
export type CountTasks = typeof CountTasks.Type

/** What deleting a task answers. */
export const DeletedTask = Schema.Struct({ id: TaskId, deleted: Schema.Literal(true) }).annotate({
  identifier: "DeletedTask"
})
export type DeletedTask = typeof DeletedTask.Type
