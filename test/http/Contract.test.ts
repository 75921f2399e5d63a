/** The contract against the server: the typed client made from it, and the document. */
import { Effect, Layer, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import { HttpApiClient, HttpApiMiddleware } from "effect/http-api"
import { describe, expect, it } from "vitest"
import { Api } from "../../protocol/api/Api.ts"
import { Authentication, PageAuthentication } from "../../protocol/api/Authentication.ts"
import { GraphKey, ScheduleName, TaskId } from "../../protocol/Ids.ts"
import type { SubmitTask } from "../../protocol/Task.ts"
import { keys } from "./support/MemoryApp.ts"
import { routes, unknownId } from "./support/routes.ts"
import { serverOfFile } from "./support/TestServer.ts"

const server = serverOfFile()

const addKey = ({ next, request }: Parameters<HttpApiMiddleware.HttpApiMiddlewareClient<never, never, never>>[0]) =>
  next(HttpClientRequest.bearerToken(request, keys.admin))

const clientKeys = Layer.mergeAll(
  HttpApiMiddleware.layerClient(Authentication, addKey),
  HttpApiMiddleware.layerClient(PageAuthentication, addKey)
)

const withClient = <A, E>(use: (client: HttpApiClient.ForApi<typeof Api>) => Effect.Effect<A, E>) =>
  HttpApiClient.make(Api, {
    transformClient: HttpClient.mapRequest(HttpClientRequest.prependUrl(`http://127.0.0.1:${server().port}`))
  }).pipe(Effect.flatMap(use), Effect.provide([clientKeys, FetchHttpClient.layer]), Effect.runPromise)

const command: SubmitTask = { type: "echo", payload: { a: [1, null, "ü"] }, labels: { team: "x" } }

describe("the typed client", () => {
  it("submits, looks, lists, cancels and retries tasks", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const { id } = yield* client.tasks.submit({ payload: command, headers: { "idempotency-key": "k1" } })
        expect(server().state.submitted.at(-1)).toEqual({ ...command, idempotency_key: "k1" })
        const task = yield* client.tasks.get({ params: { id }, query: {} })
        expect(task).toMatchObject({ id, payload: command.payload, labels: command.labels })
        const listed = yield* client.tasks.list({ query: { limit: 500, status: ["queued"] } })
        expect(listed.data.map((entry) => entry.id)).toContain(id)
        const cancelled = yield* client.tasks.cancel({ params: { id }, query: {}, payload: { reason: "why" } })
        expect(cancelled).toMatchObject({ status: "cancelled", metadata: { reason: "why" } })
        const again = yield* Effect.flip(client.tasks.cancel({ params: { id }, query: {}, payload: {} }))
        expect(again).toMatchObject({ _tag: "Conflict", reason: "state" })
        const retried = yield* client.tasks.retry({ params: { id } })
        expect(retried.id).not.toBe(id)
      })
    ))

  it("counts, finds by several values, acts on many, and sets retention", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const { id } = yield* client.tasks.submit({ payload: command, headers: {} })
        const query = { status: ["failed", "queued"], label: ["a=b"], sort: "created", dead_letter: false } as const
        expect((yield* client.tasks.list({ query })).data.length).toBeGreaterThan(0)
        expect((yield* client.control.counts({ query: { by: "agent" } })).namespace).toBe("default")
        expect((yield* client.control.attempts({ params: { id } })).data).toEqual([])
        expect((yield* client.control.prioritise({ params: { id }, payload: { priority: "low" } })).priority).toBe(
          "low"
        )
        const filter = { status: ["failed"], where: ["payload./a=1"] } as const
        const looked = yield* client.control.act({ payload: { action: "retry", filter, dry_run: true } })
        expect(looked).toMatchObject({ dry_run: true, matched: 0 })
        const begun = yield* client.control.act({ payload: { action: "retry", filter } })
        expect(begun).toMatchObject({ status: "running", filter })
        if ("id" in begun) expect(yield* client.control.operation({ params: { id: begun.id } })).toEqual(begun)
        expect((yield* client.control.deadLetters({ query: { error: "x" } })).next_cursor).toBeNull()
        const dead = yield* Effect.flip(client.control.replay({ params: { id }, payload: { payload: 1 } }))
        expect(dead).toMatchObject({ _tag: "Conflict" })
        const rules = [{ status: ["completed"], type: ["echo"], delete_after_ms: 5 }] as const
        const set = yield* client.retention.set({ payload: { rules }, headers: { "if-match": 0 } })
        expect(set.rules).toEqual(rules)
        expect(yield* client.retention.get()).toEqual(set)
        expect(yield* client.control.remove({ params: { id } })).toEqual({ id, deleted: true })
      })
    ))

  it("submits batches as array and as stream", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const asArray = yield* client.tasks.submitBatch({ payload: [command, command], query: {}, headers: {} })
        expect(asArray).toMatchObject({ accepted: 2, refused: 0 })
        const asStream = yield* client.tasks.submitBatch({
          payload: Stream.make(command, command, command),
          query: { atomic: true },
          headers: {}
        })
        expect(asStream.data.map(({ index, status }) => [index, status])).toEqual([
          [0, 202],
          [1, 202],
          [2, 202]
        ])
      })
    ))

  it("submits graphs", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const key = GraphKey.make("a")
        const graph = yield* client.graphs.submit({ payload: { tasks: { [key]: { type: "echo" } } }, headers: {} })
        expect(Object.keys(graph.tasks)).toEqual(["a"])
      })
    ))

  it("makes, changes, steers, runs and previews schedules", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const payload = { name: ScheduleName.make("s"), cron: "@daily", task: { type: "echo" } }
        const made = yield* client.schedules.create({ payload })
        expect(made).toMatchObject({ name: "s", status: "active", version: 1 })
        const params = { schedule: "s" }
        expect(yield* client.schedules.get({ params })).toEqual(made)
        const stale = yield* Effect.flip(
          client.schedules.update({ params, payload: { description: "x" }, headers: { "if-match": 9 } })
        )
        expect(stale).toMatchObject({ _tag: "Conflict", reason: "version", current_version: 1 })
        expect(yield* client.schedules.pause({ params })).toMatchObject({ status: "paused", next_run_at: null })
        expect(yield* client.schedules.resume({ params })).toMatchObject({ status: "active", version: 3 })
        const run = yield* client.schedules.run({ params, headers: { "idempotency-key": "k" } })
        expect(run.task).toMatchObject({ name: "k", type: "echo" })
        expect((yield* client.schedules.next({ params, query: { count: 3 } })).data).toHaveLength(3)
        const question = { cron: "30 2 * * *", time_zone: "Europe/Berlin", after: "2026-03-28T12:00:00Z", count: 1 }
        expect((yield* client.schedules.preview({ payload: question })).data).toEqual([
          { due: "2026-03-29T01:00:00.000Z", local: "2026-03-29T03:00:00.000+02:00" }
        ])
        expect((yield* client.schedules.runs({ params, query: {} })).data).toEqual([])
        expect((yield* client.schedules.list({ query: {} })).data.map(({ name }) => name)).toContain("s")
        expect(yield* client.schedules.remove({ params })).toMatchObject({ name: "s" })
        expect(yield* Effect.flip(client.schedules.get({ params }))).toMatchObject({ _tag: "ScheduleNotFound" })
      })
    ))

  it("follows events, and reads them by page", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const { id } = yield* client.tasks.submit({ payload: command, headers: {} })
        server().state.end(id)
        const page = yield* client.tasks.events({ params: { id }, query: { after: 1 }, headers: {} })
        expect(Stream.isStream(page) ? [] : page.data.map(({ number }) => number)).toEqual([2, 3])
        const stream = yield* client.tasks.events({
          params: { id },
          query: {},
          headers: { accept: "text/event-stream", "last-event-id": 1 }
        })
        const followed = Stream.isStream(stream) ? yield* Stream.runCollect(stream) : []
        expect(followed.map(({ data, event, id: number }) => [number, event, data.number])).toEqual([
          ["2", "TaskQueued", 2],
          ["3", "TaskCompleted", 3]
        ])
      })
    ))

  it("defines, changes, steers and deletes agents", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const created = yield* client.agents.create({ payload: { name: "typed" as never, type: "echo" } })
        const params = { agent: "typed" }
        const changed = yield* client.agents.update({
          params,
          payload: { description: "d" },
          headers: { "if-match": created.version }
        })
        expect(changed).toMatchObject({ description: "d", version: created.version + 1 })
        const stale = yield* Effect.flip(
          client.agents.update({ params, payload: {}, headers: { "if-match": created.version } })
        )
        expect(stale).toMatchObject({ _tag: "Conflict", reason: "version", current_version: changed.version })
        expect((yield* client.agents.scale({ params, payload: { desired_instances: 3 } })).desired_instances).toBe(3)
        expect((yield* client.agents.pause({ params })).status).toBe("maintenance")
        expect((yield* client.agents.resume({ params })).status).toBe("active")
        yield* client.agents.addCapability({ params, payload: { name: "echo@1" } })
        const without = yield* client.agents.removeCapability({ params: { ...params, name: "echo@1" } })
        expect(without.capabilities).toEqual([])
        expect((yield* client.agents.metrics({ params })).completed).toBe(1)
        expect((yield* client.agents.remove({ params, query: { force: true } })).draining).toBe(true)
        expect((yield* client.agents.list({ query: {} })).data).toHaveLength(1)
        expect((yield* client.agents.get({ params })).id).toBe(created.id)
      })
    ))

  it("stores artifacts and gives their bytes back", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const bytes = new Uint8Array([0, 1, 2, 255])
        const { id } = yield* client.artifacts.upload({
          query: { name: "a.bin", content_type: "application/x-thing" },
          headers: {},
          payload: Stream.make(bytes)
        })
        expect(yield* client.artifacts.info({ params: { id } })).toMatchObject({ name: "a.bin", size_bytes: 4 })
        const content = yield* client.artifacts.content({ params: { id } })
        expect(Buffer.concat(yield* Stream.runCollect(content))).toEqual(Buffer.from(bytes))
      })
    ))

  it("makes and lists keys, and knows the node", () =>
    withClient((client) =>
      Effect.gen(function* () {
        expect((yield* client.apiKeys.create({ payload: { name: "k", role: "viewer" } })).key).toMatch(/^dma_/u)
        const { data } = yield* client.apiKeys.list({ query: {} })
        const [first] = data
        yield* client.apiKeys.revoke({ params: { id: first?.id ?? ("" as never) } })
        expect((yield* client.apiKeys.me()).role).toBe("admin")
        expect((yield* client.system.status()).node).toBe("n1")
        expect(yield* client.system.metrics()).toContain("datamcp_http_requests_total")
        expect((yield* client.health.live()).live).toBe(true)
        expect((yield* client.health.ready()).ready).toBe(true)
        server().state.ready = false
        expect((yield* client.health.ready()).ready).toBe(false)
        expect((yield* Effect.promise(() => server().ask({ path: "/health/ready", key: null }))).status).toBe(503)
        server().state.ready = true
      })
    ))

  it("gets problems as typed failures", () =>
    withClient((client) =>
      Effect.gen(function* () {
        const missing = yield* Effect.flip(client.tasks.get({ params: { id: TaskId.make(unknownId) }, query: {} }))
        expect(missing).toMatchObject({ _tag: "TaskNotFound", task_id: unknownId })
        const refused = yield* Effect.flip(
          client.tasks.submit({ payload: { type: "echo", agent: "nobody" }, headers: {} })
        )
        expect(refused).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "agent" }] })
        server().state.overloaded = true
        const overloaded = yield* Effect.flip(client.tasks.submit({ payload: command, headers: {} }))
        server().state.overloaded = false
        expect(overloaded).toMatchObject({ _tag: "Overloaded", retry_after_seconds: 3 })
        const defect = yield* Effect.flip(client.tasks.submit({ payload: { type: "defect" }, headers: {} }))
        expect(defect).toMatchObject({ _tag: "InternalError" })
      })
    ))
})

