/** The HTTP door of a whole node: real use cases, real Postgres, real JetStream, through `datamcp serve`. */
import { request } from "node:http"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { type Asked, askPort, until } from "./support/TestServer.ts"

const clientOf = (url: string, key: string) => {
  const port = Number(new URL(url).port)
  const ask = (asked: Asked) => askPort(port, { key, ...asked })
  const send = (method: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
    ask({
      ...{ method, path: `/api/v1${path}`, body: JSON.stringify(body) },
      headers: { "content-type": "application/json", ...headers }
    })
  const get = (path: string, asked: Partial<Asked> = {}) => ask({ path: `/api/v1${path}`, ...asked })
  return { port, ask, get, send }
}

/** Reads a stream of events until it ends. */
const follow = (port: number, key: string, id: string, after: number) => {
  const read = { text: "", ended: false }
  request({
    ...{ host: "127.0.0.1", port, path: `/api/v1/tasks/${id}/events`, agent: false },
    headers: { authorization: `Bearer ${key}`, accept: "text/event-stream", "last-event-id": String(after) }
  })
    .on("response", (response) => {
      response.on("data", (chunk: Buffer) => {
        read.text += chunk.toString()
      })
      response.on("close", () => {
        read.ended = true
      })
    })
    .end()
  return read
}

const numbers = (text: string) => [...text.matchAll(/^id: (\d+)$/gmu)].map(([, number]) => Number(number))

describe("a whole node over HTTP", () => {
  it.live(
    "carries tasks to their end and shows them live, keeps tenants apart, and stops in order",
    () =>
      Effect.gen(function* () {
        const platform = yield* servePlatform()
        yield* Effect.promise(() => tour(platform.url, platform.key))
        yield* Effect.promise(() => tenants(platform.url, platform.key))
        yield* Effect.promise(() => poison(platform.url, platform.key))

        const client = clientOf(platform.url, platform.key)
        const sleeping = yield* Effect.promise(() =>
          client.send("POST", "/tasks", { agent: "echo", payload: { sleep_ms: 600_000 } })
        )
        const stream = follow(client.port, platform.key, sleeping.json.id, 0)
        const waiting = client.get(`/tasks/${sleeping.json.id}?wait=60s`)
        yield* Effect.promise(() => until(() => stream.text.includes("TaskStarted")))
        const stopped = yield* platform.stop
        expect(stopped).toMatchObject({ code: 0 })
        expect(stopped.millis).toBeLessThan(10_000)
        const waited = yield* Effect.promise(() => waiting)
        expect([waited.status, waited.json.status]).toEqual([200, "running"])
        yield* Effect.promise(() => until(() => stream.ended))
        expect(platform.logs()).not.toContain(platform.key.slice(21))
      }),
    120_000
  )
})

/** Tasks, events, batches, graphs, agents, artifacts: what a user does first. */
const tour = async (url: string, key: string) => {
  const { get, port, send } = clientOf(url, key)
  const accepted = await send("POST", "/tasks", { agent: "echo", payload: { n: "ü🙂" } }, { "idempotency-key": "one" })
  expect(accepted.status).toBe(202)
  const again = await send("POST", "/tasks", { agent: "echo", payload: { n: "ü🙂" } }, { "idempotency-key": "one" })
  expect(again.json).toMatchObject({ id: accepted.json.id, duplicate: true })
  const other = await send("POST", "/tasks", { agent: "echo", payload: 2 }, { "idempotency-key": "one" })
  expect(other.json).toMatchObject({ status: 422, type: "urn:datamcp:problem:idempotency-mismatch" })
  const done = await get(`/tasks/${accepted.json.id}?wait=20s`)
  expect(done.json).toMatchObject({ status: "completed", result: { data: { echo: { n: "ü🙂" } } } })

  const slow = await send("POST", "/tasks", { agent: "echo", payload: { sleep_ms: 400, steps: 4 } })
  const stream = follow(port, key, slow.json.id, 0)
  await until(() => stream.ended)
  const all = numbers(stream.text)
  expect(all).toEqual(all.map((_, index) => index + 1))
  expect(stream.text).toContain("event: TaskCompleted")
  const resumed = follow(port, key, slow.json.id, 2)
  await until(() => resumed.ended)
  expect(numbers(resumed.text)).toEqual(all.slice(2))
  const page = await get(`/tasks/${slow.json.id}/events?after=1&limit=1`)
  expect(page.json).toMatchObject({ data: [{ number: 2 }], next_after: 2 })

  const batch = await send("POST", "/tasks/batch", [{ agent: "echo" }, { agent: "nobody" }, { agent: "echo" }])
  expect(batch.status).toBe(207)
  expect(batch.json.data.map(({ status }: { status: number }) => status)).toEqual([202, 422, 202])
  const atomic = await send("POST", "/tasks/batch?atomic=true", [{ agent: "echo" }, { agent: "nobody" }])
  expect(atomic.status).toBe(422)
  expect(atomic.json.errors.map(({ field }: { field: string }) => field)).toEqual(["1.agent"])

  const idle = { ...{ type: "nobody.can", payload: 1 }, unique: { key: "held" } }
  const holder = await send("POST", "/tasks", idle)
  const refused = await send("POST", "/tasks", idle, { "idempotency-key": "fresh" })
  expect([refused.status, refused.headers["content-type"]]).toEqual([409, "application/problem+json"])
  expect(refused.json).toMatchObject({ type: "urn:datamcp:problem:unique-key-held", task_id: holder.json.id })
  const existing = await send("POST", "/tasks", { ...idle, unique: { key: "held", on_conflict: "existing" } })
  expect([existing.headers.location, existing.json.duplicate]).toEqual([holder.headers.location, true])
  const lines = [1, 2, 3].map((n) => ({
    agent: "echo",
    payload: n,
    coalesce: { key: "rows", keep: "all", max_wait_ms: 300 }
  }))
  const joined = await send("POST", "/tasks/batch", lines)
  expect(joined.json.data.map(({ task }: { task: object }) => task)).toMatchObject([
    { status: "pending" },
    { coalesced: true },
    { coalesced: true }
  ])
  const gathered = await get(`/tasks/${joined.json.data[0].task.id}?wait=20s`)
  expect(gathered.json).toMatchObject({ status: "completed", result: { data: { echo: [1, 2, 3] } } })
  const unlike = await send("POST", "/tasks/batch?atomic=true", [{ agent: "echo" }, idle])
  expect(unlike.json.errors).toMatchObject([{ field: "1.unique" }])

  const graph = await send("POST", "/graphs", {
    tasks: {
      first: { agent: "echo", payload: { rows: 7 } },
      second: { agent: "echo", payload: { of: { $result: "first", path: "/echo/rows" } }, dependencies: ["first"] }
    }
  })
  expect(graph.headers.location).toBe(`/api/v1/graphs/${graph.json.id}`)
  const second = await get(`/tasks/${graph.json.tasks.second}?wait=20s`)
  expect(second.json).toMatchObject({ status: "completed", result: { data: { echo: { of: 7 } } } })
  const whole = await get(`/tasks/${graph.json.tasks.second}/graph`)
  expect(whole.json).toMatchObject({ id: graph.json.id, ended: true })

  const agent = await send("POST", "/agents", { name: "mine", type: "echo" })
  expect([agent.status, agent.headers.etag]).toEqual([201, `"${agent.json.version}"`])
  const put = (ifMatch: string) => send("PUT", "/agents/mine", { description: "d" }, { "if-match": ifMatch })
  expect((await put('"99"')).json).toMatchObject({ status: 409, current_version: agent.json.version })
  expect((await put(agent.headers.etag ?? "")).json.description).toBe("d")

  const payload = { text: "x".repeat(3_000_000) }
  const heavy = await send("POST", "/tasks", { agent: "echo", payload })
  expect(heavy.status).toBe(202)
  const heavyDone = await get(`/tasks/${heavy.json.id}?wait=20s`)
  expect(heavyDone.json).toMatchObject({ status: "completed", payload: { size_bytes: 3_000_011 } })
  const content = await get(`/artifacts/${heavyDone.json.result.data.$artifact}/content`)
  expect(content.json).toEqual({ echo: payload })
  const otherwise = await send("POST", "/tasks", { agent: "echo", metadata: payload })
  expect(otherwise.json).toMatchObject({ status: 413, limit: 1_048_576 })

  const rolled = await send("PUT", "/agents/mine", { configuration: { timeout_ms: 5 }, rollout: { percent: 20 } })
  expect(rolled.json.rollout).toEqual({ percent: 20, version: 3, base_version: 2 })
  const half = await send("POST", "/agents/mine/rollout", { percent: 50 }, { "if-match": rolled.headers.etag ?? "" })
  expect([half.status, half.headers.etag, half.json.rollout.percent]).toEqual([200, '"4"', 50])
  const tooMuch = await send("POST", "/agents/mine/rollout", { percent: 101 })
  expect(tooMuch.json).toMatchObject({ status: 422, errors: [{ field: "percent" }] })
  const back = await send("POST", "/agents/mine/rollback", { version: 1 })
  expect(back.json).toMatchObject({ version: 5, configuration: {} })
  const versions = await get("/agents/mine/versions")
  expect(versions.json.data).toMatchObject([{ version: 5, restores: 1, share_percent: 100 }, {}, {}, { version: 1 }])
  expect((await get("/agents/mine/versions/4")).json.definition.configuration).toEqual({ timeout_ms: 5 })
  expect((await get("/agents/mine/versions/6")).json.type).toBe("urn:datamcp:problem:agent-version-not-found")
  expect((await get("/agents/mine/versions/x")).status).toBe(422)

  const stored = await clientOf(url, key).ask({
    ...{ method: "POST", path: "/api/v1/artifacts?name=a.csv", body: "a,b\n1,2\n" },
    headers: { "content-type": "text/csv" }
  })
  expect((await get(`/artifacts/${stored.json.id}/content`)).text).toBe("a,b\n1,2\n")
}

/** Another namespace's key sees nothing of this one's, and is refused within 5 s of its end. */
const tenants = async (url: string, key: string) => {
  const { get, send } = clientOf(url, key)
  const task = await send("POST", "/tasks", { agent: "echo" })
  const made = await send("POST", "/api-keys", { name: "other", role: "admin", namespace: "other" })
  expect(made.status).toBe(201)
  const other = { key: made.json.key }
  expect((await get("/me", other)).json).toMatchObject({ namespace: "other", role: "admin" })
  for (const path of [`/tasks/${task.json.id}`, `/tasks/${task.json.id}/events`, "/agents/echo"]) {
    expect((await get(path, other)).status).toBe(404)
  }
  const list = await get("/tasks", other)
  expect(list.json.data).toEqual([])
  const escalated = await clientOf(url, made.json.key).send("POST", "/api-keys", {
    name: "x",
    role: "admin",
    namespace: "default"
  })
  expect(escalated.status).toBe(403)
  const own = await clientOf(url, made.json.key).send("DELETE", `/api-keys/${made.json.id}`, undefined)
  expect(own.status).toBe(204)
  const revokedAt = performance.now()
  while ((await get("/me", other)).status !== 401) expect(performance.now() - revokedAt).toBeLessThan(5_500)
}

/** What could upset Postgres is refused before it gets there, and nothing errs. */
const poison = async (url: string, key: string) => {
  const { ask, get, send } = clientOf(url, key)
  const headers = { "content-type": "application/json" }
  for (const text of [
    "\u0000",
    "\ud800",
    "\ufffe",
    "\u202e",
    "'; drop table tasks; --",
    "%_\\",
    "a\u0301".repeat(90)
  ]) {
    for (const field of ["name", "description", "type", "agent"]) {
      const body = `{"agent":"echo",${JSON.stringify(field)}:${JSON.stringify(text)}}`
      const answer = await ask({ method: "POST", path: "/api/v1/tasks", headers, body })
      expect([text, field, answer.status < 500]).toEqual([text, field, true])
    }
    for (const place of ["labels", "metadata"]) {
      const answer = await send("POST", "/tasks", { agent: "echo", [place]: { [text]: text } })
      expect([text, place, answer.status < 500]).toEqual([text, place, true])
    }
    const encoded = encodeURIComponent(text.toWellFormed())
    for (const query of [`label=a=${encoded}`, `cursor=${encoded}`, `type=${encoded}`, `agent=${encoded}`]) {
      for (const path of ["/tasks", "/agents", "/api-keys"]) {
        const answer = await get(`${path}?${query}`)
        expect([path, query, answer.status < 500]).toEqual([path, query, true])
      }
    }
  }
  const raw = String.raw`{"agent":"echo","payload":{"a":"\u0000","b":"\ud800"}}`
  expect((await ask({ method: "POST", path: "/api/v1/tasks", headers, body: raw })).status).toBe(422)
}
