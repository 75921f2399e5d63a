import { expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Schedule } from "effect"
import * as IdleMemory from "../../src/observability/IdleMemory.ts"

const quick = Layer.succeed(IdleMemory.IdleMemoryLimits, { restFor: Duration.millis(200), restShare: 0.5 })

it.live("memory that a process no longer needs is given back once it rests", () =>
  Effect.gen(function* () {
    const grown = Effect.sync(() => {
      const kept = Array.from({ length: 400_000 }, (_, index) => ({ index, text: `number ${index}` }))
      return { total: process.memoryUsage().heapTotal, kept: kept.length }
    })
    const { kept, total } = yield* grown
    expect(kept).toBe(400_000)
    yield* Layer.build(IdleMemory.layer.pipe(Layer.provide(quick)))
    const shrunk = Effect.suspend(() => {
      const now = process.memoryUsage().heapTotal
      return now < total - 20_000_000 ? Effect.succeed(now) : Effect.fail(now)
    })
    const after = yield* Effect.retry(shrunk, Schedule.spaced("100 millis").pipe(Schedule.upTo({ times: 100 })))
    expect(after).toBeLessThan(total)
  }).pipe(Effect.scoped)
)
