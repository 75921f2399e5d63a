/**
 * Tasks, their events and graphs as views, straight from Postgres: what a reader sees is what has been committed.
 *
 * Invariant: every query names the namespace, so a task of another one does not exist here. Every query is bounded: by
 * a key, by an index that fits, or by the rows it may look at. It must not change anything.
 */
import { Context, Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { Event } from "../../protocol/Event.ts"
import type { AgentId, GraphId, GraphKey, Namespace, TaskId, TaskType } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import type { ListTasks } from "../../protocol/Query.ts"
import type { Dependency, Graph, Task, TaskStatus } from "../../protocol/Task.ts"
import type { TaskFilter } from "../../protocol/TaskFilter.ts"
import { decodeCursor, encodeCursor } from "./Cursor.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { cursorScope, statusTexts } from "./TaskFilter.ts"
import * as TaskLookup from "./TaskLookup.ts"
import { noTasks } from "./TaskRows.ts"
import * as TaskScan from "./TaskScan.ts"
import * as Views from "./TaskViews.ts"

export const TaskReaderLimits = Context.Reference<{
  /** Rows of one look through a namespace that no index narrows. */
  readonly windowRows: number
  /** Such looks of one call; then its page ends short. */
  readonly windowsMax: number
  /** Time after which no further look begins. */
  readonly within: Duration.Duration
  /** Where counting stops, per status. */
  readonly countedMax: number
}>("datamcp/ledger/TaskReaderLimits", {
  defaultValue: () => ({ windowRows: 20_000, windowsMax: 10, within: Duration.seconds(1), countedMax: 10_000 })
})

/** What decides whether somebody still has to wait for a task. */
export interface TaskHead {
  readonly status: TaskStatus
  /** Number of its last event. */
  readonly version: number
  readonly graph_id: GraphId | null
}

/** As much of a task as an action on many needs. */
export interface FoundTask {
  readonly id: TaskId
  readonly type: TaskType
  /** Number of its events. */
  readonly version: number
}

export class TaskReader extends Context.Service<
  TaskReader,
  {
    readonly get: (namespace: Namespace, id: TaskId) => Effect.Effect<Task | undefined, StoreUnavailable>
    /** The same without payload, result and labels: cheap enough to ask often. */
    readonly head: (namespace: Namespace, id: TaskId) => Effect.Effect<TaskHead | undefined, StoreUnavailable>
    /**
     * In the order asked for, without payload and result. A call looks at a bounded number of rows: a page may be short, even
     * empty, while its cursor goes on.
     */
    readonly list: (
      namespace: Namespace,
      query: ListTasks
    ) => Effect.Effect<Page<Task>, InvalidInput | StoreUnavailable>
    /**
     * Tasks that a filter means, from new to old, of those older than the id `below`. Looks at a bounded number of rows:
     * `next` says where to go on, and is absent at the end.
     */
    readonly matching: (
      namespace: Namespace,
      filter: TaskFilter,
      options: { readonly below: string; readonly limit: number }
    ) => Effect.Effect<
      { readonly tasks: ReadonlyArray<FoundTask>; readonly next: string | undefined },
      StoreUnavailable
    >
    /** Events with a number above `after`, oldest first. None for a task that does not exist. */
    readonly events: (
      namespace: Namespace,
      id: TaskId,
      options: { readonly after: number; readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<Event>, StoreUnavailable>
    readonly graph: (namespace: Namespace, id: GraphId) => Effect.Effect<Graph | undefined, StoreUnavailable>
    /** Ids of a graph's tasks by their keys; none for a graph that does not exist. */
    readonly graphTasks: (
      namespace: Namespace,
      id: GraphId
    ) => Effect.Effect<Readonly<Record<GraphKey, TaskId>>, StoreUnavailable>
    /** Dependencies of a task whose parents have not ended, or whose end has not been counted. */
    readonly openDependencies: (
      namespace: Namespace,
      id: TaskId
    ) => Effect.Effect<ReadonlyArray<Dependency>, StoreUnavailable>
    /** Tasks of an agent that have not ended, at most `limit`, in no order. */
    readonly openOf: (
      namespace: Namespace,
      agentId: AgentId,
      limit: number
    ) => Effect.Effect<ReadonlyArray<TaskId>, StoreUnavailable>
    /** Tasks by status: exact up to 10,000 each; completed ones are looked for among the newest 200,000 tasks. */
    readonly counts: (namespace: Namespace) => Effect.Effect<Record<TaskStatus, number>, StoreUnavailable>
  }
>()("datamcp/ledger/TaskReader") {
  static readonly layer = Layer.effect(
    TaskReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { countedMax, windowRows, windowsMax, within } = yield* TaskReaderLimits

      const get = yield* TaskLookup.make<Views.TaskRow, Task>({
        operation: "TaskReader.get",
        columns: Views.taskColumns,
        read: ({ place: _, ...row }) => Views.taskOfRow(row),
        tasksMax: 32
      })

      const head = yield* TaskLookup.make<TaskHead, TaskHead>({
        operation: "TaskReader.head",
        columns: "t.status, t.version, t.graph_id",
        read: ({ graph_id, status, version }) => ({ graph_id, status, version }),
        tasksMax: 500
      })

      const { patternOf, scan } = yield* TaskScan.make({ windowRows, windowsMax, within })

      const list = Effect.fn("TaskReader.list")(function* (namespace: Namespace, query: ListTasks) {
        const scope = cursorScope(namespace, query)
        const { cursor, limit = Limits.pageEntriesDefault, order = "desc", sort, ...filter } = query
        const from =
          cursor === undefined ? undefined : yield* Effect.fromResult(decodeCursor(scope, cursor, patternOf(sort)))
        // The most urgent lane is the first of its type.
        const up = (order === "asc") !== (sort === "priority")
        const { position, rows } = yield* scan<Views.TaskRow>(namespace, filter, {
          ...{ columns: Views.listColumns, from, limit, up },
          ...(sort !== undefined && { sort })
        }).pipe(orUnavailable("TaskReader.list"))
        return {
          data: rows.map(Views.taskOfRow),
          next_cursor: position === undefined ? null : encodeCursor(scope, position)
        }
      })

      const matching = Effect.fn("TaskReader.matching")(
        (namespace: Namespace, filter: TaskFilter, options: { readonly below: string; readonly limit: number }) =>
          Effect.map(
            scan<FoundTask>(namespace, filter, {
              columns: "t.id, t.type, t.version",
              from: options.below,
              limit: options.limit
            }).pipe(orUnavailable("TaskReader.matching")),
            ({ position, rows }) => ({ tasks: rows, next: position })
          )
      )

      const events = Effect.fn("TaskReader.events")(
        (namespace: Namespace, id: TaskId, options: { readonly after: number; readonly limit: number }) =>
          sql<Views.EventRow>`
            select ${sql.literal(Views.eventColumns)} from events e
            where e.aggregate = ${id} and e.number > ${options.after} and e.namespace = ${namespace} and e.kind = 'task'
            order by e.number limit ${options.limit}
          `.pipe(
            Effect.map((rows) => rows.map(Views.eventOfRow)),
            orUnavailable("TaskReader.events")
          )
      )

      const graph = Effect.fn("TaskReader.graph")(
        function* (namespace: Namespace, id: GraphId) {
          const [found] = yield* sql<Views.GraphRow>`
            select ${sql.literal(Views.graphColumns)} from graphs g where g.id = ${id} and g.namespace = ${namespace}
          `
          if (found === undefined) return undefined
          const tasks = yield* sql<Views.GraphTaskRow>`
            select ${sql.literal(Views.graphTaskColumns)} from tasks t
            where t.graph_id = ${id} and t.namespace = ${namespace} and t.graph_key is not null
            order by t.id limit ${Limits.graphTasksMax}
          `
          const taken =
            found.retry_of === null
              ? []
              : yield* sql<Views.GraphTaskRow>`
                  select ${sql.literal(Views.graphTaskColumns)}, true as taken_over
                  from graph_references r join tasks t on t.id = r.task_id
                  where r.graph_id = ${id} and t.namespace = ${namespace} order by t.id limit ${Limits.graphTasksMax}
                `
          const all = [...taken, ...tasks]
          const steps = all.filter(({ step }) => step === true).map((task) => task.id)
          const elements = steps.length === 0 ? [] : yield* elementsOf(steps)
          return Views.graphOfRows(found, all, elements)
        },
        (effect) => orUnavailable("TaskReader.graph")(effect)
      )

      /** Those of steps that are maps, by status. */
      const elementsOf = (steps: ReadonlyArray<TaskId>) =>
        sql<Views.ElementsRow>`
          select s.task_id as id, s.total, e.status, coalesce(e.count, 0)::int as count
          from graph_steps s left join lateral (
            select t.status, count(*) from map_elements m join tasks t on t.id = m.task_id
            where m.map_id = s.task_id group by t.status
          ) e on true
          where s.task_id = any (${steps}::uuid[]) and s.definition -> 'map' is not null
        `

      const graphTasks = Effect.fn("TaskReader.graphTasks")((namespace: Namespace, id: GraphId) =>
        sql<{ readonly key: GraphKey; readonly id: TaskId }>`
          select graph_key as key, id from tasks
          where graph_id = ${id} and namespace = ${namespace} and graph_key is not null
          order by id limit ${Limits.graphTasksMax}
        `.pipe(
          Effect.map((rows) => Object.fromEntries(rows.map((row) => [row.key, row.id]))),
          orUnavailable("TaskReader.graphTasks")
        )
      )

      const openDependencies = Effect.fn("TaskReader.openDependencies")((namespace: Namespace, id: TaskId) =>
        sql<Dependency>`
          select d.parent_id as task_id, case when d.on_ended then 'ended' else 'completed' end as on, d.required
          from task_dependencies d join tasks t on t.id = d.child_id
          where d.child_id = ${id} and t.namespace = ${namespace} and not d.resolved and d.element is null
          order by d.parent_id
        `.pipe(orUnavailable("TaskReader.openDependencies"))
      )

      const openOf = Effect.fn("TaskReader.openOf")((namespace: Namespace, agentId: AgentId, limit: number) =>
        sql<{ readonly id: TaskId }>`
          select id from tasks
          where agent_id = ${agentId} and namespace = ${namespace} and status in ('queued', 'running')
          union all
          select id from tasks
          where agent_id = ${agentId} and namespace = ${namespace} and status in ('pending', 'paused')
          limit ${limit}
        `.pipe(
          Effect.map((rows) => rows.map(({ id }) => id)),
          orUnavailable("TaskReader.openOf")
        )
      )

      /** Each status by the index that has it; `live` goes by way of the namespace's agents. */
      const counts = Effect.fn("TaskReader.counts")((namespace: Namespace) => {
        const counted = (from: ReturnType<typeof sql.and>) =>
          sql`(select count(*)::int from (select 1 from ${from} limit ${countedMax}) counted)`
        const of = (status: TaskStatus) =>
          counted(sql`tasks t where t.namespace = ${namespace} and t.status = ${sql.literal(statusTexts[status])}`)
        const live = (status: "queued" | "running") =>
          counted(sql`
            agents a join lateral (
              select 1 from tasks t where t.agent_id = a.id and t.status = ${sql.literal(statusTexts[status])} limit ${countedMax}
            ) live on true
            where a.namespace = ${namespace} and a.status <> 'terminated'
          `)
        const completed = counted(sql`
          (select t.status from tasks t where t.namespace = ${namespace} order by t.id desc limit ${windowRows * windowsMax}) newest
          where newest.status = 'completed'
        `)
        return sql<Record<TaskStatus, number>>`
          select ${of("pending")} as pending, ${live("queued")} as queued, ${live("running")} as running,
            ${of("paused")} as paused, ${completed} as completed, ${of("failed")} as failed,
            ${of("timeout")} as timeout, ${of("cancelled")} as cancelled
        `.pipe(
          Effect.map(([row]) => row ?? noTasks),
          orUnavailable("TaskReader.counts")
        )
      })

      return TaskReader.of({ get, head, list, matching, events, graph, graphTasks, openDependencies, openOf, counts })
    })
  )
}
