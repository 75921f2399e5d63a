/**
 * How tasks that wait for capacity are queued: whoever changes something at a key wakes admission of its namespace, which looks
 * at all that happened meanwhile in one transaction.
 *
 * One look per namespace at a time on this node; a wake during a look means another one. What a node that is gone would have
 * looked at, `open` finds.
 */
import { Clock, Duration, Effect, Metric } from "effect"
import type { Namespace } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { isTerminal } from "../../protocol/Task.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import type * as TaskRows from "./TaskRows.ts"

/** Most tasks that one transaction queues. */
const tasksMax = 500
/** Until a look that changed nothing is repeated, where somebody else is at work on the tasks. */
const again = Duration.millis(20)
/** Later tokens are left to the sweep. */
const timerMillisMax = 60_000

interface LookRow {
  readonly changes: ReadonlyArray<TaskRows.ChangeRow>
  readonly due_ms: number | null
  readonly more: boolean
}

export type Admitting = Effect.Success<ReturnType<typeof make>>

export const make = Effect.fnUntraced(function* (committing: Committing) {
  const { actor, announce, commit, refusedIsDefect, rowsOf, sql } = committing
  const clock = yield* Clock.Clock
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const scope = yield* Effect.scope
  /** Namespaces that are looked at now; true when something happened since the look began. */
  const looking = new Map<Namespace, boolean>()
  /** When a namespace is looked at again for a token, in monotonic milliseconds. */
  const timers = new Map<Namespace, number>()
  /** Where this node has met tasks with limits. */
  const limited = new Set<Namespace>()

  const look = Effect.fnUntraced(function* (namespace: Namespace) {
    const [row] = yield* refusedIsDefect(
      commit<LookRow>("admit", () =>
        sql.unsafe(`select * from ${ledger}.limits_admit($1::text, $2::int, $3::text)`, [namespace, tasksMax, actor])
      )
    )
    if (row === undefined) return false
    yield* announce(row.changes)
    yield* Metric.update(Metrics.tasksAdmitted, row.changes.length)
    if (row.due_ms !== null) setTimer(namespace, Math.max(1, row.due_ms))
    if (row.more && row.changes.length === 0) yield* Effect.sleep(again)
    return row.more
  })

  const lookUntilDone = (namespace: Namespace): Effect.Effect<void> =>
    Effect.suspend(() => {
      looking.set(namespace, false)
      return look(namespace)
    }).pipe(
      Effect.catch((error) => Effect.as(Effect.logDebug("admission is left to the sweep", error.message), false)),
      Effect.flatMap((more) => {
        if (more || looking.get(namespace) === true) return lookUntilDone(namespace)
        looking.delete(namespace)
        return Effect.void
      })
    )

  const inBackground = (effect: Effect.Effect<void>) => fork(Effect.forkIn(effect, scope))

  /** Soon, in the background. */
  const wake = (namespace: Namespace) => {
    limited.add(namespace)
    if (looking.has(namespace)) {
      looking.set(namespace, true)
      return
    }
    looking.set(namespace, false)
    inBackground(Effect.onError(lookUntilDone(namespace), () => Effect.sync(() => looking.delete(namespace))))
  }

  const setTimer = (namespace: Namespace, millis: number) => {
    const at = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n) + millis
    if (millis > timerMillisMax || at >= (timers.get(namespace) ?? Number.POSITIVE_INFINITY)) return
    timers.set(namespace, at)
    inBackground(
      Effect.andThen(
        Effect.sleep(Duration.millis(millis)),
        Effect.sync(() => {
          if (timers.get(namespace) === at) timers.delete(namespace)
          wake(namespace)
        })
      )
    )
  }

  committing.watched.changed = (changes) => {
    for (const { namespace, status } of changes) {
      if (isTerminal(status) || status === "pending") if (limited.has(namespace)) wake(namespace)
    }
  }

  const open = Effect.fnUntraced(function* (limit: number) {
    const rows = yield* rowsOf<{ readonly limits_open: Namespace }>(
      "admit_open",
      `select * from ${ledger}.limits_open($1::int)`,
      [limit]
    )
    for (const { limits_open: namespace } of rows) wake(namespace)
    return rows.length
  })

  return { wake, open }
})
