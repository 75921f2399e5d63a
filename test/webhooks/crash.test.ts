/** Webhooks across a power cut: the node is killed with deliveries in its hands, and every event comes through. */
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"
import { startPlatform } from "../../examples/demo/OwnPlatform.ts"
import { askPort } from "../http/support/TestServer.ts"
import { ownFolder } from "../support/Servers.ts"
import { eventually, receiver } from "./Receiver.ts"

/** A platform that may tell the loopback, and how to ask it. */
const rig = Effect.gen(function* () {
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
  return { endpoint, platform, send }
})

const hasEnded = (pid: number) =>
  Effect.sync(() => {
    try {
      return !process.kill(pid, 0)
    } catch {
      return true
    }
  })

describe("a node that is killed", () => {
  it.live(
    "leaves no event untold: those in flight are sent again under their ids, the others for the first time",
    () =>
      Effect.gen(function* () {
        const { endpoint, platform, send } = yield* rig
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

describe("a node that is stopped in order", () => {
  it.live(
    "does not wait for endpoints, and gives back what it was sending: it is sent at once by the next",
    () =>
      Effect.gen(function* () {
        const { endpoint, platform, send } = yield* rig
        yield* send("POST", "/webhooks", {
          name: "ends",
          url: endpoint.url("/ends"),
          filter: { events: ["TaskCompleted"] }
        })
        endpoint.answer("/ends", (count) => ({ delayMillis: count === 1 ? 9_000 : 0 }))
        yield* send("POST", "/tasks", { type: "echo" })
        yield* Effect.promise(() => eventually("the first attempt", () => endpoint.at("/ends").length === 1))
        const begun = performance.now()
        const pid = yield* platform.pid
        yield* Effect.sync(() => process.kill(pid, "SIGTERM"))
        yield* Effect.repeat(hasEnded(pid), { until: (ended) => ended, schedule: Schedule.spaced("50 millis") })
        expect(performance.now() - begun).toBeLessThan(8_000)
        yield* platform.startAgain
        const restarted = performance.now()
        yield* Effect.promise(() => eventually("the second attempt", () => endpoint.at("/ends").length === 2))
        expect(performance.now() - restarted).toBeLessThan(5_000)
        const [first, second] = endpoint.at("/ends")
        expect(second?.headers["webhook-id"]).toBe(first?.headers["webhook-id"])
      }).pipe(Effect.provide(FetchHttpClient.layer)),
    120_000
  )
})
