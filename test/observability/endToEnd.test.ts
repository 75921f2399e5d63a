/** A whole node with a collector: one submission gives one trace, from the door to the recorded end. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { rawClient } from "../nats/support.ts"
import { collector, type ExportedSpan, spansOf } from "./Collector.ts"

const traceId = (n: number) => String(n).repeat(32)
const traceparent = (n: number) => `00-${traceId(n)}-${String(n).repeat(16)}-01`

/** Names from a span up to the one that has no parent here. */
const pathUp = (spans: ReadonlyArray<ExportedSpan>, from: ExportedSpan): ReadonlyArray<string> => {
  const parent = spans.find(({ spanId }) => spanId === from.parentSpanId)
  return parent === undefined ? [from.name] : [from.name, ...pathUp(spans, parent)]
}

describe("one submission", () => {
  it.live(
    "gives one linked trace, over HTTP as over NATS, without a word of its payload or key",
    () =>
      Effect.gen(function* () {
        const stub = yield* collector
        const platform = yield* servePlatform({
          OTEL_EXPORTER_OTLP_ENDPOINT: stub.endpoint,
          OTEL_SERVICE_NAME: "datamcp-test",
          LOG_LEVEL: "debug"
        })
        const task = { agent: "echo", payload: { canary: "hush-canary" } }
        const overHttp = yield* Effect.promise(() =>
          fetch(`${platform.url}/api/v1/tasks`, {
            method: "POST",
            headers: {
              authorization: `Bearer ${platform.key}`,
              "content-type": "application/json",
              traceparent: traceparent(1)
            },
            body: JSON.stringify(task)
          })
        )
        expect(overHttp.status).toBe(202)
        const client = yield* rawClient(platform.nats.natsUrl)
        const overNats = yield* Effect.promise(() =>
          client.request("datamcp.v1.default.tasks.submit", task, {
            Authorization: `Bearer ${platform.key}`,
            traceparent: traceparent(2)
          })
        )
        expect(overNats.json.status).toBe("queued")

        const accepted = (yield* Effect.promise(() => overHttp.json())) as { readonly id: string }
        for (const id of [accepted.id, overNats.json.id]) {
          const ended = yield* Effect.promise(() =>
            client.request("datamcp.v1.default.tasks.wait", { id }, { Authorization: `Bearer ${platform.key}` })
          )
          expect(ended.json.status).toBe("completed")
        }
        // Spans that are still here are sent before the node ends.
        yield* platform.stop

        for (const [n, door] of [
          [1, "http.server POST"],
          [2, "NATS tasks.submit"]
        ] as const) {
          const spans = spansOf(stub).filter((span) => span.traceId === traceId(n))
          const paths = new Map(spans.map((span) => [span.name, pathUp(spans, span)]))
          expect(paths.get("task.accept")).toEqual(["task.accept", door])
          expect(paths.get("task.dispatch")).toEqual(["task.dispatch", door])
          expect(paths.get("task.settle")).toEqual(["task.settle", "task.attempt", door])
        }
        // Nothing else began a trace: no loop, no poll.
        const roots = spansOf(stub).filter(({ parentSpanId }) => parentSpanId === undefined)
        expect(new Set(roots.map(({ name }) => name))).toEqual(new Set(["NATS tasks.wait"]))
        const everything = JSON.stringify(stub.requests) + platform.logs()
        expect(everything).not.toContain("hush-canary")
        expect(everything).not.toContain(platform.key.slice(21))
      }),
    90_000
  )
})
