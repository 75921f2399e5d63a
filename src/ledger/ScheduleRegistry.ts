/**
 * Stored schedules as their owners see and change them: views, lists, runs, and changes that are one transaction with
 * the event they record. What a change may be is decided by the caller, on the locked row.
 *
 * Invariant: `event_number` is the number of a schedule's last event. A namespace has at most `Limits.schedulesMax` of
 * them, also when several are made at once: makers of one namespace take turns.
 */
import { Context, Effect, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"
import type { Made } from "../../actors/ports/ScheduleStore.ts"
import type { EventType } from "../../protocol/Event.ts"
import type { GraphId, Namespace, ScheduleId, ScheduleName, ScheduleRef, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { RunOutcome, Schedule, ScheduleRun, ScheduleStatus } from "../../protocol/Schedule.ts"
import type { TaskStatus } from "../../protocol/Task.ts"
import type { ChangedBy } from "./AgentRegistry.ts"
import { isAgentId as isId } from "./AgentRows.ts"
import { millisOf, type ScheduleRow, scheduleColumns, scheduleOfRow, statusConditions } from "./ScheduleRows.ts"
import { noted } from "./ScheduleTasks.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

/** Everything about a schedule that a change may set. Moments are RFC 3339. */
export interface ScheduleState {
  readonly description: string | null
  readonly cron: string | null
  readonly every_ms: number | null
  readonly time_zone: string
  readonly starts_at: string | null
  readonly ends_at: string | null
  readonly anchor_at: string
  readonly jitter_ms: number
  readonly catch_up: ScheduleRow["catch_up"]
  readonly overlap: ScheduleRow["overlap"]
  readonly task: ScheduleRow["task"]
  readonly graph: ScheduleRow["graph"]
  readonly labels: ScheduleRow["labels"]
  readonly owner: string
  readonly paused: boolean
  /** The next due time and its start; null when paused or ended. */
  readonly next: { readonly due_at: string; readonly starts_next_at: string } | null
  /** Whether `next` is where the schedule stood before: then it may have been begun. */
  readonly sameNext: boolean
}

export interface ScheduleChange {
  readonly event: EventType
  readonly data: { readonly [name: string]: string | boolean | ReadonlyArray<string> }
  readonly state: ScheduleState
}

export interface NewSchedule {
  readonly id: ScheduleId
  readonly namespace: Namespace
  readonly name: ScheduleName
  readonly state: ScheduleState
}

interface RunRow {
  readonly number: number
  readonly at: string
  readonly due: string | null
  readonly outcome: RunOutcome
  readonly reason: string | null
  readonly task_id: TaskId | null
  readonly graph_id: GraphId | null
  readonly task_status: TaskStatus | null
}

export class ScheduleRegistry extends Context.Service<
  ScheduleRegistry,
  {
    /** Milliseconds since 1970, by Postgres's clock. */
    readonly now: Effect.Effect<number, StoreUnavailable>
    /** Nothing was stored when the name is taken or the namespace is full. */
    readonly create: (
      schedule: NewSchedule,
      by: ChangedBy
    ) => Effect.Effect<Schedule | "name-taken" | "full", StoreUnavailable>
    readonly get: (namespace: Namespace, ref: ScheduleRef) => Effect.Effect<ScheduleRow | undefined, StoreUnavailable>
    /** Newest first, at most `limit`. */
    readonly list: (
      namespace: Namespace,
      filter: { readonly status: ScheduleStatus | undefined; readonly before: ScheduleId | undefined },
      limit: number
    ) => Effect.Effect<ReadonlyArray<Schedule>, StoreUnavailable>
    /**
     * Locks the schedule, asks `decide` what shall become of it, and writes that with its event. `undefined` from `decide`
     * changes nothing and is no event. Answers the schedule after the change; `undefined` when there is none.
     */
    readonly change: <E>(
      namespace: Namespace,
      ref: ScheduleRef,
      by: ChangedBy,
      decide: (schedule: ScheduleRow, nowMillis: number) => Result.Result<ScheduleChange | undefined, E>
    ) => Effect.Effect<Schedule | undefined, E | StoreUnavailable>
    /** Removes it and answers what it was. Its events stay. */
    readonly remove: (
      namespace: Namespace,
      ref: ScheduleRef,
      by: ChangedBy
    ) => Effect.Effect<Schedule | undefined, StoreUnavailable>
    /** Records a run that somebody asked for. Nothing when the schedule has gone meanwhile. */
    readonly recordRun: (id: ScheduleId, made: Made, by: ChangedBy) => Effect.Effect<void, StoreUnavailable>
    /** Runs with a number below `before`, newest first, at most `limit`. */
    readonly runs: (
      id: ScheduleId,
      before: number | undefined,
      limit: number
    ) => Effect.Effect<ReadonlyArray<ScheduleRun & { readonly number: number }>, StoreUnavailable>
  }
>()("datamcp/ledger/ScheduleRegistry") {
  static readonly layer = Layer.effect(
    ScheduleRegistry,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(scheduleColumns)
      const clock = sql.literal(millisOf("clock_timestamp()"))

      const is = (namespace: Namespace, ref: ScheduleRef) =>
        isId(ref)
          ? sql`s.namespace = ${namespace} and s.id = ${ref}`
          : sql`s.namespace = ${namespace} and s.name = ${ref}`

      const now: ScheduleRegistry["Service"]["now"] = sql<{ readonly millis: number }>`select ${clock} as millis`.pipe(
        Effect.flatMap(([row]) =>
          row === undefined ? Effect.die(new Error("Postgres did not tell the time")) : Effect.succeed(row.millis)
        ),
        orUnavailable("ScheduleRegistry.now")
      )

      const create = Effect.fn("ScheduleRegistry.create")(
        function* ({ id, name, namespace, state }: NewSchedule, by: ChangedBy) {
          // Makers take turns; keys and agents, which refer to the row, do not wait.
          yield* sql`select from namespaces where name = ${namespace} for no key update`
          const [counted] = yield* sql<{ readonly schedules: number }>`
            select count(*)::int as schedules from schedules where namespace = ${namespace}
          `
          if ((counted?.schedules ?? 0) >= Limits.schedulesMax) return "full"
          const [row] = yield* sql<ScheduleRow>`
            insert into schedules as s (id, namespace, name, description, cron, every_ms, time_zone, starts_at, ends_at,
              anchor_at, jitter_ms, catch_up, overlap, task, graph, labels, owner, paused, due_at, starts_next_at)
            values (${id}, ${namespace}, ${name}, ${state.description}, ${state.cron}, ${state.every_ms},
              ${state.time_zone}, ${state.starts_at}::timestamptz, ${state.ends_at}::timestamptz,
              ${state.anchor_at}::timestamptz, ${state.jitter_ms}, ${state.catch_up}, ${state.overlap},
              ${json(state.task)}::json, ${json(state.graph)}::json, ${json(state.labels)}::jsonb, ${state.owner},
              ${state.paused}, ${state.next?.due_at ?? null}::timestamptz, ${state.next?.starts_next_at ?? null}::timestamptz)
            on conflict (namespace, name) do nothing
            returning ${columns}
          `
          if (row === undefined) return "name-taken"
          yield* record({ id, namespace, number: 1, event: "ScheduleCreated", data: { name } }, by)
          return scheduleOfRow(row)
        },
        (effect) => effect.pipe(sql.withTransaction, orUnavailable("ScheduleRegistry.create"))
      )

      const record = (
        of: {
          readonly id: ScheduleId
          readonly namespace: Namespace
          readonly number: number
          readonly event: EventType
          readonly data: object
        },
        by: ChangedBy
      ) => sql`
        insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
        values (${of.id}, ${of.number}, 'schedule', ${of.event}, ${of.namespace}, ${by.actor}, ${by.trace},
          ${JSON.stringify(of.data)}::json)
      `

      const get = Effect.fn("ScheduleRegistry.get")((namespace: Namespace, ref: ScheduleRef) =>
        sql<ScheduleRow>`select ${columns} from schedules s where ${is(namespace, ref)}`.pipe(
          Effect.map(([row]) => row),
          orUnavailable("ScheduleRegistry.get")
        )
      )

      const list: ScheduleRegistry["Service"]["list"] = Effect.fn("ScheduleRegistry.list")(
        (namespace, { before, status }, limit) =>
          sql<ScheduleRow>`
            select ${columns} from schedules s
            where ${sql.and([
              sql`s.namespace = ${namespace}`,
              ...(before === undefined ? [] : [sql`s.id < ${before}`]),
              ...(status === undefined ? [] : [sql.literal(statusConditions[status])])
            ])}
            order by s.id desc limit ${limit}
          `.pipe(
            Effect.map((rows) => rows.map(scheduleOfRow)),
            orUnavailable("ScheduleRegistry.list")
          )
      )

      const change = Effect.fn("ScheduleRegistry.change")(function* <E>(
        namespace: Namespace,
        ref: ScheduleRef,
        by: ChangedBy,
        decide: (schedule: ScheduleRow, nowMillis: number) => Result.Result<ScheduleChange | undefined, E>
      ) {
        const decided = yield* Effect.gen(function* () {
          const [row] = yield* sql<ScheduleRow & { readonly now_millis: number }>`
            select ${columns}, ${clock} as now_millis from schedules s where ${is(namespace, ref)} for no key update
          `
          if (row === undefined) return Result.succeed(undefined)
          const decision = decide(row, row.now_millis)
          if (Result.isFailure(decision)) return Result.fail(decision.failure)
          const after = decision.success === undefined ? row : yield* write(row, decision.success, by)
          return Result.succeed(scheduleOfRow(after))
        }).pipe(sql.withTransaction, orUnavailable("ScheduleRegistry.change"))
        return yield* Effect.fromResult(decided)
      })

      const write = Effect.fnUntraced(function* (
        before: ScheduleRow,
        { data, event, state }: ScheduleChange,
        by: ChangedBy
      ) {
        const [row] = yield* sql<ScheduleRow & { readonly event_number: number }>`
          update schedules s set description = ${state.description}, cron = ${state.cron}, every_ms = ${state.every_ms},
            time_zone = ${state.time_zone}, starts_at = ${state.starts_at}::timestamptz,
            ends_at = ${state.ends_at}::timestamptz, anchor_at = ${state.anchor_at}::timestamptz,
            jitter_ms = ${state.jitter_ms}, catch_up = ${state.catch_up}, overlap = ${state.overlap},
            task = ${json(state.task)}::json, graph = ${json(state.graph)}::json, labels = ${json(state.labels)}::jsonb,
            owner = ${state.owner}, paused = ${state.paused},
            due_at = ${state.next?.due_at ?? null}::timestamptz,
            starts_next_at = ${state.next?.starts_next_at ?? null}::timestamptz,
            attempted_at = case when ${state.sameNext} then s.attempted_at end,
            updated_at = clock_timestamp(), version = s.version + 1, event_number = s.event_number + 1
          where s.id = ${before.id}
          returning ${columns}, s.event_number
        `
        if (row === undefined) return yield* Effect.die(new Error("a locked schedule has gone"))
        yield* record({ id: row.id, namespace: row.namespace, number: row.event_number, event, data }, by)
        return row
      })

      const remove = Effect.fn("ScheduleRegistry.remove")(
        function* (namespace: Namespace, ref: ScheduleRef, by: ChangedBy) {
          const [row] = yield* sql<ScheduleRow & { readonly event_number: number }>`
            delete from schedules s where ${is(namespace, ref)} returning ${columns}, s.event_number
          `
          if (row === undefined) return undefined
          const number = row.event_number + 1
          yield* record({ id: row.id, namespace, number, event: "ScheduleDeleted", data: { name: row.name } }, by)
          return scheduleOfRow(row)
        },
        (effect) => effect.pipe(sql.withTransaction, orUnavailable("ScheduleRegistry.remove"))
      )

      const recordRun = Effect.fn("ScheduleRegistry.recordRun")((id: ScheduleId, made: Made, by: ChangedBy) =>
        sql`
          with asked as (
            update schedules s set event_number = s.event_number + 1 where s.id = ${id}
            returning s.id, s.namespace, s.event_number
          ), noted as (${noted(sql, "asked", made)})
          insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
          select id, event_number, 'schedule', 'ScheduleFired', namespace, ${by.actor}, ${by.trace},
            ${JSON.stringify({ task_id: made.taskId, graph_id: made.graphId })}::json
          from asked
        `.pipe(Effect.asVoid, orUnavailable("ScheduleRegistry.recordRun"))
      )

      const runs: ScheduleRegistry["Service"]["runs"] = Effect.fn("ScheduleRegistry.runs")((id, before, limit) =>
        sql<RunRow>`
          select r.*, t.status as task_status
          from (
            select e.number, to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
              e.data ->> 'due' as due, e.data ->> 'reason' as reason, (e.data ->> 'task_id')::uuid as task_id,
              (e.data ->> 'graph_id')::uuid as graph_id,
              case e.type when 'ScheduleFired' then 'fired' when 'ScheduleSkipped' then 'skipped' else 'refused' end as outcome
            from events e
            where e.aggregate = ${id} and e.number < ${before ?? numberMax}
              and e.type in ('ScheduleFired', 'ScheduleSkipped', 'ScheduleRefused')
            order by e.number desc limit ${limit}
          ) r
            left join lateral (select x.status from tasks x where x.id = r.task_id offset 0) t on true
          order by r.number desc
        `.pipe(orUnavailable("ScheduleRegistry.runs"))
      )

      return ScheduleRegistry.of({ now, create, get, list, change, remove, recordRun, runs })
    })
  )
}

/** Above every number of an event. */
const numberMax = 2_147_483_647

const json = (value: object | null) => (value === null ? null : JSON.stringify(value))