describe("the document", () => {
  it("is OpenAPI 3.1 and has every route with a summary and its failures", async () => {
    const { json } = await server().ask({ path: "/openapi.json" })
    expect(json.openapi).toBe("3.1.0")
    for (const { name } of routes) {
      const [method = "", path = ""] = name.split(" ")
      const operation = json.paths[path.replaceAll(/:(?<name>\w+)/gu, "{$<name>}")]?.[method.toLowerCase()]
      expect([name, operation?.summary]).toEqual([name, expect.stringMatching(/^[A-Z].{5,}/u)])
      expect(Object.keys(operation.responses)).toContain("500")
    }
  })

  it("names its components as the contract does, each of which it holds", async () => {
    const { json, text } = await server().ask({ path: "/openapi.json" })
    const referred = [...text.matchAll(/"#\/components\/schemas\/(?<name>[^"]+)"/gu)].map(
      ({ groups }) => groups?.["name"]
    )
    expect(Object.keys(json.components.schemas)).toEqual(expect.arrayContaining([...new Set(referred)]))
    expect(Object.keys(json.components.schemas)).toEqual(
      expect.arrayContaining(["SubmitTask", "Task", "Agent", "Event", "InvalidInput", "Unavailable"])
    )
    expect(text).not.toContain("Encoded")
  })

  it("closes commands and leaves views open", async () => {
    const { json } = await server().ask({ path: "/openapi.json" })
    expect(json.components.schemas.SubmitTask.additionalProperties).toBe(false)
    expect(json.components.schemas.Task.additionalProperties).toBeUndefined()
  })

  it("says what fields are for, beside their schemas", async () => {
    const { json } = await server().ask({ path: "/openapi.json" })
    const { configuration, run_at } = json.components.schemas.SubmitTask.properties
    expect(run_at).toMatchObject({ type: "string", description: "Earliest start." })
    expect(configuration).toEqual({ $ref: "#/components/schemas/TaskConfiguration" })
    expect(json.components.schemas.TaskConfiguration.properties.timeout_ms).toMatchObject({
      type: "integer",
      description: "Longest run of one attempt."
    })
  })

  it("shows the headers that answers carry", async () => {
    const { json } = await server().ask({ path: "/openapi.json" })
    expect(json.paths["/api/v1/tasks"].post.responses["202"].headers).toHaveProperty("location")
    expect(json.paths["/api/v1/agents/{agent}"].get.responses["200"].headers).toHaveProperty("etag")
  })
})
