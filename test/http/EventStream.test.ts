/** A task's events as server-sent events, and as pages of JSON. */

import { type IncomingMessage, request } from "node:http"
import { Duration } from "effect"
import { describe, expect, it } from "vitest"
import { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { keys } from "./support/MemoryApp.ts"
import { unknownId } from "./support/routes.ts"
import { serverOfFile, startServer, type TestServer, until } from "./support/TestServer.ts"

const server = serverOfFile({ limits: { heartbeat: Duration.millis(50) } })

const submit = async (to: TestServer = server()) => {
  const { json } = await to.post("/api/v1/tasks", { type: "echo" })
  return TaskId.make(json.id)
}

interface Reader {
  readonly response: IncomingMessage
  /** All that came so far. */
  readonly text: () => string
  readonly ended: () => boolean
  readonly close: () => void
}

const open = (to: TestServer, id: string, headers: Record<string, string> = {}, key: string = keys.admin) =>
  new Promise<Reader>((resolve, reject) => {
    const sent = request({
      ...{ host: "127.0.0.1", port: to.port, path: `/api/v1/tasks/${id}/events`, agent: false },
      headers: { authorization: `Bearer ${key}`, accept: "text/event-stream", ...headers }
    })
    sent.on("error", reject)
    sent.on("response", (response) => {
      let text = ""
      let ended = false
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString()
      })
      response.on("close", () => {
        ended = true
      })
      response.on("error", () => {})
      resolve({ response, text: () => text, ended: () => ended, close: () => sent.destroy() })
    })
    sent.end()
  })

const numbers = (text: string) => [...text.matchAll(/^id: (\d+)$/gmu)].map(([, number]) => Number(number))

describe("a stream", () => {
  it("gives what was recorded, then what happens, and ends after the task's end", async () => {
    const id = await submit()
    const reader = await open(server(), id)
    expect(reader.response.statusCode).toBe(200)
    expect(reader.response.headers["content-type"]).toBe("text/event-stream")
    expect(reader.response.headers["cache-control"]).toBe("no-store")
    await until(() => numbers(reader.text()).length === 2)
    server().state.record(id, "TaskStarted")
    await until(() => numbers(reader.text()).length === 3)
    server().state.end(id)
    await until(reader.ended)
    expect(numbers(reader.text())).toEqual([1, 2, 3, 4])
    const [first] = reader
      .text()
      .split("\n\n")
      .filter((block) => !block.startsWith(":"))
    const [idLine, eventLine, dataLine] = (first ?? "").split("\n")
    expect([idLine, eventLine]).toEqual(["id: 1", "event: TaskCreated"])
    expect(JSON.parse((dataLine ?? "").slice("data: ".length))).toMatchObject({ number: 1, aggregate: id })
  })

  it.each([
    ["Last-Event-ID", { "last-event-id": "2" }],
    ["last-event-id of 0", { "last-event-id": "0" }]
  ])("resumes after %s", async (_, headers) => {
    const id = await submit()
    server().state.record(id, "TaskStarted")
    server().state.end(id)
    const after = Number(headers["last-event-id"])
    const reader = await open(server(), id, headers)
    await until(reader.ended)
    expect(numbers(reader.text())).toEqual([1, 2, 3, 4].filter((number) => number > after))
  })

  it("of an ended task that was read to its end gives nothing more and ends", async () => {
    const id = await submit()
    server().state.end(id)
    const reader = await open(server(), id, { "last-event-id": "2" })
    await until(reader.ended)
    expect(numbers(reader.text())).toEqual([3])
  })

  it("tells that it lives while nothing happens", async () => {
    const reader = await open(server(), await submit())
    await until(() => reader.text().split("\n: still here\n").length > 3)
    expect(reader.ended()).toBe(false)
    reader.close()
  })

  it("ends when its key is revoked", async () => {
    const reader = await open(server(), await submit(), {}, keys.operator)
    await until(() => numbers(reader.text()).length === 2)
    server().state.revoked.add(keys.operator)
    await until(reader.ended)
    server().state.revoked.delete(keys.operator)
  })

  it.each([
    [unknownId, keys.admin, 404],
    ["x", keys.admin, 422],
    [unknownId, keys.agent, 403]
  ])("that cannot be is a problem, not an empty stream", async (id, key, status) => {
    const { json, ...answer } = await server().ask({
      ...{ path: `/api/v1/tasks/${id}/events`, key },
      headers: { accept: "text/event-stream" }
    })
    expect(answer.headers["content-type"]).toBe("application/problem+json")
    expect([answer.status, json.status]).toEqual([status, status])
  })

  it("too many of one key are refused, and places come back when streams close", async () => {
    const id = await submit()
    const readers = await Promise.all(Array.from({ length: Limits.openStreamsMax }, () => open(server(), id)))
    expect(readers.map(({ response }) => response.statusCode)).toEqual(readers.map(() => 200))
    const refused = await open(server(), id)
    expect(refused.response.statusCode).toBe(429)
    expect(refused.response.headers["retry-after"]).toBe("5")
    const other = await open(server(), id, {}, keys.operator)
    expect(other.response.statusCode).toBe(200)
    for (const reader of [...readers, other]) reader.close()
    for (let status = 429; status !== 200; ) {
      const again = await open(server(), id)
      status = again.response.statusCode ?? 0
      again.close()
    }
  })

  it("ends in order when the server stops", async () => {
    const stopping = await startServer()
    const reader = await open(stopping, await submit(stopping))
    await until(() => numbers(reader.text()).length === 2)
    const start = performance.now()
    await stopping.close()
    await until(reader.ended)
    expect(reader.response.complete).toBe(true)
    expect(performance.now() - start).toBeLessThan(4_000)
  })
})

describe("a page of events", () => {
  it("begins after a number and says how to go on", async () => {
    const id = await submit()
    server().state.record(id, "TaskStarted")
    const path = `/api/v1/tasks/${id}/events`
    const first = await server().ask({ path: `${path}?limit=2` })
    expect(first.json.data.map(({ number }: { number: number }) => number)).toEqual([1, 2])
    expect(first.json.next_after).toBe(2)
    const second = await server().ask({ path: `${path}?limit=2&after=2` })
    expect(second.json.data.map(({ number }: { number: number }) => number)).toEqual([3])
    expect(second.json.next_after).toBeNull()
  })
})

describe("a wait", () => {
  it("answers when the task has ended", async () => {
    const id = await submit()
    const waiting = server().ask({ path: `/api/v1/tasks/${id}?wait=30s` })
    setImmediate(() => server().state.end(id))
    expect((await waiting).json.status).toBe("completed")
  })

  it("answers with the task as it stands when it is over", async () => {
    const answer = await server().ask({ path: `/api/v1/tasks/${await submit()}?wait=20ms` })
    expect(answer.json.status).toBe("queued")
  })

  it("answers at once when the server stops", async () => {
    const stopping = await startServer()
    const id = await submit(stopping)
    const waiting = stopping.ask({ path: `/api/v1/tasks/${id}?wait=60s` })
    // The request must be in before the server stops taking any.
    await stopping.ask({ path: "/health/live" })
    await stopping.close()
    expect((await waiting).json.status).toBe("queued")
  })
})
