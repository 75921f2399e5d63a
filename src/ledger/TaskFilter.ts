/**
 * Owns what the filters of a task list mean in SQL. Every value is a parameter; only statuses, a closed set, stand in
 * the text, because an index with a condition serves no query that hides the condition in a parameter.
 */
import type { SqlClient } from "effect/sql/SqlClient"
import type { Fragment } from "effect/sql/Statement"
import type { Namespace } from "../../protocol/Ids.ts"
import type { ListTasks } from "../../protocol/Query.ts"
import type { TaskStatus } from "../../protocol/Task.ts"
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

/** Whether no index narrows the search, so that it could read a whole namespace to find one task. */
export const looksAtEveryRow = (query: ListTasks): boolean =>
  query.graph === undefined &&
  query.parent === undefined &&
  (query.type !== undefined ||
    query.agent !== undefined ||
    query.label !== undefined ||
    query.created_after !== undefined ||
    query.created_before !== undefined ||
    query.status === "completed")

/** Conditions on `tasks t`. */
export const conditionsOf = (sql: SqlClient, namespace: Namespace, query: ListTasks): ReadonlyArray<Fragment> => {
  const conditions: Array<Fragment> = [sql`t.namespace = ${namespace}`]
  if (query.status !== undefined) conditions.push(sql`t.status = ${sql.literal(statusTexts[query.status])}`)
  if (query.waiting_for !== undefined) {
    // The statuses that a task waits in, so that the index of what waits serves it.
    conditions.push(sql`t.status in ('pending', 'paused')`, sql`t.waiting_for = ${query.waiting_for}`)
  }
  if (query.awaits !== undefined) {
    // Those that hold their slot while they wait are left out: nothing but the index of what waits finds a few among many.
    conditions.push(sql`t.status = 'paused'`, sql`t.waiting_for = 'signal'`)
    conditions.push(sql`t.id in (
      select a.task_id from task_awaits a where a.namespace = ${namespace} and a.name = ${query.awaits} and a.outcome is null)`)
  }
  if (query.type !== undefined) conditions.push(sql`t.type = ${query.type}`)
  if (query.agent !== undefined) {
    conditions.push(
      isAgentId(query.agent)
        ? sql`t.agent_id = ${query.agent}`
        : sql`t.agent_id in (select a.id from agents a where a.namespace = ${namespace} and a.name = ${query.agent})`
    )
  }
  if (query.label !== undefined) conditions.push(sql`t.labels @> ${labelJson(query.label)}::jsonb`)
  if (query.parent !== undefined) conditions.push(sql`t.parent_id = ${query.parent}`)
  if (query.graph !== undefined) conditions.push(sql`t.graph_id = ${query.graph}`)
  if (query.created_after !== undefined) {
    conditions.push(sql`t.created_at > ${query.created_after}::timestamptz`)
    conditions.push(sql`t.id > ${idAt(Date.parse(query.created_after) - skewMillis)}`)
  }
  if (query.created_before !== undefined) {
    conditions.push(sql`t.created_at < ${query.created_before}::timestamptz`)
    conditions.push(sql`t.id < ${idAt(Date.parse(query.created_before) + skewMillis)}`)
  }
  return conditions
}

/** `key=value`; the value may hold further `=`. */
const labelJson = (label: string): string => {
  const split = label.indexOf("=")
  return JSON.stringify({ [label.slice(0, split)]: label.slice(split + 1) })
}

/**
 * Ids carry the accepting node's clock, `created_at` Postgres's: ids narrow the search by that clock give or take this
 * much, the column decides.
 */
const skewMillis = 86_400_000

/** The smallest UUIDv7 of a moment. */
const idAt = (unixMillis: number): string => {
  const hex = Math.min(Math.max(unixMillis, 0), 2 ** 48 - 1)
    .toString(16)
    .padStart(12, "0")
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`
}
