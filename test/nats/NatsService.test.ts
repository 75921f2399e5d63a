/** The door on NATS under bad input, bad callers, load, and the end of its node. */

import { describe, expect, it } from "@effect/vitest"
import { Svcm } from "@nats-io/services"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Schedule, Scope } from "effect"
import { endpoints } from "../../protocol/service/Endpoints.ts"
import { ownNats } from "../support/Servers.ts"
import { keys, Script } from "./MemoryApp.ts"
import type { RawAnswer, RawNatsClient } from "./RawNatsClient.ts"
import { link, rawClient, rig, startService } from "./support.ts"

const authorised = { Authorization: `Bearer ${keys.default}` }
const submitSubject = "datamcp.v1.default.tasks.submit"
const task = { type: "test.work" }

const request = (client: RawNatsClient, subject: string, body: unknown, headers: Record<string, string> = authorised) =>
  Effect.promise(() => client.request(subject, body, headers))

const until = (condition: () => boolean) =>
  Effect.repeat(Effect.sync(condition), {
    until: (met) => met,
    schedule: Schedule.spaced("10 millis"),
    times: 500
  }).pipe(Effect.flatMap((met) => (met ? Effect.void : Effect.die(new Error("the condition was not met in 5 s")))))

const codeOf = (answer: RawAnswer) => answer.headers["nats-service-error-code"]

describe("who asks", () => {
  it.live.each([
    ["without a key", {}, 401],
    ["with a key that nobody has", { Authorization: "Bearer dma_nobody" }, 401],
    ["with a key in another scheme", { Authorization: `Basic ${keys.default}` }, 401],
    ["with a key too long to be one", { Authorization: `Bearer ${"x".repeat(600)}` }, 401],
    ["while keys cannot be checked", { Authorization: `Bearer ${keys.down}` }, 503],
    ["of another namespace", { Authorization: `Bearer ${keys.other}` }, 403]
  ] as const)("%s is refused", ([, headers, status]) =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const answer = yield* request(client, submitSubject, task, headers)
      expect(codeOf(answer)).toBe(String(status))
      expect(answer.json).toMatchObject({ status, instance: submitSubject, request_id: expect.any(String) })
      expect(answer.headers["retry-after"]).toBe(status === 503 ? "2" : undefined)
      expect(script.submitted).toEqual([])
    })
  )

  it.live("may write the header's name as they like", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const answer = yield* request(client, submitSubject, task, { authorization: `bearer ${keys.default}` })
      expect(answer.json).toMatchObject({ status: "queued" })
    })
  )

  it.live("is told nothing of another namespace: what is there and what is not look the same", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const { json } = yield* request(client, submitSubject, task)
      const theirs = { Authorization: `Bearer ${keys.other}` }
      const existing = yield* request(client, "datamcp.v1.other.tasks.get", { id: json.id }, theirs)
      const missing = yield* request(client, "datamcp.v1.other.tasks.get", { id: json.id.replace(/.$/u, "f") }, theirs)
      expect([existing.json.status, missing.json.status]).toEqual([404, 404])
      expect(Object.keys(existing.json)).toEqual(Object.keys(missing.json))
    })
  )

  it.live.each(["*", ">", "a.b", "default%", "$SYS", "dèfault"])("in the namespace %j reaches nothing", (namespace) =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const answer = yield* request(client, `datamcp.v1.${namespace}.tasks.submit`, task)
      expect(["403", "404"]).toContain(codeOf(answer))
      expect(script.submitted).toEqual([])
    })
  )
})

