/** Spans leave the process only when an endpoint is configured, and then one request gives one linked trace. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Option, Redacted, References, Tracer } from "effect"
import { currentTraceparent, withSpanFrom } from "../../protocol/TraceContext.ts"
import { layer, sampled } from "../../src/observability/Tracing.ts"
import { collector, spansOf } from "./Collector.ts"

const options = { serviceName: "datamcp", serviceVersion: "0", nodeName: "node-1", sampleRatio: 1 }

/** A request at a door, whose traceparent travels with the order to an instance. */
const submission = Effect.gen(function* () {
  const order = yield* currentTraceparent.pipe(
    Effect.withSpan("Tasks.submit"),
    withSpanFrom(undefined, "POST /api/v1/tasks", { kind: "server" })
  )
  yield* Effect.void.pipe(Effect.withSpan("Ledger.settle"), withSpanFrom(order, "task.run", { kind: "consumer" }))
})

describe("with an endpoint", () => {
  it.live("one submission gives one linked trace, sent at the latest when the node stops", () =>
    Effect.gen(function* () {
      const stub = yield* collector
      const headers = Redacted.make({ "api-key": "hush" })
      yield* submission.pipe(Effect.provide(layer({ ...options, endpoint: `${stub.endpoint}/`, headers })))
      const spans = spansOf(stub)
      const byName = new Map(spans.map((span) => [span.name, span]))
      expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1)
      const parentOf = (name: string) => spans.find(({ spanId }) => spanId === byName.get(name)?.parentSpanId)?.name
      expect(parentOf("POST /api/v1/tasks")).toBeUndefined()
      expect(parentOf("Tasks.submit")).toBe("POST /api/v1/tasks")
      expect(parentOf("task.run")).toBe("Tasks.submit")
      expect(parentOf("Ledger.settle")).toBe("task.run")
      expect(stub.requests[0]?.headers["api-key"]).toBe("hush")
      expect(JSON.stringify(stub.requests[0]?.body)).toContain("node-1")
    })
  )

  it.live("metrics are sent too", () =>
    Effect.gen(function* () {
      const stub = yield* collector
      yield* Effect.void.pipe(Effect.provide(layer({ ...options, endpoint: stub.endpoint })))
      expect(stub.requests.map(({ path }) => path)).toContain("/v1/metrics")
    })
  )

  it.live("what a loop does by itself is not recorded", () =>
    Effect.gen(function* () {
      const stub = yield* collector
      yield* Effect.void.pipe(
        Effect.withSpan("sql.execute", { kind: "client" }),
        Effect.withSpan("Reconciler.sweep"),
        Effect.provide(layer({ ...options, endpoint: stub.endpoint }))
      )
      expect(spansOf(stub)).toEqual([])
    })
  )

  it.live("nothing hangs below the span of whoever started the node", () =>
    Effect.gen(function* () {
      const stub = yield* collector
      yield* submission.pipe(
        Effect.andThen(Effect.void.pipe(Effect.withSpan("Reconciler.sweep"))),
        Effect.provide(layer({ ...options, endpoint: stub.endpoint })),
        Effect.withSpan("datamcp up")
      )
      expect(spansOf(stub).map(({ name }) => name)).not.toContain("Reconciler.sweep")
      expect(spansOf(stub)).toHaveLength(4)
      const seen = yield* currentTraceparent.pipe(
        Effect.provide(layer({ ...options, endpoint: undefined })),
        Effect.withSpan("datamcp up")
      )
      expect(seen).toBeUndefined()
    })
  )

  it.live("a collector that is gone fails nothing, and delays the end by its bound at most", () =>
    Effect.gen(function* () {
      const { endpoint } = yield* Effect.scoped(collector)
      const [took] = yield* Effect.timed(submission.pipe(Effect.provide(layer({ ...options, endpoint }))))
      expect(Duration.toMillis(took)).toBeLessThan(3_000)
    })
  )
})

describe("without an endpoint", () => {
  it.live("nothing is recorded: spans are placeholders", () =>
    Effect.gen(function* () {
      const enabled = yield* Effect.service(References.TracerEnabled)
      const inside = yield* Effect.option(Effect.currentParentSpan).pipe(Effect.withSpan("work", { kind: "server" }))
      expect(enabled).toBe(false)
      expect(Option.isSome(inside) && inside.value.sampled).toBe(false)
      expect(yield* currentTraceparent.pipe(Effect.withSpan("work", { kind: "server" }))).toBeUndefined()
    }).pipe(Effect.provide(layer({ ...options, endpoint: undefined })))
  )

  it.live("no exporter runs", () =>
    Effect.gen(function* () {
      const stub = yield* collector
      yield* submission.pipe(Effect.provide(layer({ ...options, endpoint: undefined })))
      expect(stub.requests).toEqual([])
    })
  )
})

describe("the sampler", () => {
  const recorded = (ratio: number, kind: Tracer.SpanKind, parent?: boolean) =>
    Effect.map(
      Effect.replicateEffect(
        Effect.orDie(Effect.currentSpan).pipe(
          Effect.withSpan("root", {
            kind,
            ...(parent === undefined
              ? { root: true }
              : { parent: Tracer.externalSpan({ traceId: "1".repeat(32), spanId: "1".repeat(16), sampled: parent }) })
          }),
          Effect.provideService(Tracer.Tracer, sampled(Tracer.nativeTracer, ratio))
        ),
        2_000
      ),
      (spans) => spans.filter((span) => span.sampled).length
    )

  it.effect("records its share of the traces that begin here", () =>
    Effect.gen(function* () {
      expect(yield* recorded(0, "server")).toBe(0)
      expect(yield* recorded(1, "server")).toBe(2_000)
      // Ten standard deviations around 500.
      expect(Math.abs((yield* recorded(0.25, "server")) - 500)).toBeLessThan(194)
    })
  )

  it.effect("lets a caller's decision stand", () =>
    Effect.gen(function* () {
      expect(yield* recorded(0, "server", true)).toBe(2_000)
      expect(yield* recorded(1, "server", false)).toBe(0)
    })
  )

  it.effect("decides once for a whole trace", () =>
    Effect.gen(function* () {
      const both = Effect.all([Effect.orDie(Effect.currentParentSpan), Effect.orDie(Effect.currentSpan)]).pipe(
        Effect.flatMap(([outer]) =>
          Effect.map(
            Effect.orDie(Effect.currentSpan).pipe(Effect.withSpan("inner")),
            (inner) => [outer, inner] as const
          )
        ),
        Effect.withSpan("outer", { kind: "server", root: true }),
        Effect.provideService(Tracer.Tracer, sampled(Tracer.nativeTracer, 0.5))
      )
      for (const [outer, inner] of yield* Effect.replicateEffect(both, 50)) expect(inner.sampled).toBe(outer.sampled)
    })
  )
})
