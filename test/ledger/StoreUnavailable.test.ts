/** Who asks Postgres beside the ledger is answered in time, whatever the connection does. */
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { orUnavailable, StorePatience } from "../../src/ledger/StoreUnavailable.ts"

it.effect("a silent connection is told as an outage in time, though its statement cannot be ended", () =>
  Effect.gen(function* () {
    const patience = yield* StorePatience
    const silent = Effect.uninterruptible(Effect.never)
    const asked = yield* Effect.forkChild(Effect.flip(orUnavailable("Reader.get")(silent)))
    yield* TestClock.adjust(Duration.subtract(patience, Duration.millis(1)))
    expect(asked.pollUnsafe()).toBeUndefined()
    yield* TestClock.adjust("1 millis")
    expect(yield* Fiber.join(asked)).toMatchObject({ _tag: "StoreUnavailable", operation: "Reader.get" })
  })
)

it.effect("a statement whose asker goes away is ended", () =>
  Effect.gen(function* () {
    let ended = false
    const statement = Effect.onInterrupt(Effect.never, () =>
      Effect.sync(() => {
        ended = true
      })
    )
    const asked = yield* Effect.forkChild(orUnavailable("Reader.get")(statement), { startImmediately: true })
    yield* Fiber.interrupt(asked)
    yield* Effect.yieldNow
    expect(ended).toBe(true)
  })
)

it.effect("an answer comes as it is", () =>
  Effect.gen(function* () {
    expect(yield* orUnavailable("Reader.get")(Effect.succeed([1]))).toEqual([1])
  })
)
