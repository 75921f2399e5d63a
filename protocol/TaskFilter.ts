/**
 * Owns which tasks a list, a count of a dry run, or an action on many tasks means. Filters combine with and; a filter that
 * takes several values takes any of them, but labels and conditions, which must all hold.
 *
 * Closed: a condition names a JSON Pointer and a text, both of which are values to Postgres and never SQL.
 */
import { Schema } from "effect"
import { AgentRef, GraphId, ScheduleRef, SignalName, TaskId, TaskType } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { TaskPriority, TaskStatus, Timestamp, WaitingFor } from "./Task.ts"

/** One value or several; in a query string the parameter is repeated. */
const several = <S extends Schema.Constraint>(value: S) =>
  Schema.optionalKey(Schema.ArrayEnsure(value).check(Schema.isBetweenLength(1, Limits.filterValuesMax)))

const label = Schema.String.check(Schema.isPattern(/^[^=]{1,255}=.{0,255}$/u, { expected: "key=value" }))

/** A place in payload or metadata and the text that must stand there: `payload./customer/id=42`. */
export interface Condition {
  readonly column: "payload" | "metadata"
  /** Reference tokens of the JSON Pointer (RFC 6901), unescaped. */
  readonly path: ReadonlyArray<string>
  readonly value: string
}

const conditionPattern = /^(payload|metadata)\.((?:\/(?:[^~/=\0]|~[01]){0,200}){1,16})=([^\0]*)$/su

const condition = Schema.String.check(
  Schema.isMaxLength(Limits.conditionCharactersMax),
  Schema.isPattern(conditionPattern, {
    expected: "a condition such as payload./customer/id=42 (a JSON Pointer into payload or metadata, =, text)"
  })
)

/** The parts of a condition that the schema has let through. */
export const conditionOf = (text: string): Condition => {
  const [, column = "", pointer = "", value = ""] = conditionPattern.exec(text) ?? []
  return {
    column: column === "metadata" ? "metadata" : "payload",
    path: pointer
      .slice(1)
      .split("/")
      .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~")),
    value
  }
}

/** Filters of time, by the column each looks at. */
export const momentFilters = [
  "created_after",
  "created_before",
  "started_after",
  "started_before",
  "completed_after",
  "completed_before"
] as const

export const taskFilterFields = {
  status: several(TaskStatus).annotateKey({ description: "In one of these states." }),
  waiting_for: Schema.optionalKey(WaitingFor).annotateKey({
    description: "What pending tasks wait for; `signal`: paused ones that wait for a signal."
  }),
  awaits: Schema.optionalKey(SignalName).annotateKey({
    description: "Tasks that are paused until the signal of this name comes, e.g. `approval`."
  }),
  type: several(TaskType).annotateKey({ description: "Of one of these types." }),
  agent: Schema.optionalKey(AgentRef),
  priority: several(TaskPriority),
  label: several(label).annotateKey({ description: "`key=value`, exact; all of them." }),
  where: several(condition).annotateKey({
    description:
      "Conditions on payload or metadata, all of them: a JSON Pointer and the text that stands there, `payload./customer/id=42`."
  }),
  name: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax))).annotateKey({
    description: "Text within the name, in upper or lower case."
  }),
  parent: Schema.optionalKey(TaskId),
  graph: Schema.optionalKey(GraphId),
  schedule: Schema.optionalKey(ScheduleRef).annotateKey({
    description: "Submitted by this schedule, by id or name: its tasks, and those of its graphs."
  }),
  retry_of: Schema.optionalKey(TaskId).annotateKey({ description: "Retries of this task." }),
  error: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 100))).annotateKey({
    description: "Ended with this error code."
  }),
  dead_letter: Schema.optionalKey(Schema.Boolean).annotateKey({
    description: "True: failed or timed out, not acknowledged, and not retried."
  }),
  created_after: Schema.optionalKey(Timestamp),
  created_before: Schema.optionalKey(Timestamp),
  started_after: Schema.optionalKey(Timestamp),
  started_before: Schema.optionalKey(Timestamp),
  completed_after: Schema.optionalKey(Timestamp),
  completed_before: Schema.optionalKey(Timestamp)
}

export const TaskFilter = Schema.Struct(taskFilterFields).annotate({ identifier: "TaskFilter" })
export type TaskFilter = typeof TaskFilter.Type
