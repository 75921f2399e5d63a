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
import * as Limits from "../protocol/Limits.ts"
import type { TaskError } from "../protocol/Task.ts"
import type { Settlement } from "./ports/Ledger.ts"
import { defaults } from "./Routing.ts"

/** How an attempt ended, as the instance saw it. */
export type AttemptEnd =
  | { readonly _tag: "Returned"; readonly data: Schema.Json; readonly dataBytes: number }
  | {
      readonly _tag: "Failed"
      readonly error: TaskError
      readonly retryable: boolean
      readonly retryAfterMillis: number | undefined
    }
  /** Something escaped the behaviour that it does not declare: a defect. */
  | { readonly _tag: "Crashed"; readonly message: string }
  | { readonly _tag: "TimedOut"; readonly afterMillis: number; readonly deadline: boolean }
  | { readonly _tag: "Stopped" }

export const settlementOf = (
  end: AttemptEnd,
  attempt: {
    readonly number: number
    readonly executionMillis: number
    readonly order: TaskOrder
    /** Uniform in [0, 1). */
    readonly chance: number
  }
): Settlement => {
  const { executionMillis } = attempt
  switch (end._tag) {
    case "Stopped":
      return attempt.order.at_most_once === true
        ? unknownOutcome("its node stopped while it ran", executionMillis)
        : { _tag: "Released" }
    case "Returned":
      return end.dataBytes <= Limits.resultBytesMax
        ? { _tag: "Completed", data: end.data, dataBytes: end.dataBytes, executionMillis }
        : {
            _tag: "Failed",
            executionMillis,
            error: {
              code: "result_too_large",
              message: `the result has ${end.dataBytes} bytes; at most ${Limits.resultBytesMax} fit inline, save larger data as an artifact`
            }
          }
    case "TimedOut":
      return end.deadline
        ? {
            _tag: "TimedOut",
            executionMillis,
            error: { code: "deadline", message: "its deadline passed before it completed" }
          }
        : again(
            end,
            attempt,
            {
              code: "timeout",
              message: `the attempt was interrupted after ${end.afterMillis} ms`
            },
            undefined
          )
    case "Crashed":
      return again(end, attempt, { code: "crashed", message: end.message }, undefined)
    case "Failed":
      return end.retryable
        ? again(end, attempt, end.error, end.retryAfterMillis)
        : { _tag: "Failed", error: end.error, executionMillis }
  }
}

const again = (
  end: AttemptEnd,
  attempt: {
    readonly number: number
    readonly executionMillis: number
    readonly order: TaskOrder
    readonly chance: number
  },
  error: TaskError,
  retryAfterMillis: number | undefined
): Settlement => {
  const { executionMillis, number, order } = attempt
  if (order.at_most_once === true && end._tag !== "Failed") {
    return unknownOutcome(error.message, executionMillis)
  }
  if (number >= order.max_attempts || order.at_most_once === true) {
    return { _tag: end._tag === "TimedOut" ? "TimedOut" : "Failed", error, executionMillis }
  }
  return {
    _tag: "Retry",
    error,
    executionMillis,
    delayMillis:
      retryAfterMillis === undefined
        ? backoffMillis(order.retry, number, attempt.chance)
        : Math.min(retryAfterMillis, Limits.retryDelayMillisMax)
  }
}

const unknownOutcome = (what: string, executionMillis: number): Settlement => ({
  _tag: "Failed",
  executionMillis,
  error: { code: "unknown_outcome", message: `${what}; it may run at most once` }
})

/**
 * Delay before the attempt after `number`: exponential, capped, then spread downwards by `jitter`. Between
 * `(1 - jitter)` of the capped delay and all of it.
 */
export const backoffMillis = (policy: TaskOrder["retry"], number: number, chance: number): number => {
  const delay = policy?.delay_ms ?? defaults.delayMillis
  const factor = policy?.factor ?? defaults.factor
  const cap = policy?.delay_max_ms ?? Math.max(defaults.delayMaxMillis, delay)
  const jitter = policy?.jitter ?? defaults.jitter
  const whole = Math.min(cap, delay * factor ** (number - 1))
  return Math.round(whole * (1 - jitter * chance))
}
