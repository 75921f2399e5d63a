/**
 * Owns what the filters of tasks mean in SQL. Every value is a parameter; only statuses, a closed set, stand in the text,
 * because an index with a condition serves no query that hides the condition in a parameter.
 *
 * A filter has two parts: what an index answers, so that a walk along it is a walk over these tasks, and the rest, which
 * is looked up on each task of the walk.
 */
import type { SqlClient } from "effect/sql/SqlClient"
import type { Fragment } from "effect/sql/Statement"
import type { AgentRef, Namespace } from "../../protocol/Ids.ts"
import type { ListTasks } from "../../protocol/Query.ts"
import { TaskStatus } from "../../protocol/Task.ts"
import { conditionOf, type TaskFilter } from "../../protocol/TaskFilter.ts"
import { isAgentId } from "./AgentRows.ts"
import type { CursorScope } from "./Cursor.ts"

/** Each status as it stands in SQL: the only values that are not parameters. */
export const statusTexts: { readonly [S in TaskStatus]: string } = {
  pending: "'pending'",
  queued: "'queued'",
  running: "'running'",
  paused: "'paused'",
  completed: "'completed'",
  failed: "'failed'",
  timeout: "'timeout'",
  cancelled: "'cancelled'"
}

/** What a cursor of this list belongs to: everything that is asked but where to go on and how far. */
export const cursorScope = (namespace: Namespace, query: ListTasks): CursorScope => {
  const { cursor: _cursor, limit: _limit, ...filters } = query
  return { list: "tasks", namespace, filters }
}

export interface CompiledFilter {
  /** Where the tasks `t` come from: all of them, or the few that hang together. */
  readonly from: Fragment
  /** Where a walk by id stands: the column whose index it goes along. */
  readonly place: "t.id" | "s.task_id"
  /** What an index answers. */
  readonly walk: ReadonlyArray<Fragment>
  /** What is looked up on each task; empty when the index answers all of it. */
  readonly rest: ReadonlyArray<Fragment>
  /** The index finds few tasks: those of a graph, of a parent, retries of one task. */
  readonly narrow: boolean
  /** Each task's payload or metadata must be taken apart. */
  readonly costly: boolean
  /** No task can be meant. */
  readonly nothing: boolean
}

const waiting: ReadonlyArray<TaskStatus> = ["pending", "paused"]
const notCompleted: ReadonlyArray<TaskStatus> = ["failed", "timeout", "cancelled"]

/** The states that a filter leaves open; undefined when it says nothing about them. */
export const statusesOf = (filter: TaskFilter): ReadonlyArray<TaskStatus> | undefined => {
  const among: Array<ReadonlyArray<TaskStatus>> = []
  if (filter.status !== undefined) among.push(filter.status)
  // The states that a task waits in, so that the index of what waits serves it.
  if (filter.waiting_for !== undefined) among.push(waiting)
  if (filter.awaits !== undefined) among.push(["paused"])
  if (filter.error !== undefined) among.push(notCompleted)
  if (filter.dead_letter === true) among.push(["failed", "timeout"])
  return among.length === 0
    ? undefined
    : TaskStatus.literals.filter((status) => among.every((statuses) => statuses.includes(status)))
}

const isWithin = (some: ReadonlyArray<TaskStatus>, all: ReadonlyArray<TaskStatus>) =>
  some.every((status) => all.includes(status))

const statusIn = (sql: SqlClient, statuses: ReadonlyArray<TaskStatus>) =>
  sql`t.status in (${sql.literal(statuses.map((status) => statusTexts[status]).join(", "))})`

export type Sort = NonNullable<ListTasks["sort"]>

/** What the order of a list needs of its filter, or else no index has that order; undefined when it is there. */
export const missingFor = (sort: Sort | undefined, filter: TaskFilter): string | undefined => {
  const statuses = statusesOf(filter)
  if (sort === "completed" && (statuses === undefined || !isWithin(statuses, notCompleted))) {
    return "by completed needs status among failed, timeout and cancelled; without it, use completed_after and completed_before"
  }
  const isLive = statuses?.length === 1 && (statuses[0] === "queued" || statuses[0] === "running")
  return sort === "priority" && (filter.agent === undefined || !isLive)
    ? "by priority needs an agent and one status, queued or running"
    : undefined
}

