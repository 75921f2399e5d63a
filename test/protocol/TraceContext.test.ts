/** A trace survives the way through headers and orders, and what is malformed is dropped. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, References } from "effect"
import {
  currentTraceparent,
  formatTraceparent,
  noSpan,
  parseTraceparent,
  traceIdOf,
  withRemoteParent,
  withSpanFrom
} from "../../protocol/TraceContext.ts"

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"
const sampled = `00-${traceId}-${spanId}-01`

describe("a traceparent", () => {
  it("is read and written back as it was", () => {
    for (const text of [sampled, `00-${traceId}-${spanId}-00`]) {
      const span = parseTraceparent(text)
      expect(span && formatTraceparent(span)).toBe(text)
    }
    expect(traceIdOf(sampled)).toBe(traceId)
  })

  it.each([
    undefined,
    "",
    "00",
    sampled.toUpperCase(),
    `01-${traceId}-${spanId}-01`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `${sampled}-x`,
    `${sampled}\r\nX: y`,
    `${sampled}\n`
  ])("that is malformed is dropped: %j", (text) => {
    expect(parseTraceparent(text)).toBeUndefined()
  })
})

describe("the span in force", () => {
  it.effect("is named by the current traceparent, and is nothing outside of spans", () =>
    Effect.gen(function* () {
      expect(yield* currentTraceparent).toBeUndefined()
      const [inside, span] = yield* Effect.all([currentTraceparent, Effect.orDie(Effect.currentSpan)]).pipe(
        Effect.withSpan("work")
      )
      expect(inside).toBe(formatTraceparent(span))
    })
  )

  it.effect("continues the remote one", () =>
    Effect.gen(function* () {
      const span = yield* Effect.orDie(Effect.currentSpan).pipe(Effect.withSpan("work"), withRemoteParent(sampled))
      expect(span.traceId).toBe(traceId)
      expect(span.parent).toMatchObject({ value: { spanId } })
    })
  )

  it.effect("begins a new trace without one, whatever fiber runs it", () =>
    Effect.gen(function* () {
      const [outer, inner] = yield* Effect.all([
        Effect.orDie(Effect.currentSpan),
        Effect.orDie(Effect.currentSpan).pipe(withSpanFrom(undefined, "work"))
      ]).pipe(Effect.withSpan("fiber that lives for days"))
      expect(inner.traceId).not.toBe(outer.traceId)
      const continued = yield* Effect.orDie(Effect.currentSpan).pipe(
        withSpanFrom(sampled, "work"),
        Effect.withSpan("fiber that lives for days")
      )
      expect(continued.traceId).toBe(traceId)
    })
  )

  it.effect("is none below what was cut off", () =>
    Effect.gen(function* () {
      const seen = yield* currentTraceparent.pipe(Effect.withParentSpan(noSpan), Effect.withSpan("whoever started it"))
      expect(seen).toBeUndefined()
    })
  )

  it.effect("stays the caller's own while tracing is off", () =>
    Effect.gen(function* () {
      const seen = yield* currentTraceparent.pipe(
        Effect.withSpan("inner"),
        Effect.withSpan("outer"),
        withRemoteParent(sampled),
        Effect.provideService(References.TracerEnabled, false)
      )
      expect(seen).toBe(sampled)
      const none = yield* currentTraceparent.pipe(
        Effect.withSpan("outer"),
        Effect.provideService(References.TracerEnabled, false)
      )
      expect(none).toBeUndefined()
    })
  )

  it.effect("is not sampled when its parent is not", () =>
    Effect.gen(function* () {
      const span = yield* Effect.orDie(Effect.currentSpan).pipe(withSpanFrom(`00-${traceId}-${spanId}-00`, "work"))
      expect(span.sampled).toBe(false)
    })
  )
})
