/** Logs are lines that a machine can read, that no input can forge, and that hold no secret. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Redacted, References, Schema } from "effect"
import { withRemoteParent } from "../../protocol/TraceContext.ts"
import { layer } from "../../src/observability/Logs.ts"
import { RequestTrace } from "../../src/observability/RequestTrace.ts"

type Line = Record<string, unknown> & { readonly message: string }

/** Everything that `effect` logs, as it would stand on stderr. */
const written = <E>(effect: Effect.Effect<unknown, E>, format: "json" | "pretty" = "json") =>
  Effect.suspend(() => {
    const texts: Array<string> = []
    const logs = layer({ level: "Info", format, fields: { node: "node-1" }, write: (text) => texts.push(text) })
    return effect.pipe(Effect.provide(logs), Effect.as(texts))
  })

const lines = <E>(effect: Effect.Effect<unknown, E>) =>
  Effect.map(written(effect), (texts) => texts.map((text): Line => JSON.parse(text)))

const key = "dma_0123456789abcdef_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC0x"
const trace = "4bf92f3577b34da6a3ce929d0e0e4736"

describe("a line of JSON", () => {
  it.effect("holds time, level, message, the node and the annotations", () =>
    Effect.gen(function* () {
      const [line] = yield* lines(
        Effect.logWarning("retry", 3).pipe(Effect.annotateLogs({ task: "t-1", agent: "a-1" }))
      )
      expect(line).toMatchObject({
        level: "warn",
        message: "retry 3",
        node: "node-1",
        task: "t-1",
        agent: "a-1"
      })
      expect(line?.["time"]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/u)
    })
  )

  it.effect("carries the trace id of the span in force, with tracing on or off", () =>
    Effect.gen(function* () {
      for (const enabled of [true, false]) {
        const [inside] = yield* lines(
          Effect.logInfo("x").pipe(
            Effect.withSpan("work"),
            withRemoteParent(`00-${trace}-00f067aa0ba902b7-01`),
            Effect.provideService(References.TracerEnabled, enabled)
          )
        )
        expect(inside).toMatchObject({ trace })
      }
      const [outside] = yield* lines(Effect.logInfo("x"))
      expect(outside).not.toHaveProperty("trace")
    })
  )

  it.effect("carries the ids of the request that the fiber works for", () =>
    Effect.gen(function* () {
      const request = { requestId: "r-1", traceparent: `00-${trace}-00f067aa0ba902b7-01` }
      const [line] = yield* lines(Effect.logInfo("x").pipe(Effect.provideService(RequestTrace, request)))
      expect(line).toMatchObject({ request: "r-1", trace })
    })
  )

  it.effect("keeps values that follow the message as data, and a cause with its stack", () =>
    Effect.gen(function* () {
      const [line] = yield* lines(Effect.logError("failed", { attempt: 2 }, Cause.fail(new Error("no route"))))
      expect(line).toMatchObject({ message: "failed", data: { attempt: 2 } })
      expect(line?.["cause"]).toContain("no route")
    })
  )

  it.effect("is not written below the level", () =>
    Effect.gen(function* () {
      expect(yield* lines(Effect.logDebug("x"))).toEqual([])
    })
  )

  it.effect("keeps its own fields whatever the annotations are called", () =>
    Effect.gen(function* () {
      const [line] = yield* lines(
        Effect.logInfo("real").pipe(Effect.annotateLogs({ message: "forged", level: "fatal" }))
      )
      expect(line).toMatchObject({ message: "real", level: "info" })
    })
  )
})

const hostile = 'x\r\n{"level":"fatal"}\u001b[2J\u009b31m\u2028\u007f\u0000'

describe("hostile text", () => {
  it.effect("stays within its line of JSON", () =>
    Effect.gen(function* () {
      const texts = yield* written(
        Effect.logInfo(hostile, { [hostile]: hostile }, Cause.fail(hostile)).pipe(
          Effect.annotateLogs({ task: hostile, [hostile]: 1 })
        )
      )
      expect(texts).toHaveLength(1)
      // oxlint-disable-next-line no-control-regex
      expect(texts[0]?.replace(/\n$/u, "")).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/u)
      expect(JSON.parse(texts[0] ?? "")).toMatchObject({ task: hostile })
    })
  )

  it.effect("writes nothing but characters on a person's terminal", () =>
    Effect.gen(function* () {
      const [text = ""] = yield* written(
        Effect.logInfo(hostile, { [hostile]: hostile }).pipe(Effect.annotateLogs({ task: hostile, [hostile]: 1 })),
        "pretty"
      )
      // oxlint-disable-next-line no-control-regex
      expect(text.replace(/\n$/u, "").replace(/\u001b\[\d[\d;]*m/gu, "")).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/u)
    })
  )
})

describe("secrets", () => {
  class Refused extends Schema.TaggedError<Refused>()("Refused", { url: Schema.String }) {}

  it.effect.each(["json", "pretty"] as const)("appear nowhere: %s", (format) =>
    Effect.gen(function* () {
      const texts = yield* written(
        Effect.logError(
          `key ${key}`,
          { secret: Redacted.make("hush"), nested: [{ deep: Redacted.make("hush"), header: `Bearer ${key}` }] },
          Cause.fail(new Refused({ url: "postgres://datamcp:hush@db/x" }))
        ).pipe(
          Effect.annotateLogs({ key, header: "Authorization: Bearer aHVzaGh1c2g=", secret: Redacted.make("hush") }),
          Effect.andThen(Effect.logError(Redacted.make("hush")))
        ),
        format
      )
      const all = texts.join("")
      expect(all).not.toContain("hush")
      expect(all).not.toContain(key.slice(21))
      expect(all).not.toContain("aHVzaGh1c2g")
      expect(all).toContain("dma_0123456789abcdef_<redacted>")
    })
  )
})

describe("a line's size", () => {
  it.effect("is bounded whatever is logged", () =>
    Effect.gen(function* () {
      const huge = "y".repeat(1_000_000)
      const cyclic: { self?: unknown; big: bigint } = { big: 12n }
      cyclic.self = cyclic
      const texts = yield* written(
        Effect.logInfo(huge, { rows: Array.from({ length: 100_000 }, (_, row) => row) }, Cause.fail(huge)).pipe(
          Effect.annotateLogs({ huge, cyclic })
        )
      )
      expect(texts[0]?.length).toBeLessThan(60_000)
      expect(JSON.parse(texts[0] ?? "")).toMatchObject({ cyclic: { big: "12n" } })
    })
  )
})
