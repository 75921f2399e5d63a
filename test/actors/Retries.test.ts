/** Whether there is a further attempt, and when: within every bound of the policy, whatever chance and behaviours say. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { backoffMillis, classesOf, decide } from "../../actors/Retries.ts"
import { maxAttempts } from "../../actors/Routing.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Limits from "../../protocol/Limits.ts"
import { RetryPolicy } from "../../protocol/RetryPolicy.ts"
import { anyPolicy } from "./policies.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const Chance = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999_999 }))
const policy = { retry: Schema.UndefinedOr(anyPolicy), number: between(1, Limits.attemptsMax), chance: Chance }

const failed = {
  error: { code: "http_network", message: "cut off" },
  retryable: true,
  retryAfterMillis: undefined,
  number: 1,
  maxAttempts: 5,
  elapsedMillis: 10,
  chance: 0
} as const

describe("the delay before another attempt", () => {
  it.prop("is never negative, never above its cap, and never below its cap less jitter", policy, (input) => {
    const { chance, number, retry } = input
    const whole = backoffMillis(retry, number, 0)
    const found = backoffMillis(retry, number, chance)
    expect(found).toBeGreaterThanOrEqual(Math.floor(whole * (1 - (retry?.jitter ?? 0.2))))
    expect(found).toBeLessThanOrEqual(whole)
    expect(whole).toBeLessThanOrEqual(retry?.delay_max_ms ?? Limits.retryDelayMillisMax)
    expect(Number.isSafeInteger(found)).toBe(true)
    expect(found).toBeGreaterThanOrEqual(0)
  })

  it.prop("never shrinks from one attempt to the next, at the same chance, unless a list says so", policy, (input) => {
    const { chance, number, retry } = input
    if (retry?.kind === "list") return
    expect(backoffMillis(retry, number + 1, chance)).toBeGreaterThanOrEqual(backoffMillis(retry, number, chance))
  })

  it("is 1, 2, 4, ... seconds up to 5 minutes unless the task says otherwise", () => {
    expect([1, 2, 3, 9, 10, 100].map((number) => backoffMillis(undefined, number, 0))).toEqual([
      1_000, 2_000, 4_000, 256_000, 300_000, 300_000
    ])
  })

  it("grows as its kind says", () => {
    const first = (retry: RetryPolicy) => [1, 2, 3, 4].map((number) => backoffMillis(retry, number, 0))
    expect(first({ kind: "exponential", delay_ms: 10, factor: 3 })).toEqual([10, 30, 90, 270])
    expect(first({ kind: "linear", delay_ms: 10 })).toEqual([10, 20, 30, 40])
    expect(first({ kind: "fixed", delay_ms: 10 })).toEqual([10, 10, 10, 10])
    expect(first({ kind: "list", delays_ms: [5, 50, 7] })).toEqual([5, 50, 7, 7])
    expect(first({ kind: "linear", delay_ms: 10, delay_max_ms: 25 })).toEqual([10, 20, 25, 25])
    expect(first({ kind: "list", delays_ms: [3_600_000] })).toEqual([3_600_000, 3_600_000, 3_600_000, 3_600_000])
  })
})

describe("a further attempt", () => {
  it.prop(
    "never begins later than the policy's total time after the first, whatever is asked for",
    {
      ...policy,
      total: between(1, Limits.retryTotalMillisMax),
      elapsed: between(0, Limits.retryTotalMillisMax),
      after: Schema.UndefinedOr(between(0, 2 * Limits.retryDelayMillisMax))
    },
    ({ after, chance, elapsed, number, retry, total }) => {
      const answer = decide(
        { ...retry, total_ms: total },
        { ...failed, number, maxAttempts: 1_000, elapsedMillis: elapsed, retryAfterMillis: after, chance }
      )
      if (answer.again) expect(elapsed + answer.delayMillis).toBeLessThanOrEqual(total)
      else expect(answer.final).toBe("total_time")
    }
  )

  it.prop(
    "waits for what a behaviour asks for, within the cap",
    { ...policy, after: between(0, 2 * Limits.retryDelayMillisMax) },
    ({ after, chance, retry }) => {
      const answer = decide(retry, { ...failed, retryAfterMillis: after, chance })
      const cap = retry?.delay_max_ms ?? Limits.retryDelayMillisMax
      expect(answer).toEqual({ again: true, delayMillis: Math.min(after, cap) })
    }
  )

  it.prop("comes until the attempts are used up, and no more often", policy, ({ chance, retry }) => {
    let number = 1
    while (decide(retry, { ...failed, number, maxAttempts: 7, chance }).again) number++
    expect(number).toBe(7)
    expect(decide(retry, { ...failed, number, maxAttempts: 7, chance })).toEqual({ again: false, final: "attempts" })
  })

  it("is ruled by the class of the error before anything else", () => {
    const http = (status: number) => ({
      ...failed,
      retryable: status >= 500,
      error: { code: "http_status", message: "no", details: { status } }
    })
    const refused = { again: false, final: "policy" }
    expect(classesOf(http(404).error)).toEqual(["http_status", "http_404"])
    expect(decide({ never_retry_on: ["http_5*"] }, http(503))).toEqual(refused)
    expect(decide({ never_retry_on: ["http_4*"] }, http(503))).toMatchObject({ again: true })
    expect(decide({ never_retry_on: ["http_4*"] }, http(404))).toEqual(refused)
    expect(decide({}, http(404))).toEqual({ again: false, final: "behaviour" })
    expect(decide({ retry_on: ["http_404"] }, http(404))).toMatchObject({ again: true })
    expect(decide({ retry_on: ["http_404"] }, http(503))).toEqual(refused)
    expect(decide({ retry_on: ["*"], never_retry_on: ["http_status"] }, http(503))).toEqual(refused)
    expect(decide({ retry_on: ["http"] }, http(503))).toEqual(refused)
    const crash = { ...failed, error: { code: "crashed", message: "boom" } }
    expect(decide({ never_retry_on: ["crashed", "timeout"] }, crash)).toEqual(refused)
  })

  it("is one more than a list has delays, unless the policy counts them itself", () => {
    expect(maxAttempts({ retry: { kind: "list", delays_ms: [1, 2, 3] } })).toBe(4)
    expect(maxAttempts({ retry: { kind: "list", delays_ms: [1, 2, 3], max_attempts: 2 } })).toBe(2)
    expect(maxAttempts({ retry: { kind: "fixed" } })).toBe(5)
    expect(maxAttempts({ retry: { kind: "list", delays_ms: Array.from({ length: 100 }, () => 1) } })).toBe(
      Limits.attemptsMax
    )
  })
})

describe("a policy", () => {
  const decode = inputDecoder(RetryPolicy)
  const field = (input: object) => {
    const decoded = decode(input, "configuration.retry")
    return Result.isFailure(decoded) ? decoded.failure.errors.map((error) => error.field) : []
  }

  it("that contradicts itself is refused by the name of the field", () => {
    const at = (name: string) => [`configuration.retry.${name}`]
    expect(field({ kind: "list" })).toEqual(at("delays_ms"))
    expect(field({ delays_ms: [1] })).toEqual(at("delays_ms"))
    expect(field({ kind: "list", delays_ms: [] })).toEqual(at("delays_ms"))
    expect(field({ kind: "list", delays_ms: [1, -1] })).toEqual(at("delays_ms.1"))
    expect(field({ kind: "list", delays_ms: [1], delay_ms: 1 })).toEqual(at("delay_ms"))
    expect(field({ kind: "linear", factor: 2 })).toEqual(at("factor"))
    expect(field({ kind: "quadratic" })).toEqual(at("kind"))
    expect(field({ total_ms: 0 })).toEqual(at("total_ms"))
    expect(field({ jitter: 1.5 })).toEqual(at("jitter"))
    expect(field({ retry_on: [] })).toEqual(at("retry_on"))
    expect(field({ retry_on: ["a*b"] })).toEqual(at("retry_on.0"))
    expect(field({ never_retry_on: ["http_4*", ""] })).toEqual(at("never_retry_on.1"))
    expect(field({ retry_on: ["x", "y"], never_retry_on: ["y"] })).toEqual(at("never_retry_on"))
    expect(field({ delay: 5 })).toEqual(at("delay"))
  })

  it("of the first version, and one with everything, is taken", () => {
    expect(field({ max_attempts: 5, delay_ms: 1_000, factor: 2, delay_max_ms: 300_000, jitter: 0.2 })).toEqual([])
    const all = {
      kind: "list",
      max_attempts: 3,
      delays_ms: [1_000, 60_000],
      delay_max_ms: 60_000,
      jitter: 0,
      total_ms: 3_600_000,
      retry_on: ["http_*", "*"],
      never_retry_on: ["http_4*"]
    }
    expect(field(all)).toEqual([])
  })
})
