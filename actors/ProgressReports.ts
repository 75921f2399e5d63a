/**
 * Reports of progress on their way to the ledger: those of a task that come faster than they can be recorded replace each
 * other, so that a behaviour may report as often as it likes. One still waits when its attempt has ended: it is dropped.
 */
import { type Duration, Effect } from "effect"
import type { TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import { storable } from "../protocol/Storable.ts"
import type { TaskProgress } from "../protocol/Task.ts"
import type { Ledger, RunningTask, Slot } from "./ports/Ledger.ts"

export const make = (options: {
  readonly ledger: Ledger["Service"]
  readonly slot: Slot
  /** Time between reports of one task. */
  readonly every: Duration.Duration
  readonly fork: (effect: Effect.Effect<void>) => void
}) => {
  const { every, fork, ledger, slot } = options
  const waiting = new Map<TaskId, { readonly task: RunningTask; readonly progress: TaskProgress }>()

  const flush = Effect.suspend(() => {
    const due = [...waiting.values()]
    waiting.clear()
    return Effect.forEach(due, ({ progress, task }) => Effect.ignore(ledger.progress(slot, task, progress)), {
      concurrency: "unbounded",
      discard: true
    })
  })

  return {
    report: (task: RunningTask, progress: TaskProgress) => {
      if (waiting.size === 0) fork(Effect.delay(flush, every))
      const { current_step: step, message } = progress
      waiting.set(task.id, {
        task,
        progress: {
          ...progress,
          ...(step !== undefined && { current_step: storable(step) }),
          ...(message !== undefined && { message: storable(message.slice(0, Limits.progressMessageCharactersMax)) })
        }
      })
    },
    drop: (id: TaskId) => waiting.delete(id)
  }
}
