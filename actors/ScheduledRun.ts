/**
 * Decides, as pure functions, which command a run of a schedule is: its template, told apart from other runs by an
 * idempotency key, and marked with where it comes from.
 */
import type { ScheduleId } from "../protocol/Ids.ts"
import { GraphId, TaskId } from "../protocol/Ids.ts"
import type { SubmitGraph, SubmitTask } from "../protocol/Task.ts"
import type { AcceptOutcome } from "./ports/Ledger.ts"
import type { DueSchedule, Made, Template } from "./ports/ScheduleStore.ts"
import { momentOf } from "./Recurrence.ts"

/** The key under which a due time is submitted, whichever node does it. */
export const keyOf = ({ dueMillis, runSecret }: Pick<DueSchedule, "dueMillis" | "runSecret">): string =>
  `schedule/${runSecret}/${momentOf(dueMillis)}`

/** The command of a due time; exactly one of both. */
export const commandOf = (schedule: DueSchedule) =>
  marked(schedule, { schedule_id: schedule.id, scheduled_for: momentOf(schedule.dueMillis) }, keyOf(schedule))

/** The command of a run that somebody asked for; exactly one of both. */
export const askedFor = (schedule: Template & { readonly id: ScheduleId }, key: string | undefined) =>
  marked(schedule, { schedule_id: schedule.id }, key)

type Command =
  | { readonly task: SubmitTask; readonly graph: undefined }
  | { readonly task: undefined; readonly graph: SubmitGraph }

const marked = (
  { graph, task }: Template,
  mark: Readonly<Record<string, string>>,
  key: string | undefined
): Command => {
  const keyed = key === undefined ? {} : { idempotency_key: key }
  if (task !== undefined) {
    return { task: { ...task, metadata: { ...task.metadata, ...mark }, ...keyed }, graph: undefined }
  }
  const tasks = Object.fromEntries(
    Object.entries(graph?.tasks ?? {}).map(([name, each]) => [
      name,
      { ...each, metadata: { ...each.metadata, ...mark } }
    ])
  )
  return { task: undefined, graph: { ...graph, tasks, ...keyed } }
}

/** What an idempotency key stands for. */
export const madeOf = (existing: Extract<AcceptOutcome, { readonly _tag: "Existing" }>): Made =>
  existing.routed === undefined
    ? { taskId: undefined, graphId: GraphId.make(existing.id) }
    : { taskId: TaskId.make(existing.id), graphId: undefined }
