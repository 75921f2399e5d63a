/**
 * Owns the translation between rows of `schedules` and the words of the protocol. Rows come from our own SQL, so they are
 * typed here once and trusted; no schema runs per row.
 */
import type { GraphId, Namespace, ScheduleId, ScheduleName, TaskId } from "../../protocol/Ids.ts"
import type {
  CatchUp,
  GraphTemplate,
  Overlap,
  RunOutcome,
  Schedule,
  ScheduleStatus,
  TaskTemplate
} from "../../protocol/Schedule.ts"

const millisText = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
const microsText = (column: string) => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
/** Milliseconds since 1970; due times are whole ones. */
export const millisOf = (column: string) => `round(extract(epoch from ${column}) * 1000)::float8`

/** Columns of a schedule as a whole; `s` is the schedule. */
export const scheduleColumns = `s.id, s.namespace, s.name, s.description, s.cron, s.every_ms::float8 as every_ms, s.time_zone,
  ${millisText("s.starts_at")} as starts_at, ${millisText("s.ends_at")} as ends_at,
  ${millisOf("s.anchor_at")} as anchor_millis, s.jitter_ms, s.catch_up, s.overlap, s.task, s.graph, s.labels, s.owner,
  s.paused, ${millisOf("s.due_at")} as due_millis, ${millisText("s.due_at")} as due_at,
  ${millisText("s.last_due_at")} as last_due_at, s.last_outcome, s.last_reason, s.last_task_id, s.last_graph_id,
  ${microsText("s.created_at")} as created_at, ${microsText("s.updated_at")} as updated_at, s.version`

export interface ScheduleRow {
  readonly id: ScheduleId
  readonly namespace: Namespace
  readonly name: ScheduleName
  readonly description: string | null
  readonly cron: string | null
  readonly every_ms: number | null
  readonly time_zone: string
  readonly starts_at: string | null
  readonly ends_at: string | null
  readonly anchor_millis: number
  readonly jitter_ms: number
  readonly catch_up: CatchUp
  readonly overlap: Overlap
  readonly task: TaskTemplate | null
  readonly graph: GraphTemplate | null
  readonly labels: Schedule["labels"]
  readonly owner: string
  readonly paused: boolean
  readonly due_millis: number | null
  readonly due_at: string | null
  readonly last_due_at: string | null
  readonly last_outcome: RunOutcome | null
  readonly last_reason: string | null
  readonly last_task_id: TaskId | null
  readonly last_graph_id: GraphId | null
  readonly created_at: string
  readonly updated_at: string
  readonly version: number
}

const statusOf = (row: ScheduleRow): ScheduleStatus => {
  if (row.paused) return "paused"
  return row.due_at === null ? "ended" : "active"
}

export const scheduleOfRow = (row: ScheduleRow): Schedule => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  ...(row.description !== null && { description: row.description }),
  status: statusOf(row),
  cron: row.cron,
  every_ms: row.every_ms,
  time_zone: row.time_zone,
  starts_at: row.starts_at,
  ends_at: row.ends_at,
  jitter_ms: row.jitter_ms,
  catch_up: row.catch_up,
  overlap: row.overlap,
  ...(row.task !== null && { task: row.task }),
  ...(row.graph !== null && { graph: row.graph }),
  labels: row.labels,
  owner: row.owner,
  next_run_at: row.due_at,
  last_run_at: row.last_due_at,
  last_outcome: row.last_outcome,
  last_reason: row.last_reason,
  last_task_id: row.last_task_id,
  last_graph_id: row.last_graph_id,
  created_at: row.created_at,
  updated_at: row.updated_at,
  version: row.version
})

/** The status of a list's filter as a condition on the row. */
export const statusConditions: { readonly [S in ScheduleStatus]: string } = {
  active: "s.due_at is not null",
  paused: "s.paused",
  ended: "not s.paused and s.due_at is null"
}
