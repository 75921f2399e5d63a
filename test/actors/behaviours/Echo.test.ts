/** `echo` gives back what it gets, and does what a test or a tour asks of it. */
import { expect, layer } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { echo } from "../../../actors/behaviours/Echo.ts"
import { attemptOf, failureOf, perform, recordProgress, services } from "./attempts.ts"

layer(services)("echo", (it) => {
  it.effect("gives any payload back", () =>
    Effect.gen(function* () {
      for (const payload of [null, 1, "text", [1, { sleep_ms: 5 }], { deep: { sleep_ms: 5 } }]) {
        expect(yield* perform(echo, payload)).toEqual({ echo: payload })
      }
    })
  )

  it.effect("echoes unknown keys beside the ones it obeys", () =>
    Effect.gen(function* () {
      const payload = { steps: 2, customer: 7 }
      expect(yield* perform(echo, payload)).toEqual({ echo: payload })
    })
  )

  it.effect("answers a bare payload without a step of the scheduler", () =>
    Effect.gen(function* () {
      const run = yield* echo.open({})
      expect(Effect.runSyncExit(Effect.scoped(run(attemptOf(echo, { a: 1 }))) as Effect.Effect<unknown>)).toMatchObject(
        {
          _tag: "Success",
          value: { echo: { a: 1 } }
        }
      )
    })
  )

  it.effect("emits chunks and awaits signals, in that order, and tells what it heard", () =>
    Effect.gen(function* () {
      const done: Array<unknown> = []
      const payload = {
        emit: { chunks: 2, stream: "out", bytes: 64 },
        await: [{ signal: "go", timeout_ms: 5_000, hold_ms: 10 }, { signal: "on" }]
      }
      const heard = yield* perform(echo, payload, {
        emit: (stream, chunk) => Effect.sync(() => void done.push([stream, JSON.stringify(chunk).length])),
        signal: (name, options) =>
          Effect.sync(() => {
            done.push([name, options])
            return { number: done.length, name, payload: name.length, actor: "key:a", at: "" }
          })
      })
      expect(heard).toEqual({ echo: payload, signals: [2, 2] })
      expect(done).toEqual([
        ["out", 64],
        ["out", 64],
        ["go", { timeout: Duration.seconds(5), hold: Duration.millis(10) }],
        ["on", {}]
      ])
      for (const wrong of [{ emit: { chunks: 0 } }, { await: [] }, { await: [{ signal: "a b" }] }]) {
        expect(yield* failureOf(echo, wrong)).toMatchObject({ code: "payload_invalid" })
      }
    })
  )

  it.effect("sleeps as long as it is told and reports each step", () =>
    Effect.gen(function* () {
      const { progress, reports } = recordProgress()
      const fiber = yield* Effect.forkChild(perform(echo, { sleep_ms: 4_000, steps: 4 }, { progress }))
      yield* TestClock.adjust(2_500)
      expect(reports.map(({ percentage }) => percentage)).toEqual([25, 50])
      yield* TestClock.adjust(1_500)
      yield* Fiber.join(fiber)
      expect(reports.at(-1)).toMatchObject({ percentage: 100, completed_steps: 4, total_steps: 4 })
      expect(yield* Clock.currentTimeMillis).toBe(4_000)
    })
  )

  it.effect("fails in the first attempts and then succeeds", () =>
    Effect.gen(function* () {
      const payload = { fail: { times: 2, retryable: true, code: "boom", retry_after_ms: 50 } }
      expect(yield* failureOf(echo, payload, { number: 2 })).toMatchObject({
        code: "boom",
        retryable: true,
        retryAfterMillis: 50
      })
      expect(yield* perform(echo, payload, { number: 3 })).toEqual({ echo: payload })
    })
  )

  it.effect("fails for good when told so", () =>
    Effect.gen(function* () {
      expect(yield* failureOf(echo, { fail: { retryable: false } }, { number: 9 })).toMatchObject({ retryable: false })
      expect(yield* failureOf(echo, { fail: true })).toMatchObject({ code: "failed_on_request", retryable: true })
    })
  )

  it.effect("crashes by a defect, which no failure handler sees", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(perform(echo, { crash: { times: 1, message: "bang" } }))
      expect(exit._tag === "Failure" && exit.cause.reasons.some(Cause.isDieReason)).toBe(true)
      expect(yield* perform(echo, { crash: { times: 1 } }, { number: 2 })).toMatchObject({ echo: {} })
    })
  )

  it.effect("hangs until it is interrupted", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(perform(echo, { hang: true }))
      yield* TestClock.adjust("23 hours")
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* Fiber.interrupt(fiber)
      expect(fiber.pollUnsafe()).toMatchObject({ _tag: "Failure" })
    })
  )

  it.effect("returns a result of exactly the bytes it is asked for", () =>
    Effect.gen(function* () {
      for (const bytes of [11, 1_000, 300_000]) {
        expect(JSON.stringify(yield* perform(echo, { result_bytes: bytes }))).toHaveLength(bytes)
      }
    })
  )

  it.effect("refuses a request that makes no sense, naming field and limit", () =>
    Effect.gen(function* () {
      expect(yield* failureOf(echo, { sleep_ms: -1 })).toMatchObject({
        code: "payload_invalid",
        retryable: false,
        message: expect.stringContaining("sleep_ms"),
        details: { errors: [{ field: "sleep_ms", limit: 0 }] }
      })
      expect((yield* failureOf(echo, { result_bytes: 1e9 })).message).toContain("result_bytes")
    })
  )

  it.effect("takes no settings", () =>
    Effect.gen(function* () {
      yield* echo.check({})
      expect((yield* Effect.flip(echo.check({ speed: 1 }))).message).toBe("must be empty: echo has no settings")
    })
  )
})
