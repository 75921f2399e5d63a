/** What answers say in their headers, and what is kept of requests in logs. */
import { describe, expect, it } from "vitest"
import { keys } from "./support/MemoryApp.ts"
import { routes, unknownId } from "./support/routes.ts"
import { serverOfFile, until } from "./support/TestServer.ts"

const server = serverOfFile({ logLevel: "Debug" })

describe("an agent's version", () => {
  it("is its ETag, and If-Match changes that version only", async () => {
    const created = await server().post("/api/v1/agents", { name: "versioned", type: "echo" })
    expect([created.status, created.headers.etag]).toEqual([201, '"1"'])
    expect(created.headers.location).toBe(`/api/v1/agents/${created.json.id}`)
    const path = "/api/v1/agents/versioned"
    const put = (ifMatch: string | undefined) =>
      server().post(
        path,
        { description: "d" },
        { method: "PUT", headers: ifMatch === undefined ? {} : { "if-match": ifMatch } }
      )
    const first = await put('"1"')
    expect([first.status, first.headers.etag]).toEqual([200, '"2"'])
    const stale = await put('"1"')
    expect(stale.status).toBe(409)
    expect(stale.headers.etag).toBeUndefined()
    expect(stale.json).toMatchObject({ type: "urn:datamcp:problem:conflict", reason: "version", current_version: 2 })
    expect((await put(undefined)).headers.etag).toBe('"3"')
    expect((await server().ask({ path })).headers.etag).toBe('"3"')
    for (const wrong of ["1", "*", 'W/"3"', '"x"', '"3", "4"']) {
      const refused = await put(wrong)
      expect([refused.status, refused.json.errors[0].field]).toEqual([422, "if-match"])
    }
  })
})

describe("a submission", () => {
  it.each([{}, { "x-long-way": "1", "content-type": "application/json;charset=UTF-8" }])(
    "says where the task is",
    async (headers) => {
      const answer = await server().post("/api/v1/tasks", { type: "echo" }, { headers })
      expect(answer.headers.location).toBe(`/api/v1/tasks/${answer.json.id}`)
      expect((await server().ask({ path: answer.headers.location ?? "" })).json.id).toBe(answer.json.id)
    }
  )
})

describe("an artifact", () => {
  const upload = (path: string, headers: Record<string, string>, body: string | Uint8Array = "<script>") =>
    server().ask({ method: "POST", path, headers, body })

  it("is never rendered: attachment, nosniff, sandbox", async () => {
    const stored = await upload("/api/v1/artifacts?name=r%C3%A9sum%C3%A9%20%22x%22.html", {
      "content-type": "text/html"
    })
    expect(stored.status).toBe(201)
    const { headers, text } = await server().ask({ path: `${stored.headers.location}/content` })
    expect(text).toBe("<script>")
    expect(headers).toMatchObject({
      "content-type": "text/html",
      "content-length": "8",
      "x-content-type-options": "nosniff",
      "content-security-policy": "default-src 'none'; sandbox",
      "content-disposition": `attachment; filename="r_sum_ _x_.html"; filename*=UTF-8''r%C3%A9sum%C3%A9%20%22x%22.html`
    })
  })

  it("may have its name in a header, and any content type", async () => {
    const headers = { "x-artifact-name": "a.csv", "content-type": "text/csv; charset=utf-8" }
    const { json } = await upload("/api/v1/artifacts", headers, "a,b\n")
    expect(json).toMatchObject({ name: "a.csv", content_type: "text/csv; charset=utf-8", size_bytes: 4 })
  })

  it.each([
    ["", {}, 422, "name"],
    ["?name=..%2Fetc", {}, 422, "name"],
    ["?name=a%0Ab", {}, 422, "name"],
    ["?name=", {}, 422, "name"],
    [`?name=${"x".repeat(201)}`, {}, 422, "name"],
    ["?name=a", { "content-type": "nonsense" }, 422, "content_type"],
    ["?name=a&content_type=a%0Db", {}, 422, "content_type"]
  ])("with a wrong name or type is refused: %s", async (query, headers, status, field) => {
    const answer = await upload(`/api/v1/artifacts${query}`, headers)
    expect([answer.status, answer.json.errors[0].field]).toEqual([status, field])
  })

  it("above the limit is refused by its length alone, and when it grows above it", async () => {
    const limit = 64 * 1024 * 1024
    const grown = await upload(
      "/api/v1/artifacts?name=a",
      { "transfer-encoding": "chunked" },
      new Uint8Array(limit + 1)
    )
    expect([grown.status, grown.json.limit]).toEqual([413, limit])
    const told = await upload("/api/v1/artifacts?name=a", {}, new Uint8Array(limit + 1))
    expect([told.status, told.json.limit]).toEqual([413, limit])
  })

  it("compressed on the way is refused with 415", async () => {
    const answer = await upload("/api/v1/artifacts?name=a", { "content-encoding": "gzip" })
    expect(answer.status).toBe(415)
  })
})

