/**
 * Decides, as pure functions, what the end of an attempt means for its task.
 *
 *   running --> completed            the behaviour returned a result that fits
 *           --> pending(retry)       it failed, may be tried again, and has attempts left
 *           --> failed | timeout     it failed for good, or ran out of attempts
 *           --> paused               it waits for a signal without its slot (`Attempt.Parked`, recorded by the ledger's `signals.park`)
 *           --> queued               the node stops in order: given back, the attempt does not count (one that may run
 *                                    at most once fails: what it did is not known)
 *
 * Chance comes in as a number, so that the same input gives the same answer.
 */
import type { Schema } from "effect"
import type { TaskOrder } from "../protocol/Dispatch.ts"
import type { TaskError } from "../protocol/Task.ts"
import type { Settlement } from "./ports/Ledger.ts"
import * as Retries from "./Retries.ts"

/** How an attempt ended, as the instance saw it. */
export type AttemptEnd =
  | { readonly _tag: "Returned"; readonly data: Schema.Json; readonly dataBytes: number }
  /** A result that is too large even for an artifact of its own. */
  | { readonly _tag: "ReturnedTooMuch"; readonly dataBytes: number; readonly bytesMax: number }
  | {
      readonly _tag: "Failed"
      readonly error: TaskError
      readonly retryable: boolean
      readonly retryAfterMillis: number | undefined
    }
  /** Something escaped the behaviour that it does not declare: a defect. */
  | { readonly _tag: "Crashed"; readonly message: string; readonly stack?: string | undefined }
  /** Its process did not live to tell (`Behaviour.AttemptLost`). */
  | { readonly _tag: "Lost"; readonly error: TaskError }
  /** The payload is none that the agent takes: the behaviour was never called, and no further attempt can change that. */
  | { readonly _tag: "Incompatible"; readonly error: TaskError }
  | { readonly _tag: "TimedOut"; readonly afterMillis: number; readonly deadline: boolean }
  | { readonly _tag: "Stopped" }

/** What is known of the attempt that ended. */
interface Ended {
  readonly number: number
  readonly executionMillis: number
  readonly order: TaskOrder
  /** Uniform in [0, 1). */
  readonly chance: number
  /** When it ended. */
  readonly nowMillis: number
}

export const settlementOf = (end: AttemptEnd, attempt: Ended): Settlement => {
  const { executionMillis } = attempt
  switch (end._tag) {
    case "Stopped":
      return attempt.order.at_most_once === true
        ? unknownOutcome("its node stopped while it ran", undefined, executionMillis)
        : { _tag: "Released" }
    case "Returned":
      return { _tag: "Completed", data: end.data, dataBytes: end.dataBytes, executionMillis }
    case "ReturnedTooMuch": {
      const message = `the result has ${end.dataBytes} bytes; at most ${end.bytesMax} are kept, save larger data as an artifact`
      return { _tag: "Failed", executionMillis, error: { code: "result_too_large", message } }
    }
    case "Incompatible":
      return { _tag: "Failed", executionMillis, error: end.error }
    case "TimedOut": {
      if (end.deadline) {
        const error = { code: "deadline", message: "its deadline passed before it completed" }
        return { _tag: "TimedOut", executionMillis, error }
      }
      return again(end, attempt, {
        error: { code: "timeout", message: `the attempt was interrupted after ${end.afterMillis} ms` },
        retryable: true,
        retryAfterMillis: undefined
      })
    }
    case "Crashed": {
      const details = end.stack === undefined ? {} : { details: { stack: end.stack } }
      return again(end, attempt, {
        error: { code: "crashed", message: end.message, ...details },
        retryable: true,
        retryAfterMillis: undefined
      })
    }
    case "Lost":
      return again(end, attempt, { error: end.error, retryable: true, retryAfterMillis: undefined })
    case "Failed":
      return again(end, attempt, end)
  }
}

/** Another attempt, or the end: as the task's delivery and retry policy have it. */
const again = (
  end: AttemptEnd,
  attempt: Ended,
  failed: {
    readonly error: TaskError
    readonly retryable: boolean
    readonly retryAfterMillis: number | undefined
  }
): Settlement => {
  const { executionMillis, number, order } = attempt
  const { error } = failed
  if (order.at_most_once === true && end._tag !== "Failed") {
    return unknownOutcome(error.message, error.details, executionMillis)
  }
  const retry =
    order.at_most_once === true
      ? ({ again: false, final: "at_most_once" } as const)
      : Retries.decide(order.retry, {
          ...failed,
          number,
          maxAttempts: order.max_attempts,
          elapsedMillis: elapsedMillis(attempt),
          chance: attempt.chance
        })
  if (retry.again) return { _tag: "Retry", error, executionMillis, delayMillis: retry.delayMillis }
  return {
    _tag: end._tag === "TimedOut" ? "TimedOut" : "Failed",
    error: { ...error, final: retry.final },
    executionMillis
  }
}

/** Since the task's first attempt began; both moments are of Postgres's clock. */
const elapsedMillis = ({ executionMillis, nowMillis, order }: Ended): number =>
  order.first_started_at === undefined
    ? executionMillis
    : Math.max(executionMillis, nowMillis - Date.parse(order.first_started_at))

const unknownOutcome = (what: string, details: TaskError["details"], executionMillis: number): Settlement => ({
  _tag: "Failed",
  executionMillis,
  error: {
    code: "unknown_outcome",
    message: `${what}; it may run at most once`,
    ...(details !== undefined && { details }),
    final: "at_most_once"
  }
})