describe("what is asked", () => {
  it.live.each([
    ["no JSON", "{", 400],
    ["no UTF-8", new Uint8Array([0x22, 0xff, 0x22]), 400],
    ["no object", "[]", 422],
    ["null", "null", 422],
    ["an unknown field", { ...task, state: "completed" }, 422],
    ["a wrong type", { type: 7 }, 422],
    ["a payload nested too deeply", `{"type":"test.work","payload":${"[".repeat(40)}${"]".repeat(40)}}`, 422],
    ["a NUL", String.raw`{"type":"test.work","payload":"\u0000"}`, 422],
    ["a polluting key", `{"type":"test.work","payload":{"__proto__":{"x":1}}}`, 422]
  ] as const)("with %s is refused", ([, body, status]) =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const answer = yield* request(client, submitSubject, body)
      expect(answer.json).toMatchObject({ status, type: expect.stringMatching(/^urn:datamcp:problem:/u) })
      expect(codeOf(answer)).toBe(String(status))
      expect(answer.headers["nats-service-error"]).toMatch(/^[\x20-\x7e]+$/u)
      expect(script.submitted).toEqual([])
    })
  )

  it.live("of 1,000 kinds of garbage is always answered, and never with 500", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const pieces = [
        "{",
        "}",
        "[",
        "]",
        '"',
        ":",
        ",",
        "type",
        "test.work",
        "null",
        "1e9",
        "\u0000",
        "é",
        "\\u0000",
        "{}"
      ]
      const garbage = Array.from({ length: 1_000 }, (_, seed) =>
        Array.from({ length: seed % 12 }, (_, place) => pieces[(seed * 7 + place * place * 13) % pieces.length]).join(
          ""
        )
      )
      const names = Object.keys(endpoints)
      const answers = yield* Effect.forEach(
        garbage,
        (body, index) => request(client, `datamcp.v1.default.${names[index % names.length]}`, body),
        { concurrency: 50 }
      )
      expect(answers.filter((answer) => codeOf(answer) === "500")).toEqual([])
      expect(client.errors).toEqual([])
    })
  )

  it.live.each(["tasks.explode", "tasks.submit.more", "people.list", "tasks"])(
    "of a subject without an endpoint is answered with 404: %s",
    (rest) =>
      Effect.gen(function* () {
        const { client } = yield* rig()
        const answer = yield* request(client, `datamcp.v1.default.${rest}`, {})
        expect(answer.json).toMatchObject({ status: 404, detail: expect.stringContaining("tasks.submit") })
      })
  )

  it.live("with headers that cannot be read is refused", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const answer = yield* request(client, submitSubject, task, { ...authorised, "bad name": "x" })
      expect(answer.json).toMatchObject({ status: 400, detail: "The headers cannot be read." })
      expect((yield* request(client, submitSubject, task)).json).toMatchObject({ status: "queued" })
    })
  )

  it.live("goes to nobody while no node is up, and the server says so at once", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const client = yield* rawClient(nats.natsUrl)
      expect((yield* request(client, submitSubject, task)).status).toBe("503")
    })
  )
})

describe("where answers go", () => {
  it.live.each([
    ["no reply subject", undefined],
    ["JetStream's interface", "$JS.API.STREAM.DELETE.TASKS"],
    ["dispatch", "task.default.01900000-0000-7000-8000-000000000001.normal"],
    ["a notice", "notice.wake"],
    ["the service itself", "datamcp.v1.default.tasks.cancel"]
  ])("a request that names %s is not worked on", ([, reply]) =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const misled: Array<string> = []
      if (reply !== undefined) client.subscribe(reply, ({ subject }) => misled.push(subject))
      client.publish(submitSubject, JSON.stringify(task), { headers: authorised, ...(reply ? { reply } : {}) })
      client.publish("$SRV.PING", "", reply === undefined ? {} : { reply })
      // Handled in order: once this is answered, so are the others.
      yield* request(client, "datamcp.v1.default.tasks.list", {})
      yield* Effect.promise(() => client.flush())
      expect(script.submitted).toEqual([])
      expect(misled).toEqual([])
    })
  )
})

describe("headers", () => {
  it.live("an idempotency key gets into the command, and into each item of a batch", () =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const keyed = { ...authorised, "Idempotency-Key": "order-7" }
      yield* request(client, submitSubject, task, keyed)
      yield* request(client, "datamcp.v1.default.tasks.batch", [task, { ...task, idempotency_key: "own" }], keyed)
      expect(script.submitted.map((command) => command.idempotency_key)).toEqual(["order-7", "order-7/0", "own"])
      const differing = yield* request(client, submitSubject, { ...task, idempotency_key: "order-8" }, keyed)
      expect(differing.json).toMatchObject({ status: 422, errors: [{ field: "idempotency_key" }] })
      const long = yield* request(client, submitSubject, task, { ...authorised, "Idempotency-Key": "x".repeat(256) })
      expect(long.json).toMatchObject({ status: 422, errors: [{ field: "Idempotency-Key" }] })
    })
  )

  it.live("a trace is continued and a request id comes back", () =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
      const traced = { ...authorised, traceparent: `00-${traceId}-00f067aa0ba902b7-01`, "X-Request-ID": "r-1" }
      const good = yield* request(client, submitSubject, task, traced)
      const bad = yield* request(client, submitSubject, "{", traced)
      const odd = yield* request(client, submitSubject, "{", { ...authorised, "X-Request-ID": "r 1" })
      expect(script.traces).toEqual([traceId])
      expect(good.headers["x-request-id"]).toBe("r-1")
      expect(bad.headers["x-request-id"]).toBe("r-1")
      expect(bad.json.request_id).toBe("r-1")
      expect(odd.headers["x-request-id"]).toBeUndefined()
      expect(odd.json.request_id).not.toContain(" ")
    })
  )
})

