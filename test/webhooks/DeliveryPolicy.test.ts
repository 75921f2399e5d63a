/** What the end of an attempt means for its delivery. */
import { describe, expect, it } from "vitest"
import { type AttemptResult, retryAfterMillis, verdictOf } from "../../src/webhooks/DeliveryPolicy.ts"

const retry = { max_attempts: 5, delay_ms: 100, factor: 3, delay_max_ms: 500, jitter: 0.2 }
const attempt = { number: 1, last: false, retry, remainingMillis: 1e9, chance: 0 }
const answered = (responseStatus: number | undefined, over: Partial<AttemptResult> = {}): AttemptResult => ({
  responseStatus,
  retryAfterMillis: undefined,
  error: undefined,
  ...over
})

describe("an attempt", () => {
  it.each([200, 202, 204, 299])("that is answered %d has delivered", (status) => {
    expect(verdictOf(answered(status), attempt)).toEqual({ status: "delivered", delayMillis: 0, gone: false })
  })

  it.each([undefined, 301, 302, 400, 404, 429, 500, 503])("that is answered %s is made again", (status) => {
    expect(verdictOf(answered(status), attempt)).toEqual({ status: "pending", delayMillis: 100, gone: false })
  })

  it("that is answered 410 was the last, however many are left", () => {
    expect(verdictOf(answered(410), attempt)).toEqual({ status: "failed", delayMillis: 0, gone: true })
  })

  it("is made again after delays that grow to a bound and are spread downwards", () => {
    const delays = [1, 2, 3, 4].map((number) => verdictOf(answered(500), { ...attempt, number }).delayMillis)
    expect(delays).toEqual([100, 300, 500, 500])
    expect(verdictOf(answered(500), { ...attempt, chance: 0.999 }).delayMillis).toBe(80)
  })

  it("is not made again before its Retry-After, and that has a bound", () => {
    const after = (millis: number) => verdictOf(answered(503, { retryAfterMillis: millis }), attempt).delayMillis
    expect([after(50), after(5_000), after(1e12)]).toEqual([100, 5_000, 86_400_000])
  })

  it("is not made again when attempts or time are used up", () => {
    expect(verdictOf(answered(500), { ...attempt, last: true }).status).toBe("failed")
    expect(verdictOf(answered(500), { ...attempt, remainingMillis: 99 }).status).toBe("failed")
  })
})

describe("Retry-After", () => {
  it("is seconds or a date, and nothing else", () => {
    const now = Date.parse("2026-11-24T10:00:00Z")
    expect(retryAfterMillis("120", now)).toBe(120_000)
    expect(retryAfterMillis("Tue, 24 Nov 2026 10:00:30 GMT", now)).toBe(30_000)
    expect(retryAfterMillis("Tue, 24 Nov 2026 09:00:00 GMT", now)).toBe(0)
    expect(retryAfterMillis("soon", now)).toBeUndefined()
    expect(retryAfterMillis(undefined, now)).toBeUndefined()
  })
})
