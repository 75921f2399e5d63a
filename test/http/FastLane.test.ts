/** The fast lane answers as the long way does, header for header. */
import { describe, expect, it } from "vitest"
import { keys } from "./support/MemoryApp.ts"
import { unknownId } from "./support/routes.ts"
import { type Asked, serverOfFile, type TestServer, until } from "./support/TestServer.ts"

const fast = serverOfFile({ fastLane: true, logLevel: "Debug" })
const long = serverOfFile({ fastLane: false, logLevel: "Debug" })

const json = { "content-type": "application/json" }
const submit = (body: string, more: Partial<Asked> = {}): Asked => ({
  ...{ method: "POST", path: "/api/v1/tasks", body },
  ...more,
  headers: { ...json, ...more.headers }
})
const look = (id: string, more: Partial<Asked> = {}): Asked => ({ path: `/api/v1/tasks/${id}`, ...more })
const first = "01900000-0000-7000-8000-000000000001"

const requests: ReadonlyArray<readonly [name: string, Asked]> = [
  ["a submission", submit('{"type":"echo","payload":{"ü":[1,"🙂"]},"labels":{"a":"b"}}')],
  ["another", submit('{"type":"echo","name":"n"}', { headers: { "content-type": "application/json; charset=utf-8" } })],
  ["with a key", submit('{"type":"echo"}', { headers: { "idempotency-key": "k" } })],
  ["with the same key twice", submit('{"type":"echo","idempotency_key":"k"}', { headers: { "idempotency-key": "k" } })],
  ["with two keys", submit('{"type":"echo","idempotency_key":"j"}', { headers: { "idempotency-key": "k" } })],
  ["with an empty key", submit('{"type":"echo"}', { headers: { "idempotency-key": "" } })],
  ["of the wrong kind", submit('{"type":1,"x":[]}')],
  ["of an unknown agent", submit('{"agent":"nobody"}')],
  ["that breaks", submit('{"type":"defect"}')],
  ["that is no JSON", submit('{"type":')],
  ["that must not be kept", submit(String.raw`{"type":"echo","name":"\u0000"}`)],
  ["of nothing", submit("")],
  ["of another type", submit("type=echo", { headers: { "content-type": "text/plain" } })],
  ["with a query", submit('{"type":"echo"}', { path: "/api/v1/tasks?x=1" })],
  ["by a viewer", submit('{"type":"echo"}', { key: keys.viewer })],
  ["by nobody", submit('{"type":"echo"}', { key: null })],
  ["by who knows", submit('{"type":"echo"}', { key: "dma_whoknows" })],
  ["while keys cannot be checked", submit('{"type":"echo"}', { key: keys.away })],
  [
    "with a scheme in capitals",
    submit('{"type":"echo"}', { key: null, headers: { authorization: `BEARER ${keys.admin}` } })
  ],
  ["a look", look(first)],
  ["a look at nothing", look(unknownId)],
  ["a look at no id", look("x")],
  ["a look at an id in capitals", look(first.toUpperCase())],
  ["a look by nobody", look(first, { key: null })],
  ["a look by who may", look(first, { key: keys.agent })],
  ["the head of a look", look(first, { method: "HEAD" })]
]

const answerOf = async (server: TestServer, asked: Asked, requestId: string) => {
  const { headers, status, text } = await server.ask({
    ...asked,
    headers: { ...asked.headers, "x-request-id": requestId }
  })
  const { date: _, ...kept } = headers
  return { status, headers: kept, text }
}

const lineOf = async (server: TestServer, requestId: string) => {
  const find = (): any => server.logged.find((entry: any) => entry.requestId === requestId && "route" in entry)
  await until(() => find() !== undefined)
  return { ...find(), duration_ms: undefined }
}

describe("both ways", () => {
  // One after another, because the ids that tasks get count up.
  it("answer and log the same", async () => {
    for (const [name, asked] of requests) {
      const requestId = name.replaceAll(" ", "-")
      const expected = await answerOf(long(), asked, requestId)
      expect([name, await answerOf(fast(), asked, requestId)]).toEqual([name, expected])
      expect([name, await lineOf(fast(), requestId)]).toEqual([name, await lineOf(long(), requestId)])
    }
    expect(fast().state.submitted).toEqual(long().state.submitted)
    expect(fast().state.submitted).toHaveLength(5)
  })
})
