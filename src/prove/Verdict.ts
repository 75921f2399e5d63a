/**
 * Whether the promises held: what was answered to the submitter, compared with what the database says and with what the world outside has seen.
 * Pure, so that it is tested on tallies in which something is wrong.
 *
 * It believes nobody alone: a task is kept when its acknowledged id is stored, an effect is recorded when the recorded receipt was given out to
 * this very task.
 */
import { type PromiseOutcome, type ProofReport, proofNamedMax } from "../../protocol/Proof.ts"
import { callOf } from "./EffectSink.ts"
import type { TaskEvidence } from "./Evidence.ts"

/** The three views of one run. */
export interface Tally {
  /** Tasks are numbered from 0 to below this. */
  readonly submitted: number
  /** The id that was answered for a task; undefined when none was. */
  readonly idOf: (number: number) => string | undefined
  /** Whether a cancellation was answered by yes. */
  readonly wasCancelled: (number: number) => boolean
  /** Ids of tasks whose second submission gave another one. */
  readonly doubled: ReadonlyArray<string>
  /** Submissions that were refused for good, in words. */
  readonly refusals: ReadonlyArray<string>
  /** What is stored. */
  readonly tasks: ReadonlyArray<TaskEvidence>
  /** Calls of a task that the world outside has seen. */
  readonly callsOf: (number: number) => number
  /** Calls that no task of the proof should have made. */
  readonly strangers: number
}

const promises = {
  "accepted-kept": ["G1", "Every task that was accepted is stored under the id that was answered."],
  "accepted-ended": ["G1", "Every accepted task has ended: accepted = completed + failed + cancelled + timeout."],
  "ended-once": ["G1", "The end of a task is recorded once."],
  "cancelled-stays": ["G1", "A task whose cancellation was answered is cancelled."],
  "submitted-once": ["G2", "A task that is submitted again with its key is the same task, also after a lost answer."],
  "nothing-refused": ["G10", "No submission is refused for good because something died."],
  "nothing-invented": ["G2", "Nothing is stored that was not submitted, and nobody calls the world outside for it."],
  "effect-recorded": ["G3", "A completed task has the effect in its record that the world outside has seen of it."],
  "effect-attempts": [
    "G3",
    "An effect happens again only with a further attempt: never more calls than attempts began."
  ]
} as const

type PromiseId = keyof typeof promises

export interface Verdict {
  readonly promises: ReadonlyArray<PromiseOutcome>
  readonly figures: Pick<ProofReport, "accepted" | "ended" | "lost" | "effects"> & {
    readonly attempts: Omit<ProofReport["attempts"], "fenced">
  }
}

const endStates = ["completed", "failed", "cancelled", "timeout"] as const

export const judge = (tally: Tally): Verdict => {
  const broken = new Map<PromiseId, { count: number; readonly tasks: Array<string> }>()
  const breaks = (promise: PromiseId, task: string, times = 1) => {
    const so = broken.get(promise) ?? { count: 0, tasks: [] }
    so.count += times
    if (so.tasks.length < proofNamedMax) so.tasks.push(task)
    broken.set(promise, so)
  }
  const ended = { completed: 0, failed: 0, cancelled: 0, timeout: 0 }
  const effects = { recorded: 0, recorded_twice: 0, calls: 0, repeated: 0 }
  const attempts = { started: 0, cut_short: 0, retried: 0 }
  const stored = new Map<number, string>()

  for (const task of tally.tasks) {
    const { ends, id, number, starts, status } = task
    attempts.started += starts
    attempts.cut_short += task.cut.length
    attempts.retried += task.retries
    if (number === undefined || number >= tally.submitted) {
      breaks("nothing-invented", id)
      continue
    }
    if (stored.has(number)) breaks("submitted-once", id)
    else stored.set(number, id)
    const acknowledged = tally.idOf(number)
    // What was never answered counts with the answered ones once it is stored: it was accepted all the same.
    if (acknowledged !== undefined && acknowledged !== id) continue
    const end = endStates.find((state) => state === status)
    if (end === undefined) breaks("accepted-ended", id)
    else ended[end]++
    if (ends > 1 || (end !== undefined && ends === 0)) breaks("ended-once", id)
    if (tally.wasCancelled(number) && status !== "cancelled") breaks("cancelled-stays", id)

    const calls = tally.callsOf(number)
    if (status === "completed") {
      const call = callOf(task.receipt, number)
      if (call !== undefined && call >= 1 && call <= calls) effects.recorded++
      else breaks("effect-recorded", id)
      if (ends > 1) effects.recorded_twice++
    }
    if (calls > starts) breaks("effect-attempts", id, calls - starts)
  }

  let accepted = 0
  let lost = 0
  const storedIds = new Set(tally.tasks.map(({ id }) => id))
  for (let number = 0; number < tally.submitted; number++) {
    const calls = tally.callsOf(number)
    effects.calls += calls
    effects.repeated += Math.max(0, calls - 1)
    const id = tally.idOf(number) ?? stored.get(number)
    if (id === undefined) continue
    accepted++
    if (storedIds.has(id)) continue
    lost++
    breaks("accepted-kept", id)
  }
  for (const id of tally.doubled) breaks("submitted-once", id)
  for (const words of tally.refusals) breaks("nothing-refused", words)
  if (tally.strangers > 0) breaks("nothing-invented", `${tally.strangers} calls`, tally.strangers)

  return {
    promises: (Object.keys(promises) as ReadonlyArray<PromiseId>).map((id) => {
      const [guarantee, promise] = promises[id]
      const { count, tasks } = broken.get(id) ?? { count: 0, tasks: [] }
      return { id, guarantee, promise, outcome: count > 0 ? "broken" : "holds", broken: count, tasks }
    }),
    figures: { accepted, ended, lost, effects, attempts }
  }
}