describe("a defect", () => {
  it.live("is answered without a word of it, and stands in the log under the request's id", () =>
    Effect.gen(function* () {
      const { client, logs } = yield* rig()
      const answer = yield* request(
        client,
        submitSubject,
        { type: "broken.work" },
        { ...authorised, "X-Request-ID": "r-9" }
      )
      expect(answer.json).toMatchObject({ status: 500, type: "urn:datamcp:problem:internal-error", request_id: "r-9" })
      expect(JSON.stringify(answer.json)).not.toContain("hush")
      expect(JSON.stringify(logs)).toContain("hush: a defect")
      expect((yield* request(client, submitSubject, task)).json).toMatchObject({ status: "queued" })
    })
  )
})

describe("load", () => {
  it.live("beyond the bound is refused at once, and what was admitted is not touched", () =>
    Effect.gen(function* () {
      const { client, script } = yield* rig({ requestsMax: 3 })
      const slow = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(request(client, submitSubject, { type: "slow.work" }), { startImmediately: true })
      )
      yield* until(() => script.submitted.length === 3)
      const refused = yield* request(client, submitSubject, task)
      expect(refused.json).toMatchObject({ status: 429, retry_after_seconds: 1 })
      expect(refused.headers["retry-after"]).toBe("1")
      yield* Deferred.succeed(script.gate, undefined)
      for (const fiber of slow) expect((yield* Fiber.join(fiber)).json).toMatchObject({ status: "queued" })
      expect((yield* request(client, submitSubject, task)).json).toMatchObject({ status: "queued" })
    })
  )

  it.live("is bounded in bytes too: few large requests count like many small ones", () =>
    Effect.gen(function* () {
      const { client, script } = yield* rig({ bytesMax: 100_000 })
      const large = { type: "slow.work", payload: "x".repeat(60_000) }
      const slow = yield* Effect.forkChild(request(client, submitSubject, large), { startImmediately: true })
      yield* until(() => script.submitted.length === 1)
      expect((yield* request(client, submitSubject, large)).json).toMatchObject({ status: 429 })
      expect((yield* request(client, submitSubject, task)).json).toMatchObject({ status: "queued" })
      yield* Deferred.succeed(script.gate, undefined)
      expect((yield* Fiber.join(slow)).json).toMatchObject({ status: "queued" })
      expect((yield* request(client, submitSubject, large)).json).toMatchObject({ status: "queued" })
    })
  )

  it.live("of waits has a bound of its own, and leaves room for other requests", () =>
    Effect.gen(function* () {
      const { client, script } = yield* rig({ requestsMax: 1, heldMax: 1 })
      const { json } = yield* request(client, submitSubject, task)
      const wait = (timeout_ms: number) => request(client, "datamcp.v1.default.tasks.wait", { id: json.id, timeout_ms })
      const held = yield* Effect.forkChild(wait(30_000), { startImmediately: true })
      const refused = yield* Effect.repeat(wait(0), { until: (answer) => codeOf(answer) === "429", times: 100 })
      expect(codeOf(refused)).toBe("429")
      expect((yield* request(client, submitSubject, task)).json).toMatchObject({ status: "queued" })
      yield* script.end(json.id)
      expect((yield* Fiber.join(held)).json).toMatchObject({ status: "completed" })
    })
  )

  it.live("of answers beyond what the server carries ends in a problem that says so", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const large = { ...task, payload: "é".repeat(100_000) }
      for (let index = 0; index < 6; index++) yield* request(client, submitSubject, large)
      const answer = yield* request(client, "datamcp.v1.default.tasks.list", {})
      expect(answer.json).toMatchObject({ status: 413, field: "limit" })
      expect((yield* request(client, "datamcp.v1.default.tasks.list", { limit: 2 })).json.data).toHaveLength(2)
    })
  )
})

describe("several nodes", () => {
  it.live("share requests, and each answers for itself when they are looked for", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const nodes = yield* Effect.forEach(["node-1", "node-2"], (node) => startService(nats.natsUrl, { node }))
      const client = yield* rawClient(nats.natsUrl)
      yield* Effect.forEach(Array.from({ length: 200 }), () => request(client, submitSubject, task), {
        concurrency: 20
      })
      const shares = nodes.map((services) => Context.get(services, Script).submitted.length)
      expect(shares.reduce((sum, share) => sum + share, 0)).toBe(200)
      expect(Math.min(...shares)).toBeGreaterThan(20)
      const pings = yield* Effect.promise(() => client.requestMany("$SRV.PING", 2))
      expect(new Set(pings.map(({ metadata }) => metadata.node))).toEqual(new Set(["node-1", "node-2"]))
    })
  )
})

