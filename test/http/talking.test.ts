/** Signals, pauses and streams through every door of whole nodes: REST, NATS, command line, and the loss of a node. */
import { request } from "node:http"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "../cli/runCli.ts"
import { type ServedPlatform, servePlatform } from "../nats/ServedPlatform.ts"
import { rawClient } from "../nats/support.ts"
import { type Asked, askPort } from "./support/TestServer.ts"

const restOf = ({ key, url }: ServedPlatform) => {
  const port = Number(new URL(url).port)
  const get = (path: string, asked: Partial<Asked> = {}) => askPort(port, { key, path: `/api/v1${path}`, ...asked })
  const post = (path: string, body?: unknown, headers: Record<string, string> = {}) =>
    askPort(port, {
      ...{ key, method: "POST", path: `/api/v1${path}` },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      headers: { "content-type": "application/json", ...headers }
    })
  return { port, get, post }
}

interface Reader {
  text: string
  over: boolean
}

const follow = (port: number, key: string, id: string, after: number): Reader => {
  const reader = { text: "", over: false }
  const sent = request({
    ...{ host: "127.0.0.1", port, path: `/api/v1/tasks/${id}/stream?name=log`, agent: false },
    headers: { authorization: `Bearer ${key}`, accept: "text/event-stream", "last-event-id": String(after) }
  })
  const ends = () => {
    reader.over = true
  }
  sent.on("error", ends)
  sent.on("response", (response) => {
    response.on("data", (bytes: Buffer) => {
      reader.text += bytes.toString()
    })
    response.on("error", ends)
    response.on("close", ends)
  })
  sent.end()
  return reader
}

/** Whole frames only: the last one may have been cut. */
const framesOf = (text: string) =>
  [...text.matchAll(/^id: (\d+)\nevent: chunk\ndata: (.*)\n\n/gmu)].map(([, number, data]) => ({
    number: Number(number),
    chunk: JSON.parse(data ?? "null")
  }))

const numbersOf = (text: string) => framesOf(text).map(({ number }) => number)
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

