/** Webhooks across a power cut: the node is killed with deliveries in its hands, and every event comes through. */
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { startPlatform } from "../../examples/demo/OwnPlatform.ts"
import { askPort } from "../http/support/TestServer.ts"
import { ownFolder } from "../support/Servers.ts"
import { eventually, receiver } from "./Receiver.ts"

describe("a node that is killed", () => {
  it.live(
    "leaves no event untold: those in flight are sent again under their ids, the others for the first time",
    () =>
      Effect.gen(function* () {
        process.env["DATAMCP_WEBHOOKS_ALLOW_PRIVATE"] = "127.0.0.1"
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            delete process.env["DATAMCP_WEBHOOKS_ALLOW_PRIVATE"]
          })
        )
        const endpoint = yield* receiver
        const platform = yield* startPlatform(join(ownFolder("webhooks-"), ".datamcp"))
        const port = Number(new URL(platform.url).port)
        const send = (method: string, path: string, body: unknown) =>
          Effect.promise(() =>
            askPort(port, {
              ...{ key: Redacted.value(platform.key), method, path: `/api/v1${path}`, body: JSON.stringify(body) },
              headers: { "content-type": "application/json" }
            })
          )
        const made = yield* send("POST", "/webhooks", {
          name: "ends",
          url: endpoint.url("/ends"),
          filter: { events: ["TaskCompleted"] },
          concurrency: 2
        })
        expect(made.status).toBe(201)

        // Slow enough that most are still waiting, and two in flight, when the lights go out.
        endpoint.answer("/ends", () => ({ delayMillis: 400 }))
        const batch = yield* send(
          "POST",
          "/tasks/batch",
          Array.from({ length: 20 }, () => ({ type: "echo" }))
        )
        const ids: ReadonlyArray<string> = batch.json.data.map(({ task }: { task: { id: string } }) => task.id)
        const told = () => new Set(endpoint.at("/ends").map(({ json }) => json.data.event.aggregate as string))
        yield* Effect.promise(() => eventually("the first", () => told().size >= 3))
        yield* platform.kill
        const before = endpoint.at("/ends").length
        expect(told().size).toBeLessThan(20)
        endpoint.answer("/ends", () => ({}))
        yield* platform.startAgain

        // Those that the killed node held are sent again when its claims have run out, after 15 s.
        const end = performance.now() + 60_000
        while (told().size < 20 && performance.now() < end) yield* Effect.sleep("100 millis")
        expect(told()).toEqual(new Set(ids))
        const byEvent = new Map<string, Set<string>>()
        for (const { headers, json } of endpoint.at("/ends")) {
          const aggregate: string = json.data.event.aggregate
          byEvent.set(aggregate, (byEvent.get(aggregate) ?? new Set()).add(String(headers["webhook-id"])))
        }
        expect([...byEvent.values()].filter(({ size }) => size !== 1)).toEqual([])
        expect(endpoint.at("/ends").length - before).toBeLessThanOrEqual(20)
      }).pipe(Effect.provide(FetchHttpClient.layer)),
    150_000
  )
})
