/**
 * Owns the columns that views of tasks, graphs and events are read with, and what becomes of a row. Names of columns are
 * those of the wire, so a row is a view but for what is absent rather than null. Rows come from our own SQL: typed here
 * once and trusted, no schema runs per row.
 */
import type { Schema } from "effect"
import type { Event } from "../../protocol/Event.ts"
import type { GraphKey, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type {
  AwaitedChildren,
  Dependency,
  Graph,
  Task,
  TaskConfiguration,
  TaskError,
  TaskStatus,
  WaitingOn
} from "../../protocol/Task.ts"
import { startedData } from "./TaskRows.ts"

/** A column of Postgres's clock as RFC 3339 in UTC with microseconds, whatever the session's time zone. */
export const utc = (column: string, name: string) =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${name}`

/** `t` is the task. */
const summaryColumns = `t.id, t.namespace, t.name, t.type, t.description, t.agent_id, t.status, t.waiting_for, t.unique_key, t.coalesce_key,
  t.lane as priority, t.configuration, t.progress, t.parent_id, t.graph_id, t.graph_key, t.retry_of,
  ${utc("t.run_at", "run_at")}, ${utc("t.deadline", "deadline")}, t.labels, t.metadata, t.attempt, t.max_attempts,
  ${utc("t.created_at", "created_at")}, ${utc("t.started_at", "started_at")},
  ${utc("t.completed_at", "completed_at")}, t.version`

/** A task as a list shows it. */
export const listColumns = `${summaryColumns}, null as result, false as has_payload, null as payload, null as dependencies, null as waiting_on, null as awaited_children`

/** The payload; of a task that gathers payloads, those that have joined so far. */
const payload = `case when t.coalesce_key is not null and t.payload is null then (
    select '[' || string_agg(i.payload::text, ',' order by i.number) || ']' from coalesced_items i where i.task_id = t.id
  )::json else t.payload end`

/** A whole task. A payload of JSON `null` is not the absence of one. */
export const taskColumns = `${summaryColumns}, t.result,
  t.payload is not null or (t.coalesce_key is not null and exists (select from coalesced_items i where i.task_id = t.id)) as has_payload,
  ${payload} as payload, (
    select json_agg(json_build_object('task_id', d.parent_id, 'on', case when d.on_ended then 'ended' else 'completed' end,
      'required', d.required) order by d.parent_id)
    from task_dependencies d where d.child_id = t.id and d.element is null
  ) as dependencies, case when t.waiting_for = 'capacity' then (
    select json_build_object('limit_id', w.limit_id, 'limit', l.name, 'key', w.key, 'position', q.position,
      'estimate_ms', ceil(q.position * l.rate_window_ms::float8 / l.rate_limit))
    from task_limits w
      left join limits l on l.id = w.limit_id
      cross join lateral (
        select count(*)::int as position from (
          select 1 from task_limits o where o.waits and o.limit_id = w.limit_id and o.key = w.key and o.fair = w.fair
            and (o.lane, o.task_id) <= (w.lane, w.task_id) limit ${Limits.waitingCountedMax}
        ) o
      ) q
    where w.task_id = t.id and w.waits
  ) end as waiting_on, case when t.waiting_for = 'children' then (
    select json_build_object('open', count(*) filter (where c.alive), 'total', count(*),
      'tasks', coalesce((array_agg(a.child_id order by a.place) filter (where c.alive))[1:${Limits.awaitedChildrenShown}], '{}'))
    from awaited_children a cross join lateral (
      select coalesce((select x.completed_at is null from tasks x where x.id = a.child_id), false) as alive
    ) c
    where a.task_id = t.id and a.position = t.parked_position
  ) end as awaited_children`

/** A task as it is archived: what its view shows, under the same names. */
export const archiveColumns = `${summaryColumns}, t.result, t.payload, (
    select json_agg(json_build_object('task_id', d.parent_id, 'on', case when d.on_ended then 'ended' else 'completed' end,
      'required', d.required) order by d.parent_id)
    from task_dependencies d where d.child_id = t.id
  ) as dependencies`

type Absent =
  | "unique_key"
  | "coalesce_key"
  | "waiting_on"
  | "awaited_children"
  | "description"
  | "payload"
  | "configuration"
  | "dependencies"
  | "labels"
  | "metadata"

export interface TaskRow extends Omit<Task, Absent> {
  readonly waiting_on: WaitingOn | null
  readonly awaited_children: AwaitedChildren | null
  readonly unique_key: string | null
  readonly coalesce_key: string | null
  readonly description: string | null
  readonly configuration: TaskConfiguration | null
  readonly has_payload: boolean
  readonly payload: Schema.Json
  readonly dependencies: ReadonlyArray<Dependency> | null
  readonly labels: Task["labels"] | null
  readonly metadata: Task["metadata"] | null
}

export const taskOfRow = (row: TaskRow): Task => {
  const { configuration, dependencies, description, has_payload, labels, metadata, payload, waiting_on, ...others } =
    row
  const { awaited_children, coalesce_key, unique_key, ...rest } = others
  return {
    ...rest,
    ...(unique_key !== null && { unique_key }),
    ...(coalesce_key !== null && { coalesce_key }),
    ...(waiting_on !== null && { waiting_on }),
    ...(awaited_children !== null && { awaited_children }),
    ...(description !== null && { description }),
    ...(has_payload && { payload }),
    ...(dependencies !== null && { dependencies }),
    configuration: configuration ?? {},
    labels: labels ?? {},
    metadata: metadata ?? {}
  }
}

/** `e` is the event. */
export const eventColumns = `e.type, e.kind, e.aggregate, e.number, ${utc("e.at", "at")}, e.namespace, e.actor, e.trace, e.data, e.attempt`

export interface EventRow extends Event {
  readonly attempt: number | null
}

/** The attempt that began or ended stands in a column of its own, and in the view in the event's data. */
export const eventOfRow = ({ attempt, ...event }: EventRow): Event => {
  if (attempt === null || attempt === 0 || !ofAttempts.has(event.type)) return event
  const { data } = event
  const own = event.type === "TaskStarted" ? startedData(attempt, undefined) : { attempt }
  return { ...event, data: typeof data === "object" ? Object.assign(own, data) : own }
}

const ofAttempts: ReadonlySet<Event["type"]> = new Set([
  "TaskStarted",
  "TaskRetried",
  "TaskCompleted",
  "TaskFailed",
  "TaskTimedOut"
])

/** `g` is the graph. */
export const graphColumns = `g.id, g.namespace, g.name, ${utc("g.created_at", "created_at")}, g.on_failure, g.retry_of`

/** How a graph `g` is paused as a whole; null when it is not. */
export const graphPausedColumn = `(
  select json_build_object('phase', p.phase, 'actor', p.actor, 'reason', p.reason) from pauses p where p.id = g.id
) as paused`

export type GraphRow = Pick<Graph, "id" | "namespace" | "name" | "created_at" | "on_failure" | "retry_of"> & {
  readonly paused: NonNullable<Graph["paused"]> | null
}

/**
 * A task as its graph shows it. A result is looked into only where that is safe: Postgres cannot take apart a JSON
 * document that holds the escape of a NUL character. Names of parents are those of this graph, also where the parent is a
 * task of the graph that this one retries.
 */
export const graphTaskColumns = `t.id, t.graph_key as key, t.step, t.name, t.type, t.agent_id, t.status, t.waiting_for, t.attempt,
  t.progress,
  case when t.status <> 'completed' and strpos(t.result::text, '\\u0000') = 0 then t.result -> 'error' end as error,
  case when strpos(t.result::text, '\\u0000') = 0 then (t.result ->> 'execution_time_ms')::float8 end as execution_time_ms,
  array(
    select p.graph_key from task_dependencies d join tasks p on p.id = d.parent_id
    where d.child_id = t.id and d.element is null and p.graph_key is not null order by p.id
  ) as dependencies`

export interface GraphTaskRow extends Omit<Graph["tasks"][number], "error" | "dependencies"> {
  readonly step: boolean | null
  readonly error: TaskError | null
  readonly dependencies: ReadonlyArray<GraphKey>
}

/** Elements of one map of a graph in one state; a map without elements has one row without a status. */
export interface ElementsRow {
  readonly id: TaskId
  readonly total: number | null
  readonly status: TaskStatus | null
  readonly count: number
}

export const graphOfRows = (
  { paused, ...graph }: GraphRow,
  rows: ReadonlyArray<GraphTaskRow>,
  elements: ReadonlyArray<ElementsRow>
): Graph => {
  const maps = new Map<string, { readonly total: number | null; readonly counts: Record<string, number> }>()
  for (const { count, id, status, total } of elements) {
    const map = maps.get(id) ?? { total, counts: {} }
    maps.set(id, map)
    if (status !== null) map.counts[status] = count
  }
  const tasks = rows.map(({ step: _, ...task }) => {
    const map = maps.get(task.id)
    return map === undefined ? task : { ...task, map }
  })
  const counts: Record<string, number> = {}
  for (const { status } of tasks) counts[status] = (counts[status] ?? 0) + 1
  const open = ["pending", "queued", "running", "paused"].some((status) => counts[status] !== undefined)
  return { ...graph, counts, ended: !open, ...(open && paused !== null && { paused }), tasks }
}
