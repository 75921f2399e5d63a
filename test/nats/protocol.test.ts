/** What docs/nats-protocol.md says, tried by a client that knows nothing else. */
import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { endpoints } from "../../protocol/service/Endpoints.ts"
import { keys } from "./MemoryApp.ts"
import { rig } from "./support.ts"

const authorised = { Authorization: `Bearer ${keys.default}` }

describe("a client on a bare socket", () => {
  it.live("submits a task and finds it again", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const submitted = yield* Effect.promise(() =>
        client.request("datamcp.v1.default.tasks.submit", { type: "test.work", payload: { n: 1 } }, authorised)
      )
      expect(submitted.headers["nats-service-error-code"]).toBeUndefined()
      expect(submitted.json).toMatchObject({ namespace: "default", type: "test.work", status: "queued" })
      const { id } = submitted.json
      const found = yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.get", { id }, authorised))
      expect(found.json).toMatchObject({ id, payload: { n: 1 } })
      const listed = yield* Effect.promise(() =>
        client.request("datamcp.v1.default.tasks.list", { limit: 1 }, authorised)
      )
      expect(listed.json).toMatchObject({ data: [{ id }], next_cursor: null })
      const events = yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.events", { id }, authorised))
      expect(events.json).toMatchObject({ data: [{ number: 1 }, { number: 2 }], next_after: null })
    })
  )

  it.live("submits a batch, and each task has its outcome", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const batch = [{ type: "test.work" }, "no task", { type: "test.work" }]
      for (const body of [batch, { tasks: batch }]) {
        const { json } = yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.batch", body, authorised))
        expect(json).toMatchObject({
          accepted: 2,
          refused: 1,
          data: [
            { index: 0, status: 202 },
            { index: 1, status: 422 },
            { index: 2, status: 202 }
          ]
        })
      }
    })
  )

  it.live("makes a schedule, asks when it runs, runs it with a key, and deletes it", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const ask = (verb: string, body: object, more: Record<string, string> = {}) =>
        Effect.promise(() => client.request(`datamcp.v1.default.schedules.${verb}`, body, { ...authorised, ...more }))
      const made = yield* ask("create", { name: "s", cron: "@daily", task: { type: "test.work" } })
      expect(made.json).toMatchObject({ name: "s", namespace: "default", version: 1 })
      expect((yield* ask("get", { schedule: made.json.id })).json).toEqual(made.json)
      const changed = yield* ask("update", { schedule: "s", description: "d", if_version: 1 })
      expect(changed.json).toMatchObject({ description: "d", version: 2 })
      const stale = yield* ask("update", { schedule: "s", description: "e", if_version: 1 })
      expect(stale.headers["nats-service-error-code"]).toBe("409")
      expect((yield* ask("pause", { schedule: "s" })).json).toMatchObject({ status: "paused" })
      expect((yield* ask("resume", { schedule: "s" })).json).toMatchObject({ status: "active" })
      const run = yield* ask("run", { schedule: "s" }, { "Idempotency-Key": "k1" })
      expect(run.json).toMatchObject({ task: { name: "k1", type: "test.work" } })
      expect((yield* ask("next", { schedule: "s", count: 2 })).json.data).toHaveLength(2)
      expect((yield* ask("preview", { every_ms: 1000, count: 3 })).json.data).toHaveLength(3)
      expect((yield* ask("runs", { schedule: "s" })).json).toEqual({ data: [], next_cursor: null })
      expect((yield* ask("list", {})).json.data).toHaveLength(1)
      const wrong = yield* ask("create", { name: "w", cron: "61 * * * *", task: { type: "test.work" } })
      expect(wrong.json).toMatchObject({ status: 422, errors: [{ field: "cron" }] })
      expect((yield* ask("delete", { schedule: "s" })).json).toMatchObject({ name: "s" })
      expect((yield* ask("get", { schedule: "s" })).json).toMatchObject({
        type: "urn:datamcp:problem:schedule-not-found"
      })
    })
  )

  it.live("waits for a task's end, or for its patience's", () =>
    Effect.gen(function* () {
      const { client, script } = yield* rig()
      const { json } = yield* Effect.promise(() =>
        client.request("datamcp.v1.default.tasks.submit", { type: "test.work" }, authorised)
      )
      const short = yield* Effect.promise(() =>
        client.request("datamcp.v1.default.tasks.wait", { id: json.id, timeout_ms: 10 }, authorised)
      )
      expect(short.json).toMatchObject({ status: "queued" })
      const long = yield* Effect.forkChild(
        Effect.promise(() => client.request("datamcp.v1.default.tasks.wait", { id: json.id }, authorised)),
        { startImmediately: true }
      )
      yield* script.end(json.id)
      expect((yield* Fiber.join(long)).json).toMatchObject({ id: json.id, status: "completed" })
    })
  )

  it.live("cancels a task, and is told when it has ended already", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const { json } = yield* Effect.promise(() =>
        client.request("datamcp.v1.default.tasks.submit", { type: "test.work" }, authorised)
      )
      const cancel = () =>
        client.request("datamcp.v1.default.tasks.cancel", { id: json.id, reason: "not needed" }, authorised)
      expect((yield* Effect.promise(cancel)).json).toMatchObject({ status: "cancelled" })
      const again = yield* Effect.promise(cancel)
      expect(again.headers["nats-service-error-code"]).toBe("409")
      expect(again.headers["nats-service-error"]).toBe("In conflict with the present state")
      expect(again.json).toMatchObject({
        type: "urn:datamcp:problem:conflict",
        status: 409,
        reason: "state",
        instance: "datamcp.v1.default.tasks.cancel"
      })
    })
  )

  it.live("defines, changes and removes an agent", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const ask = (verb: string, body: unknown) =>
        Effect.promise(() => client.request(`datamcp.v1.default.agents.${verb}`, body, authorised))
      expect((yield* ask("create", { name: "echo-1", type: "echo" })).json).toMatchObject({
        name: "echo-1",
        version: 1
      })
      const update = { agent: "echo-1", if_version: 1, description: "changed" }
      expect((yield* ask("update", update)).json).toMatchObject({ description: "changed", version: 2 })
      expect((yield* ask("update", update)).json).toMatchObject({ status: 409, current_version: 2 })
      expect((yield* ask("scale", { agent: "echo-1", desired_instances: 3 })).json).toMatchObject({
        desired_instances: 3
      })
      expect((yield* ask("pause", { agent: "echo-1" })).json).toMatchObject({ status: "maintenance" })
      expect((yield* ask("resume", { agent: "echo-1" })).json).toMatchObject({ status: "active" })
      expect((yield* ask("metrics", { agent: "echo-1" })).json).toMatchObject({ completed: 0 })
      expect((yield* ask("list", {})).json.data).toHaveLength(1)
      expect((yield* ask("delete", { agent: "echo-1" })).json).toMatchObject({
        draining: true,
        status_reason: "drains"
      })
      expect((yield* ask("get", { agent: "nobody" })).json).toMatchObject({ status: 404, agent: "nobody" })
    })
  )

  it.live("may say nothing where nothing is needed", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const { json } = yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.list", "", authorised))
      expect(json).toEqual({ data: [], next_cursor: null })
    })
  )
})

