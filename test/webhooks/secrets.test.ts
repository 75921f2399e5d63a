/** What a hook's URL tells is in no trace, log or answer of the node. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { askPort } from "../http/support/TestServer.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { collector } from "../observability/Collector.ts"

describe("a secret in the URL of a hook", () => {
  it.live(
    "is written down nowhere, whether it is right or not",
    () =>
      Effect.gen(function* () {
        const stub = yield* collector
        const platform = yield* servePlatform({ OTEL_EXPORTER_OTLP_ENDPOINT: stub.endpoint, LOG_LEVEL: "debug" })
        const ask = (path: string, body: unknown, key: string | null) =>
          Effect.promise(() =>
            askPort(Number(new URL(platform.url).port), {
              ...{ method: "POST", path, key, body: JSON.stringify(body) },
              headers: { "content-type": "application/json" }
            })
          )
        const task = { agent: "echo", payload: { $body: "/x" } }
        const hook = yield* ask("/api/v1/hooks", { name: "h", authentication: "secret", task }, platform.key)
        const secret: string = hook.json.secret
        expect((yield* ask(hook.json.path, { x: 1 }, null)).status).toBe(202)
        const refused = yield* ask(hook.json.path, {}, null)
        expect([refused.status, refused.json.instance]).toEqual([422, `/api/v1/hooks/${hook.json.id}/...`])
        const wrong = yield* ask(`/api/v1/hooks/${secret}/${secret}x`, {}, null)
        expect([wrong.status, wrong.text.includes(`${secret}x`)]).toEqual([404, false])
        yield* platform.stop
        const spans = JSON.stringify(stub.requests)
        expect(spans).toContain("Hooks.call")
        expect(spans).not.toContain(hook.json.path)
        expect(platform.logs()).toContain("/api/v1/hooks/:id/:secret")
        expect(platform.logs()).not.toContain(secret)
      }),
    60_000
  )
})
