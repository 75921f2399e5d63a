/**
 * Graphs and trees of tasks beyond the view of one graph: their list, what of them has not ended, and all that is needed to
 * run one again. Straight from Postgres, within one namespace, changing nothing.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { GraphStep } from "../../actors/GraphStep.ts"
import type { GraphId, GraphKey, Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import type { GraphOnFailure, GraphSummary, Task } from "../../protocol/Task.ts"
import { decodeCursor, encodeCursor } from "./Cursor.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import * as Views from "./TaskViews.ts"

/** An edge of a graph, by the ids of its tasks. */
export interface StoredEdge {
  readonly child_id: TaskId
  readonly parent_id: TaskId
  readonly on_ended: boolean
  readonly required: boolean
  readonly runs_if_skipped: boolean | null
}

/** A task of a graph with what decides how it runs. */
export interface StoredGraphTask {
  readonly task: Task
  readonly key: GraphKey
  readonly step: GraphStep | undefined
  readonly failsGraph: boolean
}

/** A graph as it was accepted and what became of it. */
export interface StoredGraph {
  readonly id: GraphId
  readonly name: string | null
  readonly on_failure: GraphOnFailure
  /** Being cancelled at this moment. */
  readonly ending: boolean
  readonly tasks: ReadonlyArray<StoredGraphTask>
  readonly edges: ReadonlyArray<StoredEdge>
  readonly references: ReadonlyArray<{ readonly key: GraphKey; readonly id: TaskId }>
}

interface StoredRow extends Views.TaskRow {
  readonly definition: GraphStep | null
  readonly fails_graph: boolean | null
}

/** Whether there is such a graph or task, and a task of it that has not ended, the last one accepted. */
export interface OpenTask {
  readonly open: TaskId | null
}

export class GraphReader extends Context.Service<
  GraphReader,
  {
    /** Newest first; each is counted up to 1,000 tasks. */
    readonly list: (
      namespace: Namespace,
      query: PageQuery
    ) => Effect.Effect<Page<GraphSummary>, InvalidInput | StoreUnavailable>
    /** Undefined when there is no such graph. */
    readonly openTask: (namespace: Namespace, id: GraphId) => Effect.Effect<OpenTask | undefined, StoreUnavailable>
    /** Tasks that have not ended among a task and all its descendants, at most `limit`, in no order. */
    readonly openTree: (
      namespace: Namespace,
      id: TaskId,
      limit: number
    ) => Effect.Effect<ReadonlyArray<TaskId>, StoreUnavailable>
    readonly stored: (namespace: Namespace, id: GraphId) => Effect.Effect<StoredGraph | undefined, StoreUnavailable>
    /** Whether a task is a map. */
    readonly isMap: (namespace: Namespace, id: TaskId) => Effect.Effect<boolean, StoreUnavailable>
  }
>()("datamcp/ledger/GraphReader") {
  static readonly layer = Layer.effect(
    GraphReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const graphColumns = sql.literal(Views.graphColumns)

      const list = Effect.fn("GraphReader.list")(function* (namespace: Namespace, query: PageQuery) {
        const scope = { list: "graphs", namespace, filters: {} }
        const limit = query.limit ?? Limits.pageEntriesDefault
        const below =
          query.cursor === undefined
            ? undefined
            : yield* Effect.fromResult(decodeCursor(scope, query.cursor, positionPattern))
        const found = yield* sql<GraphSummary>`
          select ${graphColumns}, (
            select coalesce(json_object_agg(c.status, c.count), '{}') from (
              select n.status, count(*) from (
                select t.status from tasks t where t.graph_id = g.id and t.graph_key is not null limit ${countedMax}
              ) n group by n.status
            ) c
          ) as counts
          from graphs g
          where g.namespace = ${namespace} ${below === undefined ? sql.literal("") : sql`and g.id < ${below}`}
          order by g.id desc limit ${limit + 1}
        `.pipe(orUnavailable("GraphReader.list"))
        const data = found.slice(0, limit)
        const last = data.at(-1)
        return {
          data,
          next_cursor: found.length > limit && last !== undefined ? encodeCursor(scope, last.id) : null
        }
      })

      const openTask = Effect.fn("GraphReader.openTask")((namespace: Namespace, id: GraphId) =>
        sql<OpenTask>`
          select (
            select t.id from tasks t where t.graph_id = g.id and t.status in ('pending', 'queued', 'running', 'paused')
            order by t.id desc limit 1
          ) as open
          from graphs g where g.id = ${id} and g.namespace = ${namespace}
        `.pipe(
          Effect.map(([row]) => row),
          orUnavailable("GraphReader.openTask")
        )
      )

      const openTree = Effect.fn("GraphReader.openTree")((namespace: Namespace, id: TaskId, limit: number) =>
        sql<{ readonly id: TaskId }>`
          with recursive tree as (
            select t.id, t.status from tasks t where t.id = ${id} and t.namespace = ${namespace}
            union all
            select t.id, t.status from tree join tasks t on t.parent_id = tree.id and t.namespace = ${namespace}
          )
          select id from tree where status in ('pending', 'queued', 'running', 'paused') limit ${limit}
        `.pipe(
          Effect.map((rows) => rows.map((row) => row.id)),
          orUnavailable("GraphReader.openTree")
        )
      )

      const stored = Effect.fn("GraphReader.stored")(
        function* (namespace: Namespace, id: GraphId) {
          const [graph] = yield* sql<Pick<StoredGraph, "id" | "name" | "on_failure" | "ending">>`
            select g.id, g.name, g.on_failure, g.ending is not null as ending
            from graphs g where g.id = ${id} and g.namespace = ${namespace}
          `
          if (graph === undefined) return undefined
          const rows = yield* sql<StoredRow>`
            select ${sql.literal(Views.taskColumns)}, t.fails_graph, s.definition
            from tasks t left join graph_steps s on s.task_id = t.id
            where t.graph_id = ${id} and t.namespace = ${namespace} and t.graph_key is not null
            order by t.id limit ${Limits.graphTasksMax}
          `
          const edges = yield* sql<StoredEdge>`
            select d.child_id, d.parent_id, d.on_ended, d.required, d.runs_if_skipped
            from tasks t join task_dependencies d on d.child_id = t.id
            where t.graph_id = ${id} and t.namespace = ${namespace} and t.graph_key is not null and d.element is null
            limit ${Limits.graphDependenciesMax}
          `
          const references = yield* sql<{ readonly key: GraphKey; readonly id: TaskId }>`
            select key, task_id as id from graph_references where graph_id = ${id} limit ${Limits.graphTasksMax}
          `
          const tasks = rows.flatMap(({ definition, fails_graph, ...row }): ReadonlyArray<StoredGraphTask> => {
            const task = Views.taskOfRow(row)
            if (task.graph_key === null) return []
            return [{ task, key: task.graph_key, step: definition ?? undefined, failsGraph: fails_graph === true }]
          })
          return { ...graph, tasks, edges, references }
        },
        (effect) => orUnavailable("GraphReader.stored")(effect)
      )

      const isMap = Effect.fn("GraphReader.isMap")((namespace: Namespace, id: TaskId) =>
        sql`
          select from graph_steps s join tasks t on t.id = s.task_id
          where s.task_id = ${id} and t.namespace = ${namespace} and s.definition -> 'map' is not null
        `.pipe(
          Effect.map((rows) => rows.length > 0),
          orUnavailable("GraphReader.isMap")
        )
      )

      return GraphReader.of({ list, openTask, openTree, stored, isMap })
    })
  )
}

/** Tasks that are counted of one graph in a list. */
const countedMax = 1_000

const positionPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u
