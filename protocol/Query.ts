/**
 * Owns what can be asked of lists, and the outcome of each item of a batch.
 */
import { Schema } from "effect"
import { TaskType } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { ScheduleStatus } from "./Schedule.ts"
import { AcceptedTask } from "./Task.ts"
import { taskFilterFields } from "./TaskFilter.ts"

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
  ...taskFilterFields,
  sort: Schema.optionalKey(Schema.Literals(["created", "completed", "priority"])).annotateKey({
    description:
      "`created` when absent. `completed` needs `status` among failed, timeout and cancelled; `priority` needs `agent` and one `status`, queued or running."
  }),
  order: Schema.optionalKey(Schema.Literals(["desc", "asc"])).annotateKey({
    description: "`desc` when absent: newest first, or most urgent first."
  })
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
