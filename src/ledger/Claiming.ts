/**
 * How instances claim: the claims of all instances of this node share transactions of `task_claim`. A claim is repeated
 * for as long as Postgres is away: what it won would otherwise run nowhere, under a lease that is alive.
 */
import { Effect, Metric } from "effect"
import type { Claimed, Ledger, Slot } from "../../actors/ports/Ledger.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { Event } from "../../protocol/Event.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import * as TaskRows from "./TaskRows.ts"

interface Wanted {
  readonly slot: Slot
  readonly orders: ReadonlyArray<TaskOrder>
  readonly stillWanted: ((order: TaskOrder) => boolean) | undefined
  readonly agentVersionOf: ((order: TaskOrder) => number | undefined) | undefined
}

export const make = Effect.fnUntraced(function* (committing: Committing) {
  const { actor, batch, commitUntilKnown, publish, refusedIsDefect, sql } = committing

  const claimBatch = (asked: ReadonlyArray<Wanted>) =>
    Effect.gen(function* () {
      const wanted = asked.map(({ agentVersionOf, orders, slot, stillWanted }) => ({
        agentVersionOf,
        slot,
        orders: stillWanted === undefined ? orders : orders.filter(stillWanted)
      }))
      if (wanted.every(({ orders }) => orders.length === 0)) {
        return wanted.map(() => ({ fenced: false, claimed: new Array<Claimed>() }))
      }
      const slots = wanted.map(({ slot }, index) => ({
        slot: index,
        agent_id: slot.agentId,
        index: slot.index,
        epoch: slot.epoch
      }))
      const tasks = wanted.flatMap(({ agentVersionOf, orders }, index) =>
        orders.map((order) => ({
          id: order.id,
          slot: index,
          behind: order.payload_behind === true,
          attempts: order.attempts,
          version: agentVersionOf?.(order)
        }))
      )
      const versions = new Map(tasks.map(({ id, version }) => [id, version] as const))
      const rows = yield* commitUntilKnown<{
        readonly slot: number
        readonly id: TaskId | null
        readonly attempt: number
        readonly number: number
        readonly at: Date
        readonly payload: Claimed["payload"] | null
      }>("claim", (again) =>
        sql.unsafe(`select * from ${ledger}.task_claim($1::json, $2::json, $3::text, $4::boolean)`, [
          JSON.stringify(slots),
          JSON.stringify(tasks),
          actor,
          again
        ])
      )
      const answers = wanted.map(() => ({ fenced: false, claimed: new Array<Claimed>() }))
      const orders = new Map(wanted.flatMap((entry) => entry.orders.map((order) => [order.id, order] as const)))
      const events: Array<Event> = []
      for (const row of rows) {
        const answer = answers[row.slot]
        if (answer === undefined) continue
        if (row.id === null) {
          answer.fenced = true
          continue
        }
        answer.claimed.push({
          id: row.id,
          attempt: row.attempt,
          startedBy: row.number,
          startedAtMillis: row.at.getTime(),
          payload: row.payload ?? undefined
        })
        const order = orders.get(row.id)
        if (order === undefined) continue
        events.push({
          type: "TaskStarted",
          kind: "task",
          aggregate: row.id,
          number: row.number,
          at: row.at.toISOString(),
          namespace: order.namespace,
          actor,
          trace: order.trace ?? null,
          data: TaskRows.startedData(row.attempt, versions.get(row.id))
        })
      }
      yield* publish(events)
      yield* Metric.update(Metrics.tasksClaimed, events.length)
      return answers
    })

  const claimBatched = yield* batch("claim", (entry: Wanted) => 100 * entry.orders.length, claimBatch)
  const claim: Ledger["Service"]["claim"] = (slot, orders, stillWanted, agentVersionOf) =>
    refusedIsDefect(claimBatched({ slot, orders, stillWanted, agentVersionOf }))
  return claim
})
