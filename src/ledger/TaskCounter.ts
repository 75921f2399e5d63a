/**
 * Tasks by status, cheap however many there are. Ends come from the tallies that each commit appends per agent, less what
 * was deleted: exact, and read by agent rather than by task. Ends that no agent had, and what waits, is queued or runs, are
 * counted in the index that has only them, up to a bound.
 *
 * Invariant: one statement, so that a task is counted in one state.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { AgentId, AgentName, Namespace } from "../../protocol/Ids.ts"
import { TaskStatus } from "../../protocol/Task.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { noTasks } from "./TaskRows.ts"

export const TaskCounterLimits = Context.Reference<{
  /** Where counting stops, per state and, of what is queued or runs, per agent. */
  readonly countedMax: number
}>("datamcp/ledger/TaskCounterLimits", { defaultValue: () => ({ countedMax: 100_000 }) })

export interface Counted {
  readonly counts: { readonly [S in TaskStatus]: number }
  /** States whose counting stopped at the bound. */
  readonly at_least: ReadonlyArray<TaskStatus>
}

export interface AgentCounted extends Counted {
  readonly agent_id: AgentId
  readonly name: AgentName
}

export class TaskCounter extends Context.Service<
  TaskCounter,
  {
    /** All tasks of a namespace, and those of each of its agents, terminated ones included, in no order. */
    readonly count: (
      namespace: Namespace
    ) => Effect.Effect<Counted & { readonly agents: ReadonlyArray<AgentCounted> }, StoreUnavailable>
    /** Those of one agent. */
    readonly countOf: (namespace: Namespace, agent: AgentId) => Effect.Effect<Counted, StoreUnavailable>
  }
>()("datamcp/ledger/TaskCounter") {
  static readonly layer = Layer.effect(
    TaskCounter,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { countedMax } = yield* TaskCounterLimits

      const upTo = (rows: ReturnType<typeof sql.and>) =>
        sql`(select count(*)::float8 from (select ${rows} limit ${countedMax}) counted)`
      const waiting = (whose: ReturnType<typeof sql.and>) => sql`
        select count(*) filter (where w.status = 'pending')::float8 as pending,
          count(*) filter (where w.status = 'paused')::float8 as paused
        from (select t.status from tasks t where ${whose} and t.status in ('pending', 'paused') limit ${countedMax}) w`

      const ofAgents = (namespace: Namespace, agent: AgentId | undefined) => sql`
        select a.id as agent_id, a.name,
          e.completed - d.completed as completed, e.failed - d.failed as failed, e.timeout - d.timeout as timeout,
          e.cancelled - d.cancelled as cancelled,
          ${upTo(sql`from tasks t where t.agent_id = a.id and t.status = 'queued'`)} as queued,
          ${upTo(sql`from tasks t where t.agent_id = a.id and t.status = 'running'`)} as running,
          w.pending, w.paused
        from agents a cross join lateral (
          select coalesce(sum(x.completed), 0)::float8 as completed, coalesce(sum(x.failed), 0)::float8 as failed,
            coalesce(sum(x.timed_out), 0)::float8 as timeout, coalesce(sum(x.cancelled), 0)::float8 as cancelled
          from agent_tallies x where x.agent_id = a.id
        ) e cross join lateral (
          select coalesce(sum(x.completed), 0)::float8 as completed, coalesce(sum(x.failed), 0)::float8 as failed,
            coalesce(sum(x.timed_out), 0)::float8 as timeout, coalesce(sum(x.cancelled), 0)::float8 as cancelled
          from task_deletions x where x.namespace = ${namespace} and x.agent_id = a.id
        ) d cross join lateral (${waiting(sql`t.agent_id = a.id`)}) w
        where a.namespace = ${namespace} ${agent === undefined ? sql.literal("") : sql`and a.id = ${agent}`}`

      /** Ends without an agent; and all that waits, with an agent or without. */
      const ofNobody = (namespace: Namespace) => {
        const ended = (status: TaskStatus) =>
          upTo(sql`
            from tasks t where t.namespace = ${namespace} and t.agent_id is null
              and t.status in ('failed', 'timeout', 'cancelled') and t.status = ${sql.literal(`'${status}'`)}`)
        return sql`
          select null::uuid as agent_id, null::text as name, 0::float8 as completed, ${ended("failed")} as failed,
            ${ended("timeout")} as timeout, ${ended("cancelled")} as cancelled, 0::float8 as queued, 0::float8 as running,
            w.pending, w.paused
          from (${waiting(sql`t.namespace = ${namespace}`)}) w`
      }

      const countedOf = (row: Figures): Counted => ({
        counts: {
          pending: row.pending,
          queued: row.queued,
          running: row.running,
          paused: row.paused,
          completed: row.completed,
          failed: row.failed,
          timeout: row.timeout,
          cancelled: row.cancelled
        },
        at_least: boundedOf(row)
      })

      /** States in which one of these figures, which no tally has, stopped at the bound. */
      const boundedOf = (row: Figures) => {
        const waits = row.pending + row.paused >= countedMax
        return TaskStatus.literals.filter((status) => {
          if (status === "pending" || status === "paused") return waits
          const isCounted = row.agent_id === null ? status !== "completed" : status === "queued" || status === "running"
          return isCounted && row[status] >= countedMax
        })
      }

      const count = Effect.fn("TaskCounter.count")((namespace: Namespace) =>
        sql<Figures>`${ofNobody(namespace)} union all ${ofAgents(namespace, undefined)}`.pipe(
          Effect.map((rows) => {
            const agents = rows.flatMap((row) =>
              row.agent_id === null ? [] : [{ agent_id: row.agent_id, name: row.name, ...countedOf(row) }]
            )
            const nobody = rows.filter(({ agent_id }) => agent_id === null).map(countedOf)
            const total = (status: TaskStatus) => {
              // What waits was counted for the whole namespace at once.
              const parts = status === "pending" || status === "paused" ? nobody : [...nobody, ...agents]
              return {
                count: parts.reduce((sum, { counts }) => sum + counts[status], 0),
                bounded: parts.some(({ at_least }) => at_least.includes(status))
              }
            }
            const totals = TaskStatus.literals.map((status) => [status, total(status)] as const)
            return {
              counts: { ...noTasks, ...Object.fromEntries(totals.map(([status, { count }]) => [status, count])) },
              at_least: totals.flatMap(([status, { bounded }]) => (bounded ? [status] : [])),
              agents
            }
          }),
          orUnavailable("TaskCounter.count")
        )
      )

      const countOf = Effect.fn("TaskCounter.countOf")((namespace: Namespace, agent: AgentId) =>
        ofAgents(namespace, agent).pipe(
          Effect.map((rows) => rows as ReadonlyArray<Figures>),
          Effect.map(([row]) => (row === undefined ? { counts: noTasks, at_least: [] } : countedOf(row))),
          orUnavailable("TaskCounter.countOf")
        )
      )

      return TaskCounter.of({ count, countOf })
    })
  )
}

type Figures = { readonly [S in TaskStatus]: number } & { readonly agent_id: AgentId | null; readonly name: AgentName }