/** Asks until it is so; a takeover takes its time. */
const until = async (isSo: () => boolean | Promise<boolean>, millis = 60_000) => {
  for (const end = performance.now() + millis; !(await isSo()); ) {
    if (performance.now() > end) throw new Error(`waited ${millis} ms in vain`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const parked = async ({ get }: ReturnType<typeof restOf>, id: string) =>
  until(async () => (await get(`/tasks/${id}`)).json.waiting_for === "signal")

describe("talking to tasks", () => {
  it.live(
    "works over REST, NATS and the command line, and survives SIGKILL of the node that serves a reader",
    () =>
      Effect.gen(function* () {
        const first = yield* servePlatform()
        yield* Effect.promise(() => overRest(first))
        yield* overNats(first)
        yield* overCli(first)
        const second = yield* servePlatform({}, first)
        yield* Effect.promise(() => sharing(first))
        yield* Effect.promise(() => readThrough(first, second))
        const id = yield* Effect.promise(() => begin(first, { await: [{ signal: "go", hold_ms: 0 }] }))
        yield* Effect.promise(() => parked(restOf(first), id))
        const cut = yield* Effect.promise(() => begin(first, { emit: { chunks: 300, pause_ms: 10 } }))
        const reader = follow(restOf(second).port, second.key, cut, 0)
        yield* Effect.promise(() => until(() => numbersOf(reader.text).length > 20))
        yield* second.kill
        yield* Effect.promise(() => until(() => reader.over))
        yield* Effect.promise(() => resumed(first, cut, reader))
        // What waited for a signal all the while goes on.
        const { get, post } = restOf(first)
        expect((yield* Effect.promise(() => post(`/tasks/${id}/signals/go`, 5))).status).toBe(202)
        const done = yield* Effect.promise(() => get(`/tasks/${id}?wait=30s`))
        expect(done.json).toMatchObject({ status: "completed", result: { data: { signals: [5] } } })
      }),
    150_000
  )
})

const begin = async (platform: ServedPlatform, payload: unknown, agent = "echo"): Promise<string> => {
  const { json, status } = await restOf(platform).post("/tasks", { agent, payload })
  expect(status).toBe(202)
  return json.id
}

const overRest = async (platform: ServedPlatform) => {
  const rest = restOf(platform)
  const { get, post } = rest
  const id = await begin(platform, { await: [{ signal: "go", hold_ms: 0 }], emit: { chunks: 3 } })
  await parked(rest, id)
  const sent = await post(`/tasks/${id}/signals/go`, { yes: true }, { "idempotency-key": "s1" })
  expect([sent.status, sent.json]).toMatchObject([202, { number: 1, name: "go", duplicate: false, status: "queued" }])
  const again = await post(`/tasks/${id}/signals/go`, { yes: true }, { "idempotency-key": "s1" })
  expect(again.json).toMatchObject({ number: 1, duplicate: true })
  const other = await post(`/tasks/${id}/signals/go`, { yes: false }, { "idempotency-key": "s1" })
  expect(other.json).toMatchObject({ status: 422, type: "urn:datamcp:problem:idempotency-mismatch" })
  expect((await get(`/tasks/${id}?wait=20s`)).json.result.data.signals).toEqual([{ yes: true }])
  expect((await get(`/tasks/${id}/signals`)).json).toMatchObject({ awaiting: [], data: [{ taken: true }] })
  expect((await get(`/tasks/${id}/stream?limit=2`)).json).toMatchObject({ next_after: 2, ended: false })
  expect((await get(`/tasks/${id}/stream?after=2&wait=5s`)).json).toMatchObject({ next_after: 3, ended: true })
  expect((await get(`/tasks/${id}/streams`)).json).toMatchObject({ data: [{ name: "log", chunks: 3 }] })
  const reader = follow(rest.port, platform.key, id, 1)
  await until(() => reader.over)
  expect(numbersOf(reader.text)).toEqual([2, 3])
  expect(reader.text).toContain("event: end")

  // Bad input names the field and stores nothing.
  const refused = [
    await post(`/tasks/${id}/signals/go`, 1),
    await post(`/tasks/${id}/signals/no.dots`, 1),
    await post(`/tasks/${id}/signals/go`, "{"),
    await post(`/tasks/${id}/pause`, { why: 1 }),
    await get(`/tasks/${id}/stream?after=-1`),
    await get(`/tasks/${id}/stream?name=a.b`),
    await get(`/tasks?awaits=a.b`),
    await get(`/tasks/01900000-0000-7000-8000-999999999999/stream`),
    await post(`/tasks/01900000-0000-7000-8000-999999999999/signals/go`, 1)
  ]
  expect(refused.map(({ status }) => status)).toEqual([409, 422, 400, 422, 422, 422, 422, 404, 404])

  const gate = await begin(platform, { message: "ship it?", roles: ["admin"] }, "approval")
  await parked(rest, gate)
  const waits = await get("/tasks?status=paused&waiting_for=signal&awaits=approval")
  expect(waits.json.data.map((task: { id: string }) => task.id)).toEqual([gate])
  expect((await post(`/tasks/${gate}/signals/approval`, { decision: "yes" })).json).toMatchObject({
    status: 422,
    errors: [{ field: "decision" }]
  })
  expect((await post(`/tasks/${gate}/signals/approval`, { decision: "approve" })).status).toBe(202)
  expect((await get(`/tasks/${gate}?wait=20s`)).json).toMatchObject({ result: { data: { decision: "approve" } } })

  const aside = await begin(platform, { sleep_ms: 60_000 })
  await until(async () => (await get(`/tasks/${aside}`)).json.status === "running")
  expect((await post(`/tasks/${aside}/pause`)).json).toMatchObject({ status: "paused", waiting_for: null })
  // It may run again before it is answered.
  expect((await post(`/tasks/${aside}/resume`)).json.status).toMatch(/^(queued|running)$/u)
  expect((await post(`/tasks/${aside}/cancel`)).json).toMatchObject({ status: "cancelled" })
}

const overNats = Effect.fnUntraced(function* (platform: ServedPlatform) {
  const client = yield* rawClient(platform.nats.natsUrl)
  const headers = { Authorization: `Bearer ${platform.key}` }
  const ask = (endpoint: string, body: unknown, more: Record<string, string> = {}) =>
    Effect.promise(() => client.request(`datamcp.v1.default.${endpoint}`, body, { ...headers, ...more }))
  const payload = { await: [{ signal: "go", hold_ms: 0 }], sleep_ms: 200, emit: { chunks: 2 } }
  const { json: task } = yield* ask("tasks.submit", { agent: "echo", payload })
  const read = yield* ask("tasks.stream", { id: task.id, timeout_ms: 10_000 })
  expect(read.json.data[0]).toMatchObject({ number: 1, stream: "log", attempt: 1 })
  yield* Effect.promise(() => parked(restOf(platform), task.id))
  expect((yield* ask("tasks.signals", { id: task.id })).json).toMatchObject({ awaiting: [{ name: "go" }] })
  expect((yield* ask("tasks.pause", { id: task.id, reason: "later" })).json).toMatchObject({ waiting_for: null })
  expect((yield* ask("tasks.resume", { id: task.id })).json).toMatchObject({ waiting_for: "signal" })
  expect((yield* ask("tasks.resume", { id: task.id })).json).toMatchObject({ status: 409 })
  const sent = yield* ask("tasks.signal", { id: task.id, name: "go", payload: 1 }, { "Idempotency-Key": "n" })
  expect(sent.json).toMatchObject({ number: 1, status: "queued" })
  expect((yield* ask("tasks.wait", { id: task.id })).json).toMatchObject({ result: { data: { signals: [1] } } })
  expect((yield* ask("tasks.streams", { id: task.id })).json).toMatchObject({ data: [{ chunks: 2 }] })
  expect((yield* ask("tasks.signal", { id: task.id, name: "no dots." })).json).toMatchObject({ status: 422 })
})

const overCli = Effect.fnUntraced(function* (platform: ServedPlatform) {
  const env = { DATAMCP_URL: platform.url, DATAMCP_API_KEY: platform.key }
  const cli = (...args: ReadonlyArray<string>) => runCli(args, { env })
  const json = (...args: ReadonlyArray<string>) =>
    Effect.map(cli(...args, "--json"), (run) => {
      expect({ args, code: run.code, stderr: run.stderr }).toEqual({ args, code: 0, stderr: "" })
      return JSON.parse(run.stdout)
    })
  const payload = { emit: { chunks: 3 }, await: [{ signal: "go", hold_ms: 0 }] }
  const id = yield* Effect.promise(() => begin(platform, payload))
  yield* Effect.promise(() => parked(restOf(platform), id))
  expect(yield* json("tasks", "list", "--waiting-for", "signal", "--awaits", "go")).toMatchObject({ data: [{ id }] })
  expect(yield* json("tasks", "pause", id, "--reason", "lunch")).toMatchObject({ status: "paused" })
  expect(yield* json("tasks", "resume", id)).toMatchObject({ waiting_for: "signal" })
  expect((yield* cli("tasks", "signals", id)).stdout).toContain("waits for go")
  expect(yield* json("tasks", "signal", id, "go", "--payload", '{"n":1}')).toMatchObject({ number: 1 })
  const followed = yield* cli("tasks", "logs", id, "--follow", "--json")
  const chunks = followed.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
  expect(chunks).toMatchObject(upTo(3).map((number) => ({ number, data: { chunk: number } })))
  expect((yield* cli("tasks", "logs", id, "--after", "2")).stdout).toBe('{"chunk":3}\n')
  expect((yield* cli("tasks", "signal", id, "go")).code).toBe(1)
  expect((yield* cli("tasks", "signal", id, "no dots")).code).toBe(2)

  const gate = yield* Effect.promise(() => begin(platform, { message: "really?" }, "approval"))
  yield* Effect.promise(() => parked(restOf(platform), gate))
  expect(yield* json("tasks", "reject", gate, "--comment", "no")).toMatchObject({ name: "approval" })
  const ended = yield* json("tasks", "get", gate, "--wait", "20s")
  expect(ended).toMatchObject({ result: { error: { code: "rejected", details: { comment: "no" } } } })
  expect((yield* cli("tasks", "approve", gate)).code).toBe(1)
})

/** Until the second node has its share: what runs on an instance that moves begins anew. */
const sharing = (platform: ServedPlatform) =>
  until(async () => {
    const { data } = (await restOf(platform).get("/nodes")).json
    return data.length === 2 && data.every(({ shards }: { readonly shards: number }) => shards === 64)
  })

/** A reader on each node sees the same, live, whichever of them runs the task. */
const readThrough = async (first: ServedPlatform, second: ServedPlatform) => {
  const id = await begin(second, { emit: { chunks: 40, pause_ms: 20 } })
  const readers = [first, second].map((node) => follow(restOf(node).port, node.key, id, 0))
  await until(() => readers.every(({ over }) => over))
  for (const { text } of readers) expect(numbersOf(text)).toEqual(upTo(40))
}

/** The other node goes on where the reader was cut; where the task ran on the lost one, a second attempt is told apart. */
const resumed = async (platform: ServedPlatform, id: string, cut: Reader) => {
  const { get, port } = restOf(platform)
  const before = framesOf(cut.text)
  const rest = follow(port, platform.key, id, before.at(-1)?.number ?? 0)
  await until(() => rest.over)
  const frames = [...before, ...framesOf(rest.text)]
  expect(rest.text).toContain("event: end")
  expect(frames.map(({ number }) => number)).toEqual(upTo(frames.length))
  const { attempt } = (await get(`/tasks/${id}`)).json
  const ofLast = frames.filter(({ chunk }) => chunk.attempt === attempt)
  expect(ofLast.map(({ chunk }) => chunk.data.chunk)).toEqual(upTo(300))
}
