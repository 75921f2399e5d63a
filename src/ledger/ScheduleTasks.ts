/**
 * Which tasks a schedule submitted. Written in the statement that records the run, so that both are there or neither.
 */
import type { SqlClient } from "effect/sql/SqlClient"
import type { Made } from "../../actors/ports/ScheduleStore.ts"

/** A part of a statement: notes what was made for the schedules of `source`, a query before it with `id` and `namespace`. */
export const noted = (sql: SqlClient, source: string, { graphId, taskId }: Made) => {
  const from = sql`insert into schedule_tasks (schedule_id, task_id) select s.id, t.id from ${sql.literal(source)} s join tasks t`
  return graphId === undefined
    ? sql`${from} on t.id = ${taskId ?? null}::uuid and t.namespace = s.namespace on conflict do nothing`
    : sql`${from} on t.graph_id = ${graphId}::uuid and t.graph_key is not null and t.namespace = s.namespace
        on conflict do nothing`
}
