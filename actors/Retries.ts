/**
 * Decides, as pure functions of the retry policy, whether there is a further attempt after an error, and when.
 *
 * Order of what is asked, the first answer counts: `never_retry_on`, `retry_on`, what the behaviour says, attempts left,
 * total time left. Chance and time come in as numbers.
 */

import * as Limits from "../protocol/Limits.ts"
import type { RetryPolicy } from "../protocol/RetryPolicy.ts"
import type { TaskError } from "../protocol/Task.ts"
import { defaults } from "./Routing.ts"

export type Retry =
  | { readonly again: true; readonly delayMillis: number }
  | { readonly again: false; readonly final: NonNullable<TaskError["final"]> }

export const decide = (
  policy: RetryPolicy | undefined,
  failed: {
    readonly error: TaskError
    /** What the behaviour says; true for crashes and timeouts, which it says nothing about. */
    readonly retryable: boolean
    /** What the behaviour asks for. */
    readonly retryAfterMillis: number | undefined
    /** The attempt that failed, counted from 1. */
    readonly number: number
    readonly maxAttempts: number
    /** Since the first attempt began. */
    readonly elapsedMillis: number
    /** Uniform in [0, 1). */
    readonly chance: number
  }
): Retry => {
  const classes = classesOf(failed.error)
  const named = (patterns: ReadonlyArray<string> | undefined) =>
    patterns?.some((pattern) => classes.some((code) => matches(pattern, code))) === true
  if (named(policy?.never_retry_on)) return { again: false, final: "policy" }
  if (policy?.retry_on !== undefined) {
    if (!named(policy.retry_on)) return { again: false, final: "policy" }
  } else if (!failed.retryable) {
    return { again: false, final: "behaviour" }
  }
  if (failed.number >= failed.maxAttempts) return { again: false, final: "attempts" }
  const delayMillis =
    failed.retryAfterMillis === undefined
      ? backoffMillis(policy, failed.number, failed.chance)
      : Math.min(failed.retryAfterMillis, policy?.delay_max_ms ?? Limits.retryDelayMillisMax)
  return policy?.total_ms !== undefined && failed.elapsedMillis + delayMillis > policy.total_ms
    ? { again: false, final: "total_time" }
    : { again: true, delayMillis }
}

/**
 * Delay before the attempt after `number`: as the policy's kind grows it, capped, then spread downwards by `jitter`.
 * Between `(1 - jitter)` of the capped delay and all of it.
 */
export const backoffMillis = (policy: RetryPolicy | undefined, number: number, chance: number): number => {
  const jitter = policy?.jitter ?? defaults.jitter
  const whole = Math.min(capOf(policy), grownMillis(policy, number))
  return Math.round(whole * (1 - jitter * chance))
}

const grownMillis = (policy: RetryPolicy | undefined, number: number): number => {
  const delay = policy?.delay_ms ?? defaults.delayMillis
  switch (policy?.kind) {
    case "fixed":
      return delay
    case "linear":
      return delay * number
    case "list":
      return policy.delays_ms?.[Math.min(number, policy.delays_ms.length) - 1] ?? delay
    case "exponential":
    case undefined:
      return delay * (policy?.factor ?? defaults.factor) ** (number - 1)
  }
}

/** A list is what its author wrote; the others grow without end, and end at 5 minutes unless they begin above. */
const capOf = (policy: RetryPolicy | undefined): number =>
  policy?.delay_max_ms ??
  (policy?.kind === "list"
    ? Limits.retryDelayMillisMax
    : Math.max(defaults.delayMaxMillis, policy?.delay_ms ?? defaults.delayMillis))

/** The codes that patterns are compared with: `http_status` with status 404 is `http_404` too. */
export const classesOf = ({ code, details }: TaskError): ReadonlyArray<string> => {
  const status =
    code.endsWith(statusSuffix) && typeof details === "object" && details !== null && "status" in details
      ? details["status"]
      : undefined
  return typeof status === "number" ? [code, `${code.slice(0, -statusSuffix.length)}_${status}`] : [code]
}

const statusSuffix = "_status"

const matches = (pattern: string, code: string): boolean =>
  pattern.endsWith("*") ? code.startsWith(pattern.slice(0, -1)) : code === pattern
