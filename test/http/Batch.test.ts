/** Batches: an outcome for each item at its place, whatever form they came in. */
import { describe, expect, it } from "vitest"
import * as Limits from "../../protocol/Limits.ts"
import { serverOfFile } from "./support/TestServer.ts"

const server = serverOfFile()
const path = "/api/v1/tasks/batch"

const ndjson = (body: string | Uint8Array, query = "", headers = {}) =>
  server().ask({
    method: "POST",
    path: path + query,
    headers: { "content-type": "application/x-ndjson", ...headers },
    body
  })

const outcomes = (data: ReadonlyArray<any>) => data.map(({ index, status, task }) => [index, status, task?.type])

describe("a batch", () => {
  it("that is all right is accepted with 202", async () => {
    const answer = await server().post(path, [{ type: "a" }, { type: "b" }])
    expect(answer.status).toBe(202)
    expect(answer.json).toMatchObject({ accepted: 2, refused: 0 })
    expect(outcomes(answer.json.data)).toEqual([
      [0, 202, "a"],
      [1, 202, "b"]
    ])
  })

  it("with a bad item is accepted but for that one, with 207", async () => {
    const answer = await server().post(path, [{ type: "a" }, { type: 1 }, null, { type: "d" }])
    expect(answer.status).toBe(207)
    expect(answer.json).toMatchObject({ accepted: 2, refused: 2 })
    expect(outcomes(answer.json.data)).toEqual([
      [0, 202, "a"],
      [1, 422, undefined],
      [2, 422, undefined],
      [3, 202, "d"]
    ])
    expect(answer.json.data[1].problem.type).toBe("urn:datamcp:problem:invalid-input")
  })

  it("refuses an item that cannot be stored where it stands", async () => {
    const text = String.raw`[{"type":"a"},{"type":"b","payload":"\ud800"},{"type":"c","payload":"\u0000"},{"type":"d"}]`
    const headers = { "content-type": "application/json" }
    const answer = await server().ask({ method: "POST", path, headers, body: text })
    expect(answer.status).toBe(207)
    expect(outcomes(answer.json.data).map(([, status]) => status)).toEqual([202, 422, 422, 202])
  })

  it("as NDJSON has an outcome for each line, the unreadable too", async () => {
    const answer = await ndjson('{"type":"a"}\r\n\n{"type":\n{"type":"c"}\n{"type":"d","no_such":1}\n[1]')
    expect(answer.status).toBe(207)
    expect(answer.json).toMatchObject({ accepted: 2, refused: 3 })
    expect(outcomes(answer.json.data)).toEqual([
      [0, 202, "a"],
      [1, 400, undefined],
      [2, 202, "c"],
      [3, 422, undefined],
      [4, 422, undefined]
    ])
  })

  it("as NDJSON with bytes that are no UTF-8 refuses their line only", async () => {
    const bad = Buffer.concat([
      Buffer.from('{"type":"a"}\n{"type":"'),
      Buffer.from([0xff]),
      Buffer.from('"}\n{"type":"c"}')
    ])
    const answer = await ndjson(bad)
    expect(outcomes(answer.json.data).map(([, status]) => status)).toEqual([202, 400, 202])
  })

  it.each([
    ["an unreadable line", '{"type":"a"}\n{"type":\n', "1"],
    ["a line that breaks a rule", '{"type":"a"}\n{"type":1}\n', "1.type"]
  ])("that is atomic accepts nothing with %s", async (_, body, field) => {
    const before = server().state.tasks.size
    const answer = await ndjson(body, "?atomic=true")
    expect(answer.status).toBe(422)
    expect(answer.headers["content-type"]).toBe("application/problem+json")
    expect(answer.json.errors[0].field).toBe(field)
    expect(answer.json.detail).toMatch(/^Nothing was accepted/u)
    expect(server().state.tasks.size).toBe(before)
  })

  it("gives its idempotency key to items without one, by place", async () => {
    const from = server().state.submitted.length
    await ndjson('{"type":"a"}\nx\n{"type":"c","idempotency_key":"own"}\n{"type":"d"}', "", { "idempotency-key": "k" })
    expect(
      server()
        .state.submitted.slice(from)
        .map((command) => command.idempotency_key)
    ).toEqual(["k/0", "own", "k/3"])
  })

  it.each([
    ["[]", "application/json"],
    ["\n\n", "application/x-ndjson"]
  ])("that holds nothing is refused: %j", async (body, type) => {
    const answer = await server().ask({ method: "POST", path, headers: { "content-type": type }, body })
    expect(answer.json).toMatchObject({ status: 422, detail: "the batch holds no tasks" })
  })

  it("of too many items is refused whole", async () => {
    const answer = await ndjson("{}\n".repeat(Limits.batchTasksMax + 1))
    expect(answer.json).toMatchObject({ status: 413, limit: Limits.batchTasksMax, unit: "tasks" })
  })

  it("may be larger than a single command may", async () => {
    const item = JSON.stringify({ type: "a", payload: "x".repeat(20_000) })
    const answer = await ndjson(`${item}\n`.repeat(200))
    expect(answer.json).toMatchObject({ accepted: 200, refused: 0 })
  })
})
