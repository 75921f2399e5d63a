/**
 * Owns what can be asked of lists, and the outcome of each item of a batch.
 */
import { Schema } from "effect"
import { AgentRef, GraphId, SignalName, TaskId, TaskType } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { ScheduleStatus } from "./Schedule.ts"
import { AcceptedTask, TaskStatus, Timestamp, WaitingFor } from "./Task.ts"

const pageFields = {
  limit: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.pageEntriesMax }))
  ).annotateKey({ description: "Entries wanted, 1 to `pageEntriesMax`; `pageEntriesDefault` when absent." }),
  cursor: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(256)))
}

export const PageQuery = Schema.Struct(pageFields)
export type PageQuery = typeof PageQuery.Type

export const ListTasks = Schema.Struct({
  ...pageFields,
  status: Schema.optionalKey(TaskStatus),
  waiting_for: Schema.optionalKey(WaitingFor).annotateKey({
    description: "What pending tasks wait for; `signal`: paused ones that wait for a signal."
  }),
  awaits: Schema.optionalKey(SignalName).annotateKey({
    description: "Tasks that are paused until the signal of this name comes, e.g. `approval`."
  }),
  type: Schema.optionalKey(TaskType),
  agent: Schema.optionalKey(AgentRef),
  label: Schema.optionalKey(
    Schema.String.check(Schema.isPattern(/^[^=]{1,255}=.{0,255}$/u, { expected: "key=value" }))
  ).annotateKey({ description: "`key=value`, exact." }),
  parent: Schema.optionalKey(TaskId),
  graph: Schema.optionalKey(GraphId),
  created_after: Schema.optionalKey(Timestamp),
  created_before: Schema.optionalKey(Timestamp)
})
export type ListTasks = typeof ListTasks.Type

export const ListAgents = Schema.Struct({
  ...pageFields,
  type: Schema.optionalKey(Schema.String),
  capability: Schema.optionalKey(TaskType)
})
export type ListAgents = typeof ListAgents.Type

export const ListSchedules = Schema.Struct({
  ...pageFields,
  status: Schema.optionalKey(ScheduleStatus)
})
export type ListSchedules = typeof ListSchedules.Type

/** Outcome of one item of a batch: the task, or the problem that refused it (RFC 9457 members). */
export const BatchItem = Schema.Union([
  Schema.Struct({ index: Schema.Int, status: Schema.Literal(202), task: AcceptedTask }),
  Schema.Struct({ index: Schema.Int, status: Schema.Int, problem: Schema.Record(Schema.String, Schema.Json) })
]).annotate({ identifier: "BatchItem" })
export type BatchItem = typeof BatchItem.Type
