/**
 * How the ends of attempts and their progress are recorded: those of all instances of this node share transactions of
 * `task_settle` and `task_progress`. An end is repeated for as long as Postgres is away: its work is done and must count.
 */
import { Effect, Metric } from "effect"
import type { Ledger, RunningTask, Settlement, Slot } from "../../actors/ports/Ledger.ts"
import type { Event } from "../../protocol/Event.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { TaskProgress } from "../../protocol/Task.ts"
import type { Admitting } from "./Admitting.ts"
import type { Committing, StatementRefused } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import { messageOf } from "./Postgres.ts"
import * as TaskRows from "./TaskRows.ts"

interface Ending {
  readonly slot: Slot
  readonly task: RunningTask
  readonly end: Settlement
  /** The attempt ended before its claim was written. */
  readonly unclaimed: boolean
}

export const make = Effect.fnUntraced(function* (committing: Committing, admitting: Admitting) {
  const { actor, announce, batch, commit, commitUntilKnown, offerReady, publish, refusedIsDefect, sql } = committing

  const settleBatch = (endings: ReadonlyArray<Ending>) =>
    Effect.gen(function* () {
      const slots: Array<TaskRows.SlotRow> = []
      const rows = endings.map(({ end, slot, task, unclaimed }) =>
        TaskRows.settleRow(slot, task, end, unclaimed ? TaskRows.slotNumber(slots, slot) : undefined)
      )
      // One order of locking for all batches.
      rows.sort((left, right) => (left.id < right.id ? -1 : 1))
      const answers = yield* commitUntilKnown<{
        readonly id: TaskId
        readonly number: number
        readonly at: Date
        readonly child: TaskRows.ChangeRow | null
      }>("settle", (again) =>
        sql.unsafe(`select * from ${ledger}.task_settle($1::json, $2::json, $3::text, $4::boolean)`, [
          JSON.stringify(slots),
          JSON.stringify(rows),
          actor,
          again
        ])
      )
      const recorded = new Map<string, number>()
      const children: Array<TaskRows.ChangeRow> = []
      for (const row of answers) {
        if (row.child === null) recorded.set(row.id, row.number)
        else children.push(row.child)
      }
      const at = answers[0]?.at.toISOString() ?? ""
      const events: Array<Event> = []
      for (const { end, task, unclaimed } of endings) {
        const number = recorded.get(task.id)
        if (number === undefined) continue
        const shared = {
          kind: "task",
          aggregate: task.id,
          at,
          namespace: task.namespace,
          actor,
          trace: task.trace ?? null
        } as const
        if (unclaimed) {
          const data = TaskRows.startedData(task.attempt, task.agentVersion)
          events.push({ ...shared, type: "TaskStarted", number: number - 1, data })
        }
        events.push({ ...shared, ...TaskRows.settleEvent(end, task.attempt), number })
      }
      yield* publish(events)
      yield* announce(children)
      yield* offerReady(
        endings.filter(({ end, task }) => end._tag === "Released" && recorded.has(task.id)).map(({ task }) => task.id)
      )
      for (const { task } of endings) if (task.limited === true) admitting.wake(task.namespace)
      yield* countEnds(events, endings.length - recorded.size)
      return endings.map(({ task }) => ({ recorded: recorded.has(task.id) }))
    })

  const settleBatched = yield* batch("settle", (ending: Ending) => TaskRows.bytesOfEnd(ending.end), settleBatch)
  const settle: Ledger["Service"]["settle"] = (slot, task, end, options) => {
    const ending = { slot, task, end, unclaimed: options?.unclaimed === true }
    return settleBatched(ending).pipe(
      // An end that Postgres will not store (an invalid character, say) must not keep its task running for ever.
      Effect.catchTag("StatementRefused", (refused) =>
        refusedIsDefect(settleBatched({ ...ending, end: storable(end, refused) }))
      )
    )
  }

  const progressBatched = yield* batch(
    "progress",
    (_: { readonly slot: Slot; readonly task: RunningTask; readonly progress: TaskProgress }) => 300,
    (reports) =>
      Effect.gen(function* () {
        const rows = reports.map(({ slot, task, progress }) => ({
          id: task.id,
          attempt: task.attempt,
          epoch: slot.epoch,
          progress
        }))
        rows.sort((left, right) => (left.id < right.id ? -1 : 1))
        const answers = yield* commit<{ readonly id: TaskId; readonly number: number; readonly at: Date }>(
          "progress",
          () => sql.unsafe(`select * from ${ledger}.task_progress($1::json, $2::text)`, [JSON.stringify(rows), actor])
        )
        const numbers = new Map(answers.map((row) => [row.id, row] as const))
        const events: Array<Event> = []
        for (const { task, progress } of reports) {
          const row = numbers.get(task.id)
          if (row === undefined) continue
          events.push({
            type: "TaskProgressed",
            kind: "task",
            aggregate: task.id,
            number: row.number,
            at: row.at.toISOString(),
            namespace: task.namespace,
            actor,
            trace: task.trace ?? null,
            data: { ...progress }
          })
        }
        yield* publish(events)
        return reports.map(() => true)
      })
  )
  const progress: Ledger["Service"]["progress"] = (slot, task, report) =>
    Effect.asVoid(progressBatched({ slot, task, progress: report })).pipe(
      Effect.catchTag("StatementRefused", (refused) =>
        Effect.logDebug("progress cannot be stored and is left out", messageOf(refused.error))
      )
    )

  return { settle, progress }
})

/** What is recorded instead of an end that Postgres refused: a failure that says so, or the same end in plainer words. */
const storable = (end: Settlement, refused: StatementRefused): Settlement => {
  switch (end._tag) {
    case "Released":
      return end
    case "Completed":
      return {
        _tag: "Failed",
        executionMillis: end.executionMillis,
        error: { code: "result_refused", message: `the result cannot be stored: ${messageOf(refused.error)}` }
      }
    case "Failed":
    case "TimedOut":
    case "Retry":
      return { ...end, error: { code: plain(end.error.code), message: plain(end.error.message) } }
  }
}

/** Text without what Postgres does not store: halves of a character, and U+0000. */
const plain = (text: string) => text.toWellFormed().replaceAll("\u0000", "\ufffd")

const outcomes: Partial<Record<Event["type"], string>> = {
  TaskCompleted: "completed",
  TaskFailed: "failed",
  TaskTimedOut: "timeout",
  TaskRetried: "retry",
  TaskQueued: "released"
}

/** Counts a batch of ends: those recorded by outcome, the others as fenced. */
const countEnds = (recorded: ReadonlyArray<Event>, fenced: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    const counts = new Map<string, number>()
    for (const { type } of recorded) {
      const outcome = outcomes[type]
      if (outcome !== undefined) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
    }
    return Effect.andThen(
      Effect.forEach(counts, ([outcome, count]) => Metric.update(Metrics.taskEnds({ outcome }), count), {
        discard: true
      }),
      fenced > 0 ? Metric.update(Metrics.taskEndsFenced, fenced) : Effect.void
    )
  })
