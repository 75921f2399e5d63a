/** What the end of an attempt means: a legal step of the task's life, within its attempts, after a bounded delay. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { settlementOf } from "../../actors/TaskLifecycle.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import { Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { anyPolicy } from "./policies.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const Chance = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999_999 }))

const End = Schema.Union([
  Schema.TaggedStruct("Returned", { data: Schema.Null, dataBytes: between(0, Limits.resultBytesMax) }),
  Schema.TaggedStruct("ReturnedTooMuch", { dataBytes: between(2, 1e9), bytesMax: between(1, 1e9) }),
  Schema.TaggedStruct("Failed", {
    error: Schema.Struct({ code: Schema.String, message: Schema.String }),
    retryable: Schema.Boolean,
    retryAfterMillis: Schema.UndefinedOr(between(0, 2 * Limits.retryDelayMillisMax))
  }),
  Schema.TaggedStruct("Crashed", { message: Schema.String }),
  Schema.TaggedStruct("TimedOut", { afterMillis: between(0, 1_000), deadline: Schema.Boolean }),
  Schema.TaggedStruct("Incompatible", { error: Schema.Struct({ code: Schema.String, message: Schema.String }) }),
  Schema.TaggedStruct("Stopped", {})
])

const orderWith = (over: Partial<TaskOrder>): TaskOrder => ({
  id: TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0"),
  namespace: Namespace.make("default"),
  name: "a task",
  type: "echo.say",
  lane: "normal",
  max_attempts: 5,
  ...over
})

const given = {
  end: End,
  number: between(1, Limits.attemptsMax),
  max: between(1, Limits.attemptsMax),
  atMostOnce: Schema.Boolean,
  retry: Schema.UndefinedOr(anyPolicy),
  chance: Chance
}

describe("the end of an attempt", () => {
  it.prop("leads to a state that may follow running, and keeps to the task's attempts", given, (input) => {
    const { atMostOnce, chance, end, max, number, retry } = input
    const order = orderWith({ max_attempts: max, ...(atMostOnce && { at_most_once: true }), ...(retry && { retry }) })
    const settlement = settlementOf(end, { number, executionMillis: 7, order, chance, nowMillis: 0 })
    switch (settlement._tag) {
      case "Completed":
        return expect(end._tag).toBe("Returned")
      case "Released":
        return expect([end._tag, atMostOnce]).toEqual(["Stopped", false])
      case "Retry":
        expect(number).toBeLessThan(max)
        expect(atMostOnce).toBe(false)
        expect(Number.isSafeInteger(settlement.delayMillis)).toBe(true)
        expect(settlement.delayMillis).toBeGreaterThanOrEqual(0)
        expect(settlement.delayMillis).toBeLessThanOrEqual(Limits.retryDelayMillisMax)
        return expect(["Failed", "Crashed", "TimedOut"]).toContain(end._tag)
      case "TimedOut":
        return expect(end._tag).toBe("TimedOut")
      case "Failed":
        expect(settlement.error.message).toBeTypeOf("string")
        return expect(end._tag === "Stopped" && !atMostOnce).toBe(false)
    }
  })

  it.prop(
    "that may be tried again is tried again until the attempts are used up, and no more often",
    given,
    (input) => {
      const { chance, end, max, retry } = input
      const order = orderWith({ max_attempts: max, ...(retry && { retry }) })
      let number = 1
      while (settlementOf(end, { number, executionMillis: 1, order, chance, nowMillis: 0 })._tag === "Retry") number++
      const final =
        end._tag === "Returned" ||
        end._tag === "ReturnedTooMuch" ||
        end._tag === "Stopped" ||
        end._tag === "Incompatible" ||
        (end._tag === "Failed" && !end.retryable) ||
        (end._tag === "TimedOut" && end.deadline)
      expect(number).toBe(final ? 1 : max)
    }
  )

  it("whose payload never reached the behaviour is final and known, whatever policy and delivery say", () => {
    const error = { code: "payload_incompatible", message: "breaks the schema" }
    for (const over of [{ at_most_once: true }, { retry: { retry_on: ["*"] } }]) {
      const input = { number: 1, executionMillis: 1, order: orderWith(over), chance: 0, nowMillis: 0 }
      expect(settlementOf({ _tag: "Incompatible", error }, input)).toEqual({
        _tag: "Failed",
        executionMillis: 1,
        error
      })
    }
  })

  it("of a task that may run at most once is unknown when it was cut short, however that happened", () => {
    const order = orderWith({ at_most_once: true })
    for (const end of [
      { _tag: "Crashed", message: "boom" },
      { _tag: "TimedOut", afterMillis: 5, deadline: false },
      { _tag: "Stopped" }
    ] as const) {
      const settlement = settlementOf(end, { number: 1, executionMillis: 1, order, chance: 0, nowMillis: 0 })
      expect(settlement).toMatchObject({ _tag: "Failed", error: { code: "unknown_outcome" } })
    }
    const own = { code: "http_status", message: "500" }
    const failed = { _tag: "Failed", error: own, retryable: true, retryAfterMillis: undefined } as const
    expect(settlementOf(failed, { number: 1, executionMillis: 1, order, chance: 0, nowMillis: 0 })).toMatchObject({
      _tag: "Failed",
      error: own
    })
  })

  it("is a failure when the result is too large to be kept, with both sizes", () => {
    const end = { _tag: "ReturnedTooMuch", dataBytes: 301, bytesMax: 300 } as const
    const settlement = settlementOf(end, {
      number: 1,
      executionMillis: 1,
      order: orderWith({}),
      chance: 0,
      nowMillis: 0
    })
    expect(settlement).toMatchObject({ _tag: "Failed", error: { code: "result_too_large" } })
    expect(JSON.stringify(settlement)).toMatch(/301 bytes; at most 300/u)
  })

  it("keeps its own reason when the last attempt fails", () => {
    const order = orderWith({ max_attempts: 1 })
    const last = (end: Parameters<typeof settlementOf>[0]) =>
      settlementOf(end, { number: 1, executionMillis: 1, order, chance: 0, nowMillis: 0 })
    expect(last({ _tag: "Crashed", message: "boom" })).toMatchObject({
      _tag: "Failed",
      error: { code: "crashed", message: "boom" }
    })
    expect(last({ _tag: "TimedOut", afterMillis: 5, deadline: false })).toMatchObject({
      _tag: "TimedOut",
      error: { code: "timeout" }
    })
    expect(last({ _tag: "TimedOut", afterMillis: 5, deadline: true })).toMatchObject({
      _tag: "TimedOut",
      error: { code: "deadline" }
    })
  })
})