describe("the end of a node", () => {
  const stoppable = Effect.fnUntraced(function* (drain: "5 seconds" | "100 millis") {
    const nats = yield* ownNats()
    const scope = yield* Scope.make()
    const services = yield* Scope.provide(startService(nats.natsUrl, { drain }), scope)
    const client = yield* rawClient(nats.natsUrl)
    return { client, script: Context.get(services, Script), stop: Scope.close(scope, Exit.void) }
  })

  it.live("lets requests in flight end, answers waits at once, and takes nothing new", () =>
    Effect.gen(function* () {
      const { client, script, stop } = yield* stoppable("5 seconds")
      const { json } = yield* request(client, submitSubject, task)
      const slow = yield* Effect.forkChild(request(client, submitSubject, { type: "slow.work" }), {
        startImmediately: true
      })
      const wait = yield* Effect.forkChild(request(client, "datamcp.v1.default.tasks.wait", { id: json.id }), {
        startImmediately: true
      })
      yield* until(() => script.submitted.length === 2)
      yield* request(client, "datamcp.v1.default.tasks.list", {})
      const stopped = yield* Effect.forkChild(stop, { startImmediately: true })
      expect((yield* Fiber.join(wait)).json).toMatchObject({ id: json.id, status: "queued" })
      const later = request(client, submitSubject, task)
      yield* Effect.repeat(later, { until: ({ status }) => status === "503", times: 100 })
      yield* Deferred.succeed(script.gate, undefined)
      expect((yield* Fiber.join(slow)).json).toMatchObject({ status: "queued" })
      yield* Fiber.join(stopped)
      expect(script.interrupted).toEqual([])
    })
  )

  it.live("interrupts what does not end in time, and still answers it", () =>
    Effect.gen(function* () {
      const { client, script, stop } = yield* stoppable("100 millis")
      const slow = yield* Effect.forkChild(request(client, submitSubject, { type: "slow.work" }), {
        startImmediately: true
      })
      yield* until(() => script.submitted.length === 1)
      yield* stop
      const answer = yield* Fiber.join(slow)
      expect(answer.json).toMatchObject({ status: 503, detail: "This node is stopping; ask again." })
      expect(answer.headers["retry-after"]).toBe("1")
      expect(script.interrupted).toEqual(["submit"])
    })
  )
})

describe("a nats-server that was killed", () => {
  it.live("does not keep a node from ending", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const scope = yield* Scope.make()
      yield* Scope.provide(startService(nats.natsUrl), scope)
      yield* nats.kill9
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      expect(Duration.toMillis(took)).toBeLessThan(4_000)
    })
  )

  it.live("finds the service again when it is back", () =>
    Effect.gen(function* () {
      const { nats, client } = yield* rig()
      yield* request(client, submitSubject, task)
      yield* nats.restart
      const again = yield* rawClient(nats.natsUrl)
      const answer = yield* Effect.repeat(request(again, submitSubject, task), {
        until: ({ status }) => status === undefined,
        schedule: Schedule.spaced("20 millis"),
        times: 250
      })
      expect(answer.json).toMatchObject({ status: "queued" })
    })
  )
})

describe("NATS tools", () => {
  it.live("find the service, its endpoints and its figures as they find any other", () =>
    Effect.gen(function* () {
      const { nats, client } = yield* rig()
      yield* request(client, submitSubject, task)
      const tools = new Svcm(yield* link(nats.natsUrl)).client({ strategy: "count", maxMessages: 1, maxWait: 5_000 })
      const collect = <A>(ask: () => Promise<AsyncIterable<A>>) =>
        Effect.promise(async () => Array.fromAsync(await ask()))
      expect(yield* collect(() => tools.ping("datamcp"))).toMatchObject([{ name: "datamcp", version: "1.2.3" }])
      const [info] = yield* collect(() => tools.info("datamcp"))
      expect(info?.endpoints).toHaveLength(Object.keys(endpoints).length)
      const [stats] = yield* collect(() => tools.stats("datamcp"))
      expect(stats?.endpoints?.[0]).toMatchObject({ name: "tasks-submit", num_requests: 1, num_errors: 0 })
    })
  )
})
