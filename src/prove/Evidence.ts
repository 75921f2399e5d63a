/**
 * What the database says about the work of a proof: of each task its state, its recorded effect, and the events of its attempts. Read in batches,
 * by key; changes nothing.
 */
import { Clock, Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Namespace } from "../../protocol/Ids.ts"
import { numberOf } from "./Work.ts"

/** An attempt that ended with its instance, and its successor. Times are milliseconds of Postgres's clock. */
export interface CutAttempt {
  /** The node that it ran on. */
  readonly node: string
  readonly startedAt: number
  /** When its loss was recorded. */
  readonly lostAt: number
  readonly resumedAt: number | null
}

export interface TaskEvidence {
  readonly id: string
  /** Undefined for a task that is none of the proof's. */
  readonly number: number | undefined
  readonly status: string
  readonly createdAt: number
  readonly endedAt: number | null
  /** Recorded begins of attempts, ends of the task, and failures that were followed by another attempt. */
  readonly starts: number
  readonly ends: number
  readonly retries: number
  readonly cut: ReadonlyArray<CutAttempt>
  /** What the effect's counter answered, as it was recorded as the result. */
  readonly receipt: string | null
}

const batchTasks = 2_000

interface Row {
  readonly id: string
  readonly name: string
  readonly status: string
  readonly created_at: number
  readonly ended_at: number | null
  readonly receipt: string | null
  readonly starts: number
  readonly ends: number
  readonly retries: number
  readonly cut: number
}

interface EventRow {
  readonly id: string
  readonly type: string
  readonly lost: boolean
  readonly node: string
  readonly at: number
}

/** Every task of the namespace. */
export const read = Effect.fn("Evidence.read")(function* (namespace: Namespace) {
  const sql = yield* SqlClient.SqlClient
  const found: Array<TaskEvidence> = []
  let after = "00000000-0000-0000-0000-000000000000"
  for (;;) {
    const rows = yield* sql<Row>`
      select t.id::text, t.name, t.status::text as status, ${millis(sql, "t.created_at")} as created_at,
        ${millis(sql, "t.completed_at")} as ended_at, t.result -> 'data' -> 'body' ->> 'receipt' as receipt, e.*
      from (
        select * from tasks where namespace = ${namespace} and id > ${after}::uuid order by id limit ${batchTasks}
      ) t cross join lateral (
        select count(*) filter (where x.type = 'TaskStarted')::int as starts,
          count(*) filter (where x.type in ('TaskCompleted', 'TaskFailed', 'TaskTimedOut', 'TaskCancelled'))::int as ends,
          count(*) filter (where x.type = 'TaskRetried')::int as retries,
          count(*) filter (where x.data ->> 'instance_lost' = 'true')::int as cut
        from events x where x.aggregate = t.id
      ) e order by t.id`
    const withCut = rows.filter(({ cut }) => cut > 0).map(({ id }) => id)
    const events =
      withCut.length === 0
        ? []
        : yield* sql<EventRow>`
            select e.aggregate::text as id, e.type, coalesce(e.data ->> 'instance_lost' = 'true', false) as lost,
              coalesce(substr(e.actor, length('node:') + 1), '') as node, ${millis(sql, "e.at")} as at
            from events e where e.aggregate = any (${withCut}::uuid[]) and e.type in ('TaskStarted', 'TaskQueued')
            order by e.aggregate, e.number`
    const eventsOf = Map.groupBy(events, ({ id }) => id)
    for (const row of rows) {
      found.push({
        id: row.id,
        number: numberOf(row.name),
        status: row.status,
        createdAt: row.created_at,
        endedAt: row.ended_at,
        starts: row.starts,
        ends: row.ends,
        retries: row.retries,
        cut: cutAttempts(eventsOf.get(row.id) ?? []),
        receipt: row.receipt
      })
    }
    const last = rows.at(-1)
    if (last === undefined || rows.length < batchTasks) return found
    after = last.id
  }
})

/** The attempts of one task that were lost, from its events in their order. Pure. */
export const cutAttempts = (events: ReadonlyArray<Omit<EventRow, "id">>): ReadonlyArray<CutAttempt> =>
  events.flatMap((event, index) => {
    const start = events.slice(0, index).findLast(({ type }) => type === "TaskStarted")
    if (!event.lost || start === undefined) return []
    const next = events.slice(index + 1).find(({ type }) => type === "TaskStarted")
    return [{ node: start.node, startedAt: start.at, lostAt: event.at, resumedAt: next?.at ?? null }]
  })

/** Milliseconds that Postgres's clock is ahead of ours. */
export const clockAhead = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const before = yield* Clock.currentTimeMillis
  const [row] = yield* sql<{ readonly now: number }>`select ${millis(sql, "clock_timestamp()")} as now`
  const after = yield* Clock.currentTimeMillis
  return Math.round((row?.now ?? before) - (before + after) / 2)
})

/** Ends that are recorded in a namespace so far: cheap, and enough to see how far the work is. */
export const endedSoFar = Effect.fn("Evidence.endedSoFar")(function* (namespace: Namespace) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly ended: number }>`
    select coalesce(sum(y.completed + y.failed + y.timed_out + y.cancelled), 0)::float8 as ended
    from agents a join agent_tallies y on y.agent_id = a.id where a.namespace = ${namespace}`
  return row?.ended ?? 0
})

const millis = (sql: SqlClient.SqlClient, expression: string) =>
  sql.literal(`(extract(epoch from ${expression}) * 1000)::float8`)