/** Conditions on `tasks t`, for a walk in the order of `sort`. */
export const compile = (
  sql: SqlClient,
  namespace: Namespace,
  filter: TaskFilter,
  sort: Sort = "created"
): CompiledFilter => {
  const walk: Array<Fragment> = [sql`t.namespace = ${namespace}`]
  const rest: Array<Fragment> = []
  const statuses = statusesOf(filter)
  if (statuses !== undefined && statuses.length > 0) {
    const indexed = [waiting, notCompleted].find((all) => isWithin(statuses, all))
    if (indexed !== undefined) walk.push(statusIn(sql, indexed))
    if (statuses.length !== indexed?.length) (sort === "priority" ? walk : rest).push(statusIn(sql, statuses))
  }
  const kin: Array<Fragment> = []
  if (filter.parent !== undefined) kin.push(sql`k.parent_id = ${filter.parent}`)
  if (filter.graph !== undefined) kin.push(sql`k.graph_id = ${filter.graph}`)
  if (filter.retry_of !== undefined) kin.push(sql`k.retry_of = ${filter.retry_of}`)
  const bySchedule =
    filter.schedule === undefined
      ? undefined
      : sql`s.schedule_id = ${
          isAgentId(filter.schedule)
            ? sql`${filter.schedule}::uuid`
            : sql`(select c.id from schedules c where c.namespace = ${namespace} and c.name = ${filter.schedule})`
        }`
  const bySchedulesTasks = bySchedule !== undefined && kin.length === 0 && sort === "created"
  if (bySchedulesTasks) walk.push(bySchedule)
  else if (bySchedule !== undefined) {
    rest.push(sql`exists (select from schedule_tasks s where s.task_id = t.id and ${bySchedule} offset 0)`)
  }
  if (filter.type !== undefined) rest.push(sql`t.type = any (${[...filter.type]}::text[])`)
  if (filter.agent !== undefined) {
    if (sort === "priority") walk.push(ofPresentAgent(sql, namespace, filter.agent))
    else rest.push(ofAgent(sql, namespace, filter.agent))
  }
  if (filter.priority !== undefined) rest.push(sql`t.lane = any (${[...filter.priority]}::task_lane[])`)
  for (const label of filter.label ?? []) rest.push(sql`t.labels @> ${labelJson(label)}::jsonb`)
  for (const text of filter.where ?? []) {
    const { column, path, value } = conditionOf(text)
    rest.push(sql`t.${sql.literal(column)} #>> ${[...path]}::text[] = ${value}`)
  }
  if (filter.waiting_for !== undefined) rest.push(sql`t.waiting_for = ${filter.waiting_for}`)
  if (filter.awaits !== undefined) {
    // Those that hold their slot while they wait are left out: nothing but the index of what waits finds a few among many.
    walk.push(sql`t.waiting_for = 'signal'`)
    walk.push(sql`t.id in (
      select a.task_id from task_awaits a where a.namespace = ${namespace} and a.name = ${filter.awaits} and a.outcome is null)`)
  }
  if (filter.name !== undefined) rest.push(sql`strpos(lower(t.name), lower(${filter.name}::text)) > 0`)
  // Postgres cannot take apart a document that holds the escape of a NUL.
  if (filter.error !== undefined) {
    rest.push(
      sql`case when strpos(t.result::text, '\\u0000') = 0 then t.result #>> '{error,code}' end = ${filter.error}::text`
    )
  }
  if (filter.dead_letter !== undefined) {
    const dealtWith = sql`(exists (select from acknowledgements a where a.task_id = t.id)
      or exists (select from tasks r where r.retry_of = t.id))`
    rest.push(filter.dead_letter ? sql`not ${dealtWith}` : sql`(t.status not in ('failed', 'timeout') or ${dealtWith})`)
  }
  const place = bySchedulesTasks ? "s.task_id" : "t.id"
  moments(sql, filter, { walk, rest, place: sql.literal(place) })
  const theirs = bySchedulesTasks
    ? sql`schedule_tasks s cross join lateral (select * from tasks k where k.id = s.task_id offset 0) t`
    : sql`tasks t`
  return {
    // Looked up first: for the order of its list, a session would else read the namespace until it meets them.
    from: kin.length === 0 ? theirs : sql`(select * from tasks k where ${sql.and(kin)} offset 0) t`,
    place,
    walk,
    rest,
    narrow: kin.length > 0,
    costly: filter.where !== undefined,
    nothing: statuses?.length === 0
  }
}

/** Ids carry the time a task was accepted: what was started or ended by then was accepted before. */
const moments = (
  sql: SqlClient,
  filter: TaskFilter,
  { place, rest, walk }: { readonly walk: Array<Fragment>; readonly rest: Array<Fragment>; readonly place: Fragment }
) => {
  for (const column of ["created", "started", "completed"] as const) {
    const after = filter[`${column}_after`]
    const before = filter[`${column}_before`]
    const at = sql.literal(`t.${column}_at`)
    if (after !== undefined) {
      rest.push(sql`${at} > ${after}::timestamptz`)
      if (column === "created") walk.push(sql`${place} > ${idAt(Date.parse(after) - skewMillis)}`)
    }
    if (before !== undefined) {
      rest.push(sql`${at} < ${before}::timestamptz`)
      walk.push(sql`${place} < ${idAt(Date.parse(before) + skewMillis)}`)
    }
  }
}

const ofAgent = (sql: SqlClient, namespace: Namespace, agent: AgentRef) =>
  isAgentId(agent)
    ? sql`t.agent_id = ${agent}`
    : sql`t.agent_id in (select a.id from agents a where a.namespace = ${namespace} and a.name = ${agent})`

/** A name that is in use names one agent, so that its tasks are one stretch of an index. */
const ofPresentAgent = (sql: SqlClient, namespace: Namespace, agent: AgentRef) =>
  isAgentId(agent)
    ? sql`t.agent_id = ${agent}`
    : sql`t.agent_id = (
        select a.id from agents a where a.namespace = ${namespace} and a.name = ${agent} and a.status <> 'terminated')`

/** `key=value`; the value may hold further `=`. */
export const labelJson = (label: string): string => {
  const split = label.indexOf("=")
  return JSON.stringify({ [label.slice(0, split)]: label.slice(split + 1) })
}

/**
 * Ids carry the accepting node's clock, `created_at` Postgres's: ids narrow the search by that clock give or take this
 * much, the column decides.
 */
export const skewMillis = 86_400_000

/** The smallest UUIDv7 of a moment. */
export const idAt = (unixMillis: number): string => {
  const hex = Math.min(Math.max(unixMillis, 0), 2 ** 48 - 1)
    .toString(16)
    .padStart(12, "0")
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`
}
