/**
 * How signals are stored and taken, and how tasks are set aside. Each is one call of a function in
 * `sql/functions/signals.sql` or `pause.sql`; attempts that park share transactions, because many do at a time.
 */
import { Effect, Predicate, type Schema } from "effect"
import type { RunningTask, Slot } from "../../actors/ports/Ledger.ts"
import type { AwaitAnswer, NewSignal, SignalLedger, SignalOutcome } from "../../actors/ports/SignalLedger.ts"
import type { Event } from "../../protocol/Event.ts"
import type { AgentId, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { storableJson } from "../../protocol/Storable.ts"
import type { TaskStatus } from "../../protocol/Task.ts"
import type { Admitting } from "./Admitting.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import * as TaskRows from "./TaskRows.ts"

interface SentRow {
  readonly outcome: "stored" | "existing" | Extract<SignalOutcome, { readonly _tag: "Refused" }>["why"]
  readonly number: number | null
  readonly at: Date | null
  readonly same: boolean | null
  readonly version: number | null
  readonly status: TaskStatus | null
  readonly ran_on: AgentId | null
  readonly woken: boolean
  readonly trace: string | null
}

interface TakenRow {
  readonly outcome: "signal" | "timeout" | "waiting" | "diverged" | "fenced"
  readonly left_ms: number | null
  readonly awaited: string | null
  readonly number: number | null
  readonly payload: Schema.Json
  readonly actor: string | null
  readonly at: Date | null
}

interface PausedRow {
  readonly outcome: Effect.Success<ReturnType<SignalLedger["pause"]>>["outcome"]
  readonly number: number
  readonly at: Date
  readonly ran_on: AgentId | null
  readonly trace: string | null
  readonly data: Schema.Json
}

interface ResumedRow {
  readonly outcome: "resumed" | "unknown" | "not_paused" | "waits" | "held"
  readonly change: TaskRows.ChangeRow | null
}

export const make = Effect.fnUntraced(function* (committing: Committing, admitting: Admitting) {
  const { actor, batch, changes, commit, commitUntilKnown, offerReady, publish, refusedIsDefect, rowsOf, sql } =
    committing

  /** Rows of a statement, and whether they are those of a repetition whose first commit is unknown. */
  const once = <Row extends object>(operation: string, text: string, params: ReadonlyArray<unknown>) => {
    let repeated = false
    const statement = (again: boolean) => {
      repeated = again
      return sql.unsafe<Row>(text, params)
    }
    return Effect.map(refusedIsDefect(commit<Row>(operation, statement)), (rows) => [rows, repeated] as const)
  }

  const send: SignalLedger["send"] = Effect.fnUntraced(function* (signal) {
    const { namespace, taskId } = signal
    const [[row], repeated] = yield* once<SentRow>(
      "signal",
      `select * from ${ledger}.task_signal($1::text, $2::uuid, $3::text, $4::json, $5::text, $6::text, $7::text, $8::int,
        $9::boolean, $10::int)`,
      [
        namespace,
        taskId,
        signal.name,
        storableJson(JSON.stringify(signal.payload)),
        signal.actor,
        signal.request,
        signal.fingerprint,
        signal.checked ?? null,
        signal.isAnswer,
        Limits.signalsMax
      ]
    )
    if (row === undefined) return yield* Effect.die(new Error("a signal without an answer"))
    const { at, number, outcome, status, version } = row
    if ((outcome !== "stored" && outcome !== "existing") || at === null || number === null || status === null) {
      return outcome === "stored" || outcome === "existing"
        ? yield* Effect.die(new Error("a signal without a number"))
        : ({ _tag: "Refused", why: outcome, version: version ?? undefined } as const)
    }
    const receipt = {
      task_id: taskId,
      name: signal.name,
      number,
      at: at.toISOString(),
      duplicate: outcome === "existing" && !repeated,
      status: row.woken ? ("queued" as const) : status
    }
    // The first commit of this very call may have queued it: nobody has been told.
    if (outcome === "existing" && repeated && status === "queued") yield* offerReady([taskId])
    if (outcome === "existing") return { _tag: "Existing", receipt, same: row.same === true } as const
    const first: Event = {
      ...{ type: "TaskSignalled", kind: "task", aggregate: taskId, number: version ?? 0, at: receipt.at, namespace },
      ...{
        actor: signal.actor,
        trace: row.trace,
        data: { signal: signal.name, signal_number: number, ...decisionOf(signal) }
      }
    }
    yield* publish(row.woken ? [first, { ...first, type: "TaskResumed", number: first.number + 1 }] : [first])
    if (row.woken) yield* offerReady([taskId])
    return { _tag: "Stored", receipt, runsOn: row.ran_on ?? undefined } as const
  })

  const take: SignalLedger["take"] = Effect.fnUntraced(function* (
    slot,
    task,
    { name, position, terms, timeoutMillis }
  ) {
    const [row] = yield* refusedIsDefect(
      commitUntilKnown<TakenRow>("take_signal", () =>
        sql.unsafe(
          `select * from ${ledger}.signal_take($1::uuid, $2::int, $3::int, $4::int, $5::text, $6::float8, $7::json)`,
          [
            task.id,
            task.attempt,
            slot.epoch,
            position,
            name,
            timeoutMillis ?? null,
            storableJson(JSON.stringify(terms))
          ]
        )
      )
    )
    return row === undefined ? ({ _tag: "Fenced" } as const) : answerOf(row)
  })

  const parkBatched = yield* batch(
    "park",
    (_: { readonly slot: Slot; readonly task: RunningTask; readonly position: number }) => 200,
    (parks) =>
      Effect.gen(function* () {
        const rows = parks.map(({ position, slot, task }) => ({
          id: task.id,
          attempt: task.attempt,
          epoch: slot.epoch,
          position
        }))
        const answers = yield* commitUntilKnown<{
          readonly id: TaskId
          readonly number: number
          readonly at: Date
          readonly status: TaskStatus
          readonly data: Schema.Json
        }>("park", () =>
          sql.unsafe(`select * from ${ledger}.task_park($1::json, $2::text)`, [JSON.stringify(rows), actor])
        )
        const tasks = new Map(parks.map(({ task }) => [task.id, task] as const))
        yield* publish(
          answers.flatMap(({ at, data, id, number, status }): ReadonlyArray<Event> => {
            const task = tasks.get(id)
            if (task === undefined) return []
            const type = status === "queued" ? "TaskQueued" : "TaskPaused"
            return [
              {
                ...{ type, kind: "task", aggregate: id, number, at: at.toISOString(), namespace: task.namespace },
                ...{ actor, trace: task.trace ?? null, data }
              }
            ]
          })
        )
        yield* offerReady(answers.filter(({ status }) => status === "queued").map(({ id }) => id))
        // One that waits for its children has let go of its places.
        for (const { task } of parks) if (task.limited === true) admitting.wake(task.namespace)
        return parks.map(() => true)
      })
  )

  const expire: SignalLedger["expire"] = Effect.fnUntraced(function* (limit) {
    const changed = yield* changes("expire_awaits", `select * from ${ledger}.awaits_expire($1::int, $2::text)`, [
      limit,
      actor
    ])
    return changed.length
  })

  const pause: SignalLedger["pause"] = Effect.fnUntraced(function* (namespace, id, by) {
    const [row] = yield* rowsOf<PausedRow>(
      "pause",
      `select * from ${ledger}.task_pause($1::text, $2::uuid, $3::text, $4::text)`,
      [namespace, id, by.actor, by.reason ?? null]
    )
    if (row === undefined) return yield* Effect.die(new Error("a pause without an answer"))
    if (row.outcome === "paused") {
      yield* publish([
        {
          ...{
            type: "TaskPaused",
            kind: "task",
            aggregate: id,
            number: row.number,
            at: row.at.toISOString(),
            namespace
          },
          ...{ actor: by.actor, trace: row.trace, data: row.data }
        }
      ])
    }
    return { outcome: row.outcome, ranOn: row.ran_on ?? undefined }
  })

  const resume: SignalLedger["resume"] = Effect.fnUntraced(function* (namespace, id, by) {
    const [rows, repeated] = yield* once<ResumedRow>(
      "unpause",
      `select * from ${ledger}.task_unpause($1::text, $2::uuid, $3::text)`,
      [namespace, id, by]
    )
    const changed = rows.flatMap(({ change }) => (change !== null && TaskRows.isFact(change) ? [change] : []))
    yield* publish(changed.map((change) => TaskRows.changeEvent(change, change.event === "TaskResumed" ? by : actor)))
    yield* offerReady(changed.filter(({ status }) => status === "queued").map((change) => change.id))
    const outcome = rows[0]?.outcome ?? "unknown"
    return outcome === "not_paused" && repeated ? "resumed" : outcome
  })

  const ledgerOfSignals: SignalLedger = {
    send,
    take,
    park: (slot, task, position) => Effect.asVoid(refusedIsDefect(parkBatched({ slot, task, position }))),
    expire,
    pause,
    resume
  }
  return ledgerOfSignals
})

/** What an answer decides stands in its event too. */
const decisionOf = ({ isAnswer, payload }: NewSignal) =>
  isAnswer && Predicate.hasProperty(payload, "decision") && Predicate.isString(payload.decision)
    ? { decision: payload.decision }
    : {}

const answerOf = (row: TakenRow): AwaitAnswer => {
  switch (row.outcome) {
    case "fenced":
      return { _tag: "Fenced" }
    case "timeout":
      return { _tag: "TimedOut" }
    case "waiting":
      return { _tag: "Waiting", leftMillis: row.left_ms ?? undefined }
    case "diverged":
      return { _tag: "Diverged", awaited: row.awaited ?? "" }
    case "signal":
      return {
        _tag: "Signal",
        signal: {
          number: row.number ?? 0,
          name: row.awaited ?? "",
          payload: row.payload,
          actor: row.actor ?? "",
          at: row.at?.toISOString() ?? ""
        }
      }
  }
}
