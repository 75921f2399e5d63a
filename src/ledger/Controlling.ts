/**
 * How the ledger changes tasks from outside, one or many: `tasks_control` and what belongs to deletion. A step of an
 * operation is recorded in the transaction that does it, so that it is done once, whoever repeats it.
 */
import { Effect, Metric } from "effect"
import type { Control, Ledger, OperationStep } from "../../actors/ports/Ledger.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import type * as TaskRows from "./TaskRows.ts"

/** A task that was done, or a change with its event. */
interface ControlRow {
  readonly id: TaskId | null
  readonly change: TaskRows.ChangeRow | null
}

export const make = ({ actor, announce, changes, rowsOf }: Committing) => {
  const control: Ledger["Service"]["control"] = Effect.fnUntraced(function* (namespace, ids, what, by) {
    const rows = yield* rowsOf<ControlRow>(
      "control",
      `select * from ${ledger}.tasks_control($1::text, $2::uuid[], $3::text, $4::json, $5::text, $6::json)`,
      [
        namespace,
        ids,
        actionOf(what),
        JSON.stringify(parametersOf(what)),
        by.actor,
        by.step === undefined ? null : JSON.stringify(stepRow(by.step))
      ]
    )
    const changed = rows.flatMap(({ change }) => (change === null ? [] : [change]))
    yield* announce(changed)
    const cancelled = changed.filter(({ status }) => status === "cancelled")
    if (what._tag === "Cancel") yield* Metric.update(Metrics.tasksCancelled, cancelled.length)
    return {
      done: rows.flatMap(({ id }) => (id === null ? [] : [id])),
      ran: cancelled.flatMap(({ agent_id, id }) =>
        what._tag === "Cancel" && agent_id !== null ? [{ id, agentId: agent_id }] : []
      )
    }
  })

  const deletable: Ledger["Service"]["deletable"] = (namespace, ids) =>
    Effect.map(
      rowsOf<{ readonly id: TaskId; readonly bytes: string | number }>(
        "deletable",
        `select * from ${ledger}.tasks_deletable($1::text, $2::uuid[], true)`,
        [namespace, ids]
      ),
      (rows) => rows.map(({ bytes, id }) => ({ id, bytes: Number(bytes) }))
    )

  const expireResults: Ledger["Service"]["expireResults"] = (limit) =>
    Effect.map(
      changes("expire_results", `select * from ${ledger}.results_expire($1::int, $2::text)`, [limit, actor]),
      (changed) => changed.length
    )

  /** As tallies are folded: what each deletion noted becomes one row per agent. */
  const foldDeletions = (limit: number) =>
    Effect.map(
      rowsOf<{ readonly count: number }>(
        "tidy",
        `with many as (
           select namespace, agent_id from task_deletions where at < now() - interval '1 minute'
           group by namespace, agent_id having count(*) > 20 limit 200
         ), gone as (
           delete from task_deletions where ctid = any (array(
             select d.ctid from task_deletions d join many m on m.namespace = d.namespace and m.agent_id is not distinct from d.agent_id
             where d.at < now() - interval '1 minute' limit $1::int))
           returning *
         ), kept as (
           insert into task_deletions (namespace, agent_id, at, completed, failed, timed_out, cancelled)
           select namespace, agent_id, min(at), sum(completed), sum(failed), sum(timed_out), sum(cancelled)
           from gone group by namespace, agent_id returning 1
         ) select ((select count(*) from gone) - (select count(*) from kept))::int as count`,
        [limit]
      ),
      ([row]) => row?.count ?? 0
    )

  return { control, deletable, expireResults, foldDeletions }
}

const actionOf = (what: Control) =>
  what._tag === "Move" ? (what.agentId === undefined ? "prioritise" : "reroute") : what._tag.toLowerCase()

const parametersOf = (what: Control) => {
  switch (what._tag) {
    case "Cancel":
      return { reason: what.reason }
    case "Move":
      return { priority: what.priority, agent_id: what.agentId }
    case "Delete":
      return { keep_keyed: what.keepKeyed }
    case "Acknowledge":
      return { note: what.note }
    case "Record":
      return {}
  }
}

const stepRow = (step: OperationStep) => ({ ...step, ended: step.next === undefined })