describe("discovery", () => {
  it.live("answers everybody, those who ask for the name, and those who ask for the node", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const [ping] = yield* Effect.promise(() => client.requestMany("$SRV.PING"))
      expect(ping).toEqual({
        type: "io.nats.micro.v1.ping_response",
        name: "datamcp",
        id: expect.stringMatching(/^[A-Za-z0-9]{22}$/u),
        version: "1.2.3",
        metadata: { node: "node-1" }
      })
      expect(yield* Effect.promise(() => client.requestMany("$SRV.PING.datamcp"))).toEqual([ping])
      expect(yield* Effect.promise(() => client.requestMany(`$SRV.PING.datamcp.${ping.id}`))).toEqual([ping])
    })
  )

  it.live("lists exactly the endpoints of the contract", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      const [info] = yield* Effect.promise(() => client.requestMany("$SRV.INFO.datamcp"))
      expect(info).toMatchObject({ type: "io.nats.micro.v1.info_response", name: "datamcp" })
      expect(info.endpoints.map(({ subject }: { subject: string }) => subject)).toEqual(
        Object.keys(endpoints).map((name) => `datamcp.v1.*.${name}`)
      )
      const document = JSON.parse(readFileSync(new URL("../../docs/asyncapi.json", import.meta.url), "utf8"))
      const described = Object.values<{ address: string | null }>(document.channels).flatMap(
        ({ address }) => address ?? []
      )
      expect(info.endpoints.map(({ subject }: { subject: string }) => subject.replace("*", "{namespace}"))).toEqual(
        described
      )
      expect(info.endpoints[0]).toEqual({
        name: "tasks-submit",
        subject: "datamcp.v1.*.tasks.submit",
        queue_group: "datamcp"
      })
    })
  )

  it.live("counts requests, errors and time of each endpoint", () =>
    Effect.gen(function* () {
      const { client } = yield* rig()
      yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.list", {}, authorised))
      yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.list", {}))
      const [stats] = yield* Effect.promise(() => client.requestMany("$SRV.STATS.datamcp"))
      expect(stats).toMatchObject({ type: "io.nats.micro.v1.stats_response", started: expect.stringContaining("T") })
      const list = stats.endpoints.find(({ name }: { name: string }) => name === "tasks-list")
      expect(list).toMatchObject({ num_requests: 2, num_errors: 1, last_error: "401:A valid API key is required" })
      expect(list.processing_time).toBeGreaterThan(0)
      expect(list.average_processing_time).toBe(Math.round(list.processing_time / 2))
    })
  )
})
