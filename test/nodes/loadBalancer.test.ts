/** Two nodes behind a plain load balancer: it does not matter which one answers, and one may stop while requests come in. */
import { request } from "node:http"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schedule } from "effect"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { loadBalancer } from "../support/LoadBalancer.ts"
import { asker, eventually, rows } from "./Platform.ts"

/** Reads a stream of server-sent events through the balancer until it ends or is cut. */
const follow = (url: string, key: string, path: string, after: number) => {
  const seen = { text: "", by: "", ended: false, cut: () => {} }
  const sent = request(new URL(`/api/v1${path}`, url), {
    agent: false,
    headers: {
      authorization: `Bearer ${key}`,
      accept: "text/event-stream",
      ...(after > 0 && { "last-event-id": String(after) })
    }
  })
  sent.on("response", (response) => {
    seen.by = String(response.headers["x-served-by"])
    response.on("data", (chunk: Buffer) => {
      seen.text += chunk.toString()
    })
    response.on("error", () => {})
    response.on("close", () => {
      seen.ended = true
    })
  })
  sent.on("error", () => {
    seen.ended = true
  })
  sent.end()
  seen.cut = () => sent.destroy()
  return seen
}

const numbers = (text: string) => [...text.matchAll(/^id: (\d+)$/gmu)].map(([, number]) => Number(number))
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

describe("two nodes behind a load balancer", () => {
  it.live(
    "carry on each other's tasks, events and streams, and one that is told to stop fails no request and no attempt",
    () =>
      Effect.gen(function* () {
        const one = yield* servePlatform({ DATAMCP_NODE_NAME: "one", DATAMCP_DRAIN_NOTICE: "1s" })
        const other = yield* servePlatform({ DATAMCP_NODE_NAME: "other" }, one)
        const balancer = yield* loadBalancer([one.url, other.url])
        const through = { url: balancer.url, key: one.key }
        const ask = asker(through)
        yield* eventually("both are ready", Effect.sync(balancer.ready), (ready) => ready.length === 2)

        // What one has taken, the other knows at once.
        const tasks = yield* Effect.forEach(upTo(6), (n) => ask("POST", "/tasks", { agent: "echo", payload: n }))
        for (const task of tasks) {
          const found = yield* ask("GET", `/tasks/${task.json.id}?wait=10s`)
          const again = yield* ask("GET", `/tasks/${task.json.id}`)
          expect([found.json.status, again.json.status]).toEqual(["completed", "completed"])
          expect(found.headers["x-served-by"]).not.toBe(again.headers["x-served-by"])
        }

        // Streams begin on one and go on where they stood on the other.
        const resumed = Effect.fnUntraced(function* (path: string, least: number) {
          const first = follow(balancer.url, one.key, path, 0)
          yield* eventually(
            "the stream begins",
            Effect.sync(() => numbers(first.text).length),
            (n) => n >= least
          )
          first.cut()
          const last = numbers(first.text).at(-1) ?? 0
          let second = follow(balancer.url, one.key, path, last)
          yield* eventually(
            "it goes on",
            Effect.sync(() => second.by),
            (by) => by !== ""
          )
          if (second.by === first.by) {
            second.cut()
            second = follow(balancer.url, one.key, path, last)
          }
          yield* eventually(
            "the stream ends",
            Effect.sync(() => second.ended),
            Boolean
          )
          expect(second.by).not.toBe(first.by)
          return [...numbers(first.text).filter((n) => n <= last), ...numbers(second.text)]
        })
        const slow = yield* ask("POST", "/tasks", { agent: "echo", payload: { sleep_ms: 2_500, steps: 10 } })
        const events = yield* resumed(`/tasks/${slow.json.id}/events`, 3)
        const { version } = (yield* ask("GET", `/tasks/${slow.json.id}`)).json
        expect(events).toEqual(upTo(version))
        const talk = { agent: "echo", payload: { emit: { chunks: 20, pause_ms: 100 } } }
        const talker = yield* ask("POST", "/tasks", talk)
        expect((yield* resumed(`/tasks/${talker.json.id}/stream`, 4)).slice(0, 20)).toEqual(upTo(20))

        // An agent with two instances has one on each node.
        yield* ask("POST", "/agents", {
          name: "wide",
          type: "echo",
          desired_instances: 2,
          configuration: { max_concurrent_tasks: 20 }
        })
        const submitted: Array<number> = []
        const load = yield* Effect.forEach(
          upTo(4),
          () =>
            ask("POST", "/tasks", { agent: "wide", labels: { load: "yes" }, payload: { sleep_ms: 200 } }).pipe(
              Effect.tap(({ status }) => Effect.sync(() => submitted.push(status))),
              Effect.flatMap(({ json }) => ask("GET", `/tasks/${json.id}`)),
              Effect.tap(({ status }) => Effect.sync(() => expect(status).toBe(200))),
              Effect.repeat(Schedule.spaced("10 millis"))
            ),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.forkScoped)
        const leases = rows<{ node: string }>(
          one,
          "select i.node from agent_instances i join agents a on a.id = i.agent_id where a.name = 'wide' order by 1"
        )
        yield* eventually("one instance each", leases, (held) => held.map(({ node }) => node).join() === "one,other")

        const before = submitted.length
        const stopped = yield* one.stop
        expect(stopped).toMatchObject({ code: 0 })
        expect(submitted.length).toBeGreaterThan(before + 10)
        yield* eventually("the other has both", leases, (held) => held.every(({ node }) => node === "other"))
        yield* Effect.sleep("500 millis")
        yield* Fiber.interrupt(load)
        expect([balancer.failures(), submitted.filter((status) => status !== 202)]).toEqual([[], []])
        const counts = yield* eventually(
          "all have ended",
          rows<{ all: number; completed: number; attempts: number }>(
            other,
            `select count(*)::int as all, count(*) filter (where status = 'completed')::int as completed, max(attempt) as attempts
             from tasks where labels @> '{"load": "yes"}'`
          ),
          ([found]) => found !== undefined && found.all === found.completed
        )
        expect(counts[0]?.all).toBeGreaterThanOrEqual(submitted.length)
        expect(counts[0]?.attempts).toBe(1)
        expect((yield* ask("GET", "/nodes/one")).json).toMatchObject({ state: "gone", drain: false, instances: 0 })
      }),
    90_000
  )
})
