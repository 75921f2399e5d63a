/**
 * Decides, as pure functions, what the end of an attempt means for its delivery.
 *
 *   pending --> sending --> DELIVERED      the endpoint answered 2xx
 *      ^           |------> FAILED         it answered 410, or attempts or time are used up
 *      '-----------'                       anything else: again after a delay that grows, or as its Retry-After says
 *
 * A status that says "never so" (400, 404) is tried again all the same: endpoints are mended and deployed meanwhile.
 */
import { backoffMillis } from "../../actors/Retries.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { DeliveryRetry } from "../../protocol/Webhook.ts"

/** How an attempt ended, as its sender saw it. */
export interface AttemptResult {
  /** Undefined when there was no answer. */
  readonly responseStatus: number | undefined
  readonly retryAfterMillis: number | undefined
  /** Why there was no answer, or none of use. */
  readonly error: string | undefined
}

export interface Verdict {
  readonly status: "delivered" | "pending" | "failed"
  readonly delayMillis: number
  /** The endpoint wants no more. */
  readonly gone: boolean
}

export const verdictOf = (
  result: AttemptResult,
  attempt: {
    /** Of those granted by the first sending or by a replay, from 1. */
    readonly number: number
    readonly last: boolean
    readonly retry: DeliveryRetry
    /** Until it is given up. */
    readonly remainingMillis: number
    /** Uniform in [0, 1). */
    readonly chance: number
  }
): Verdict => {
  const { responseStatus = 0 } = result
  if (responseStatus >= 200 && responseStatus < 300) return { status: "delivered", delayMillis: 0, gone: false }
  if (responseStatus === 410) return { status: "failed", delayMillis: 0, gone: true }
  const delayMillis = Math.max(
    backoffMillis(attempt.retry, attempt.number, attempt.chance),
    Math.min(result.retryAfterMillis ?? 0, Limits.retryDelayMillisMax)
  )
  const isOver = attempt.last || delayMillis > attempt.remainingMillis
  return { status: isOver ? "failed" : "pending", delayMillis: isOver ? 0 : delayMillis, gone: false }
}

/** `Retry-After`: seconds or a date (RFC 9110 section 10.2.3), in milliseconds from now. */
export const retryAfterMillis = (header: string | undefined, nowMillis: number): number | undefined => {
  if (header === undefined) return undefined
  const millis = /^\d{1,9}$/u.test(header) ? Number(header) * 1_000 : Date.parse(header) - nowMillis
  return Number.isNaN(millis) ? undefined : Math.min(Math.max(0, Math.round(millis)), Limits.retryDelayMillisMax)
}
