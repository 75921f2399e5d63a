/**
 * Stored schedules as the timekeeper sees them: what is due, and what became of it.
 *
 * Invariant: `last_due_at` only grows, so of several that settle one due time the first one writes, with the event, and
 * the others change nothing. A schedule goes on only from the due time that was settled: whoever changed it meanwhile
 * has set another.
 */
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import {
  type DueSchedule,
  type Made,
  type Next,
  ScheduleStore,
  ScheduleStoreUnavailable,
  type Settlement
} from "../../actors/ports/ScheduleStore.ts"
import { momentOf } from "../../actors/Recurrence.ts"
import type { Namespace, NodeName, ScheduleId, TaskId } from "../../protocol/Ids.ts"
import { millisOf, type ScheduleRow, scheduleColumns } from "./ScheduleRows.ts"
import { noted } from "./ScheduleTasks.ts"
import { orUnavailable } from "./StoreUnavailable.ts"

interface TakenRow extends ScheduleRow {
  readonly due_millis: number
  readonly now_millis: number
  readonly run_secret: string
  readonly attempted_millis: number | null
}

/** Events are recorded as `node`'s, which fires. */
export const layer = (node: NodeName) =>
  Layer.effect(
    ScheduleStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(scheduleColumns)
      const now = sql.literal(millisOf("clock_timestamp()"))
      const actor = `node:${node}`

      const take = Effect.fn("ScheduleStore.take")((limit: number) =>
        sql<TakenRow>`
          with due as (
            select id, attempted_at from schedules where starts_next_at <= now()
            order by starts_next_at limit ${limit} for no key update skip locked
          )
          update schedules s set attempted_at = coalesce(s.attempted_at, now()) from due where s.id = due.id
          returning ${columns}, s.run_secret, ${now} as now_millis,
            (extract(epoch from now() - due.attempted_at) * 1000)::float8 as attempted_millis
        `.pipe(
          Effect.map((rows) => rows.map(dueScheduleOf)),
          orAway("ScheduleStore.take")
        )
      )

      const settle: ScheduleStore["Service"]["settle"] = Effect.fn("ScheduleStore.settle")(function* (
        { dueMillis, id },
        settlement,
        next
      ) {
        const due = momentOf(dueMillis)
        const { event, graphId, outcome, reason, taskId } = recordOf(settlement)
        const data = JSON.stringify({ due, reason, task_id: taskId, graph_id: graphId })
        const rows = yield* sql`
          with settled as (
            update schedules s set ${goOn(due, next)},
              last_due_at = ${due}::timestamptz, last_outcome = ${outcome}, last_reason = ${reason ?? null},
              last_task_id = case when ${outcome} = 'fired' then ${taskId ?? null}::uuid else s.last_task_id end,
              last_graph_id = case when ${outcome} = 'fired' then ${graphId ?? null}::uuid else s.last_graph_id end,
              event_number = s.event_number + 1
            where s.id = ${id} and (s.last_due_at is null or s.last_due_at < ${due}::timestamptz)
            returning s.id, s.namespace, s.event_number
          ), noted as (${noted(sql, "settled", { graphId, taskId })})
          insert into events (aggregate, number, kind, type, namespace, actor, data)
          select id, event_number, 'schedule', ${event}, namespace, ${actor}, ${data}::json from settled
          returning aggregate
        `.pipe(orAway("ScheduleStore.settle"))
        return rows.length > 0
      })

      /** Only from where the settler stood. */
      const goOn = (due: string, next: Next | undefined) => {
        const nextDue = next === undefined ? null : momentOf(next.dueMillis)
        const start = next === undefined ? null : momentOf(next.startMillis)
        const here = sql`s.due_at = ${due}::timestamptz`
        return sql`
          due_at = case when ${here} then ${nextDue}::timestamptz else s.due_at end,
          starts_next_at = case when ${here} then ${start}::timestamptz else s.starts_next_at end,
          attempted_at = case when ${here} then null else s.attempted_at end
        `
      }

      const leaveOut = Effect.fn("ScheduleStore.leaveOut")(function* (
        { dueMillis, id }: { readonly id: ScheduleId; readonly dueMillis: number },
        next: Next | undefined
      ) {
        const due = momentOf(dueMillis)
        const until = next === undefined ? null : momentOf(next.dueMillis)
        yield* sql`
          with left_out as (
            update schedules s set ${goOn(due, next)}, last_outcome = 'skipped', last_reason = ${missed},
              last_due_at = greatest(s.last_due_at, ${due}::timestamptz), event_number = s.event_number + 1
            where s.id = ${id} and s.due_at = ${due}::timestamptz
            returning s.id, s.namespace, s.event_number
          )
          insert into events (aggregate, number, kind, type, namespace, actor, data)
          select id, event_number, 'schedule', 'ScheduleSkipped', namespace, ${actor},
            ${JSON.stringify({ due, until, reason: missed })}::json
          from left_out
        `.pipe(orAway("ScheduleStore.leaveOut"))
      })

      const openTasks = Effect.fn("ScheduleStore.openTasks")((namespace: Namespace, made: Made, limit: number) =>
        sql<{ readonly id: TaskId }>`
          select t.id from tasks t
          where t.namespace = ${namespace} and t.status not in ('completed', 'failed', 'timeout', 'cancelled')
            and ${made.taskId === undefined ? sql`t.graph_id = ${made.graphId ?? null}::uuid` : sql`t.id = ${made.taskId}`}
          limit ${limit}
        `.pipe(
          Effect.map((rows) => rows.map(({ id }) => id)),
          orAway("ScheduleStore.openTasks")
        )
      )

      return ScheduleStore.of({ take, settle, leaveOut, openTasks })
    })
  )

/** Why due times were left out that nothing could start in time. */
const missed = "missed by more than the grace"

const recordOf = (settlement: Settlement) =>
  settlement._tag === "Fired"
    ? ({
        event: "ScheduleFired",
        outcome: "fired",
        reason: undefined,
        taskId: settlement.taskId,
        graphId: settlement.graphId
      } as const)
    : ({
        event: settlement._tag === "Skipped" ? "ScheduleSkipped" : "ScheduleRefused",
        outcome: settlement._tag === "Skipped" ? "skipped" : "refused",
        reason: settlement.reason,
        taskId: undefined,
        graphId: undefined
      } as const)

const dueScheduleOf = (row: TakenRow): DueSchedule => ({
  id: row.id,
  namespace: row.namespace,
  owner: row.owner,
  runSecret: row.run_secret,
  cron: row.cron,
  every_ms: row.every_ms,
  time_zone: row.time_zone,
  starts_at: row.starts_at,
  ends_at: row.ends_at,
  anchorMillis: row.anchor_millis,
  jitterMillis: row.jitter_ms,
  catchUp: row.catch_up,
  overlap: row.overlap,
  task: row.task ?? undefined,
  graph: row.graph ?? undefined,
  dueMillis: row.due_millis,
  nowMillis: row.now_millis,
  attemptedForMillis: row.attempted_millis ?? undefined,
  last: { taskId: row.last_task_id ?? undefined, graphId: row.last_graph_id ?? undefined }
})

const orAway =
  (operation: string) =>
  <A, R>(effect: Effect.Effect<A, SqlError, R>) =>
    Effect.mapError(
      orUnavailable(operation)(effect),
      ({ message }) => new ScheduleStoreUnavailable({ operation, message })
    )