describe("every answer", () => {
  it.each([
    ["of the fast lane", `/api/v1/tasks/${unknownId}`, keys.admin],
    ["of the router", "/api/v1/me", keys.admin],
    ["refused", "/api/v1/me", null],
    ["of nothing", "/nothing", null],
    ["of health", "/health/live", null]
  ])("%s carries the security headers and the request's id", async (_, path, key) => {
    const { headers } = await server().ask({ path, key, headers: { "x-request-id": "r-1" } })
    expect(headers).toMatchObject({
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      "cross-origin-resource-policy": "same-origin",
      "x-request-id": "r-1"
    })
    expect(headers["x-powered-by"] ?? headers.server).toBeUndefined()
  })

  it("to HEAD is that to GET without its body", async () => {
    const answer = await server().ask({ method: "HEAD", path: "/api/v1/me" })
    expect([answer.status, answer.text]).toEqual([200, ""])
    expect(Number(answer.headers["content-length"])).toBeGreaterThan(50)
  })
})

describe("the log", () => {
  const lineOf = async (requestId: string) => {
    const find = () => server().logged.find((line: any) => line.requestId === requestId && line.route !== undefined)
    await until(() => find() !== undefined)
    return find()
  }

  it.each([
    ["POST", "/api/v1/tasks", "POST /api/v1/tasks", 202],
    ["GET", `/api/v1/tasks/${unknownId}?wait=1ms`, "GET /api/v1/tasks/:id", 404],
    ["GET", "/nothing", "unmatched", 404]
  ])("has a line for %s %s", async (method, path, route, status) => {
    const requestId = `log-${method}-${route.replaceAll(/\W/gu, "-")}`
    const headers = { "x-request-id": requestId, "content-type": "application/json" }
    await server().ask({ method, path, headers, ...(method === "POST" ? { body: '{"type":"echo"}' } : {}) })
    expect(await lineOf(requestId)).toMatchObject({
      logLevel: "Debug",
      method,
      route,
      status,
      duration_ms: expect.any(Number)
    })
  })

  it("names who asked", async () => {
    await server().ask({ path: "/api/v1/me", headers: { "x-request-id": "who" } })
    expect(await lineOf("who")).toMatchObject({ principal: "key:adminadminadmin1" })
  })

  it("holds no key and no body, whatever was asked", async () => {
    const canary = "canary-5f2b"
    for (const { body, method, path } of routes) {
      const sent = body === undefined ? {} : { body: JSON.stringify({ ...body, name: canary }) }
      await server().ask({ method, path, headers: { "content-type": "application/json" }, ...sent })
    }
    await server().ask({ path: `/api/v1/tasks?key=${keys.admin}`, key: null })
    await server().post("/api/v1/tasks", { type: "defect", payload: canary })
    await server().ask({ path: "/api/v1/me", headers: { "x-request-id": "last" } })
    await lineOf("last")
    const text = JSON.stringify(server().logged)
    expect(text).not.toContain(keys.admin)
    expect(text).not.toContain(canary)
  })
})

describe("metrics", () => {
  it("count answers by route and class of status, on both ways", async () => {
    await server().post("/api/v1/tasks", { type: "echo" })
    const { text } = await server().ask({ path: "/metrics" })
    expect(text).toMatch(/datamcp_http_requests_total\{route="POST \/api\/v1\/tasks",status="2xx"\} \d+/u)
    expect(text).toMatch(/datamcp_http_request_seconds_count\{route="POST \/api\/v1\/tasks"/u)
    expect(text).not.toContain(unknownId)
  })
})
