/**
 * The ledger's part for graphs: what `sql/functions/graphs.sql` decides about steps, maps and graphs that end early.
 */
import { Duration, Effect, Queue, type Schema } from "effect"
import type { DueStep, GraphLedger, GraphWork, Interrupted } from "../../actors/ports/GraphLedger.ts"
import type { GraphId, TaskId } from "../../protocol/Ids.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import type * as TaskRows from "./TaskRows.ts"

type StepRow = Omit<DueStep, "payload"> & { readonly payload: Schema.Json | null; readonly has_payload: boolean }

/** Maps are large: a thousand elements take Postgres some tenths of a second, and a busy one more. Nobody waits for them. */
const patience = Duration.seconds(15)

export const make = (committing: Committing): GraphLedger => {
  const { actor, announce, changes, rowsOf, work } = committing

  const due: GraphLedger["due"] = (limit) =>
    Effect.map(
      rowsOf<{ readonly step: TaskId | null; readonly graph: GraphId | null; readonly pause: TaskId | null }>(
        "graphs_due",
        `select * from ${ledger}.graphs_due($1::int)`,
        [limit]
      ),
      (rows) =>
        rows.flatMap(({ graph, pause, step }): ReadonlyArray<GraphWork> => {
          if (step !== null) return [{ _tag: "Step", id: step }]
          if (graph !== null) return [{ _tag: "Ending", id: graph }]
          return pause === null ? [] : [{ _tag: "Pause", id: pause }]
        })
    )

  const step: GraphLedger["step"] = (id) =>
    Effect.map(
      rowsOf<StepRow>(
        "graph_step",
        `select t.id, t.namespace, t.status, t.dependencies_open as open, s.definition as step, s.phase, s.made, t.payload,
           t.payload is not null as has_payload
         from graph_steps s join tasks t on t.id = s.task_id where s.task_id = $1::uuid and s.due and t.status <> 'paused'`,
        [id]
      ),
      ([row]) => {
        if (row === undefined) return undefined
        const { has_payload, payload, ...rest } = row
        return { ...rest, payload: has_payload ? payload : undefined }
      }
    )

  const data: GraphLedger["data"] = (namespace, ids) =>
    ids.length === 0
      ? Effect.succeed(new Map())
      : Effect.map(
          rowsOf<{ readonly id: string; readonly data: Schema.Json; readonly has_data: boolean }>(
            "graph_data",
            `select t.id, t.result -> 'data' as data, (t.result -> 'data') is not null as has_data
             from tasks t where t.id = any ($2::uuid[]) and t.namespace = $1::text`,
            [namespace, ids]
          ),
          (rows) => new Map(rows.flatMap((row) => (row.has_data ? [[row.id, row.data] as const] : [])))
        )

  const completedElements: GraphLedger["completedElements"] = (namespace, map) =>
    Effect.map(
      rowsOf<{ readonly index: number; readonly id: TaskId }>(
        "graph_elements",
        `select e.index, e.task_id as id from map_elements e join tasks t on t.id = e.task_id
         where e.map_id = $2::uuid and t.namespace = $1::text and t.status = 'completed'`,
        [namespace, map]
      ),
      (rows) => new Map(rows.map((row) => [row.index, row.id] as const))
    )

  const decide: GraphLedger["decide"] = (id, decision) =>
    Effect.asVoid(
      changes(
        "graph_decide",
        `select * from ${ledger}.step_decide($1::uuid, $2::text, $3::json, $4::text)`,
        [
          id,
          decision._tag === "Run" ? "run" : decision._tag === "Skip" ? "skipped" : "failed",
          decision._tag === "Run" ? null : JSON.stringify(decision.error),
          actor
        ],
        patience
      )
    )

  const expand: GraphLedger["expand"] = (id, { elements, from, total }) => {
    const rows = elements.map((element) => {
      if ("taken" in element) return JSON.stringify(element)
      const { id, index, payload } = element
      return payload === undefined
        ? JSON.stringify({ index, id })
        : `{"index":${index},"id":"${id}","payload":${payload}}`
    })
    return Effect.asVoid(
      changes(
        "graph_expand",
        `select * from ${ledger}.map_expand($1::uuid, $2::int, $3::int, $4::json, $5::text)`,
        [id, from, total, `[${rows.join(",")}]`, actor],
        patience
      )
    )
  }

  const advance: GraphLedger["advance"] = (id) =>
    Effect.asVoid(
      changes("graph_advance", `select * from ${ledger}.map_advance($1::uuid, $2::text)`, [id, actor], patience)
    )

  const cancelRest: GraphLedger["cancelRest"] = (id, limit) =>
    Effect.map(
      changes(
        "graph_cancel",
        `select * from ${ledger}.map_cancel_rest($1::uuid, $2::int, $3::text)`,
        [id, limit, actor],
        patience
      ),
      interrupted
    )

  const end: GraphLedger["end"] = (namespace, id, by) =>
    Effect.map(
      rowsOf(
        "graph_end",
        `update graphs g set ending = json_build_object('code', 'cancelled', 'message', $3::text, 'actor', $4::text)
         where g.id = $1::uuid and g.namespace = $2::text and exists (
           select from tasks t where t.graph_id = g.id and t.status not in ('completed', 'failed', 'timeout', 'cancelled'))
         returning g.id`,
        [id, namespace, by.reason ?? "its graph was cancelled", by.actor]
      ),
      (rows) => {
        if (rows.length > 0) Queue.offerUnsafe(work, { _tag: "Ending", id })
        return rows.length > 0
      }
    )

  const cancelGraph: GraphLedger["cancelGraph"] = Effect.fnUntraced(function* (id, limit) {
    const [answer] = yield* rowsOf<{ readonly more: boolean; readonly changes: ReadonlyArray<TaskRows.ChangeRow> }>(
      "graph_cancel",
      `select * from ${ledger}.graph_cancel($1::uuid, $2::int)`,
      [id, limit],
      patience
    )
    yield* announce(answer?.changes ?? [])
    return { cancelled: interrupted(answer?.changes ?? []), more: answer?.more ?? false }
  })

  const pause: GraphLedger["pause"] = Effect.fnUntraced(function* (namespace, { _tag, id }, by) {
    const [row] = yield* rowsOf<{ readonly outcome: "begun" | "unknown" | "ended" }>(
      "pause_begin",
      `select ${ledger}.pause_begin($1::text, $2::uuid, $3::uuid, $4::text, $5::text) as outcome`,
      [namespace, _tag === "Graph" ? id : null, _tag === "Tree" ? id : null, by.actor, by.reason ?? null]
    )
    return row?.outcome ?? "unknown"
  })

  const resume: GraphLedger["resume"] = (namespace, { id }, by) =>
    Effect.map(
      rowsOf<{ readonly begun: boolean }>(
        "pause_end",
        `select ${ledger}.pause_end($1::text, $2::uuid, $3::text) as begun`,
        [namespace, id, by]
      ),
      ([row]) => row?.begun === true
    )

  const carryPause: GraphLedger["carryPause"] = Effect.fnUntraced(function* (id, limit) {
    const [answer] = yield* rowsOf<{
      readonly more: boolean
      readonly changes: ReadonlyArray<TaskRows.ChangeRow>
      readonly actor: string | null
    }>("pause_step", `select * from ${ledger}.pause_step($1::uuid, $2::int)`, [id, limit], patience)
    const changed = answer?.changes ?? []
    yield* announce(changed, answer?.actor ?? undefined)
    return {
      changed: changed.length,
      interrupted: changed.flatMap((change) =>
        change.event === "TaskPaused" && change.agent_id !== null ? [{ id: change.id, ranOn: change.agent_id }] : []
      ),
      more: answer?.more ?? false
    }
  })

  return {
    pause,
    resume,
    carryPause,
    work,
    due,
    step,
    data,
    completedElements,
    decide,
    expand,
    advance,
    cancelRest,
    end,
    cancelGraph
  }
}

const interrupted = (changed: ReadonlyArray<TaskRows.ChangeRow>): ReadonlyArray<Interrupted> =>
  changed.flatMap((change) =>
    change.status === "cancelled" ? [{ id: change.id, ranOn: change.agent_id ?? undefined }] : []
  )
