/**
 * Bad input over every endpoint of the contract: each is answered 4xx with a problem that names what is wrong, none by
 * 5xx, an empty body or a closed connection. Sent both ways, because the fast lane has its own reading of requests.
 */
import { describe, expect, it } from "vitest"
import * as Limits from "../../protocol/Limits.ts"
import { keys } from "./support/MemoryApp.ts"
import { type Route, routes, unknownId } from "./support/routes.ts"
import { type Answered, serverOfFile, untilClosed } from "./support/TestServer.ts"

const json = { "content-type": "application/json" }
const withBody = routes.filter(({ body }) => body !== undefined)

const expectProblem = (answer: Answered, what: unknown) => {
  expect([what, answer.status >= 400 && answer.status < 500 ? "4xx" : answer.status, answer.text.length > 0]).toEqual([
    what,
    "4xx",
    true
  ])
  expect(answer.headers["content-type"]).toBe("application/problem+json")
  expect(answer.json).toMatchObject({
    type: expect.stringMatching(/^urn:datamcp:problem:[a-z-]+$/u),
    title: expect.any(String),
    detail: expect.any(String),
    status: answer.status,
    request_id: answer.headers["x-request-id"]
  })
  expect(answer.text).not.toMatch(/at .*\.ts:\d|node_modules/u)
}

/** Whether a path could be meant for a route, whatever stands in for its parameters. */
const matches = ({ name }: Route, path: string) =>
  new RegExp(`^${name.replace(/^\w+ /u, "").replaceAll(/:\w+/gu, "[^/]+")}$`, "u").test(path)

const submits = ({ name }: Route) => name === "POST /api/v1/tasks"

const nested = (depth: number) => `{"payload":${"[".repeat(depth)}${"]".repeat(depth)}}`

/** Texts that are no command of any route, with the status that each deserves. */
const bodies: ReadonlyArray<readonly [name: string, status: number, body: string | Uint8Array]> = [
  ["nothing", 400, ""],
  ["blanks", 400, "  "],
  ["half an object", 400, '{"type":'],
  ["no JSON", 400, "type=echo"],
  ["NaN", 400, '{"payload":NaN}'],
  ["a trailing comma", 400, '{"type":"echo",}'],
  ["two values", 400, "{}{}"],
  ["a NUL byte", 400, "\0"],
  ["no UTF-8", 400, new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])],
  ["an overlong encoding", 400, new Uint8Array([0x22, 0xc0, 0xae, 0x22])],
  ["null", 422, "null"],
  ["true", 422, "true"],
  ["a number", 422, "-1e3"],
  ["a string", 422, '"echo"'],
  ["too deep", 422, nested(40)],
  ["very deep", 422, nested(100_000)],
  ["deep and unfinished", 422, "[".repeat(500_000)],
  ["a NUL character", 422, String.raw`{"payload":"\u0000","name":"a\u0000"}`],
  ["half a surrogate pair", 422, String.raw`{"payload":"\ud800","name":"\ud800"}`],
  ["a number beyond doubles", 422, '{"payload":1e400,"name":1e400}'],
  ["__proto__", 422, '{"__proto__":{"admin":true}}'],
  ["__proto__ deep inside", 422, '{"payload":{"a":[{"__proto__":1}]},"name":{"__proto__":1}}'],
  ["constructor.prototype", 422, '{"constructor":{"prototype":{"admin":true}}}'],
  ["an unknown field", 422, '{"no_such_field":1}'],
  ["fields of a view", 422, '{"id":"x","status":"completed","attempt":7,"epoch":1,"is_admin":true,"role":"admin"}'],
  ["a large string of the wrong kind", 422, JSON.stringify({ no_such_field: "x".repeat(500_000) })]
]

describe.each([true, false])("with the fast lane %s", (fastLane) => {
  const server = serverOfFile({ fastLane })
  const ask = (route: Route, body: string | Uint8Array, headers: Record<string, string> = json) =>
    server().ask({ method: route.method, path: route.path, headers, body })

  /** Sends the head of a request only, so that nothing but its Content-Length can be too large. */
  const refusedByLength = async ({ method, path }: Route, length: number) => {
    const socket = await server().connect()
    const head = ["Host: x", `Authorization: Bearer ${keys.admin}`, "Content-Type: application/json"]
    socket.write(`${method} ${path} HTTP/1.1\r\n${head.join("\r\n")}\r\nContent-Length: ${length}\r\n\r\n{`)
    return untilClosed(socket)
  }

  describe.each(withBody)("$name", (route) => {
    it.each(bodies)("refuses %s with %i", async (name, status, body) => {
      const answer = await ask(route, body)
      // Where a body may be left out it is what they are of that is missing, or the decision.
      const whenEmpty = /\/(?:cancel|pause|rotate|acknowledge|dead-letters\/:id\/replay)$/u.test(route.name)
        ? 404
        : route.name.endsWith("/signals/:name")
          ? 422
          : 400
      const expected = name === "nothing" ? whenEmpty : status
      expectProblem(answer, name)
      expect(answer.status).toBe(expected)
      expect((answer.json.errors ?? []).length > 0).toBe(expected === 422)
    })

    it("names each field of the wrong kind", async () => {
      const fields = Array.isArray(route.body) ? [] : Object.keys({ ...(route.body as object) })
      for (const field of fields) {
        for (const wrong of [null, 1, true, [], {}, "", "\u0007", "x".repeat(70_000), -1, 1.5, "ü*>"]) {
          const right = (route.body as Record<string, unknown>)[field]
          const answer = await ask(route, JSON.stringify({ ...(route.body as object), [field]: wrong }))
          if (answer.status === 404 || answer.status < 300) continue
          expectProblem(answer, [field, wrong, right])
          expect(answer.json.errors[0].field).toMatch(new RegExp(`^${field}`, "u"))
        }
      }
    })

    it.each([
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data; boundary=x",
      "application/xml",
      "json",
      ""
    ])("refuses the content type %j with 415", async (contentType) => {
      const answer = await ask(route, JSON.stringify(route.body), { "content-type": contentType })
      expectProblem(answer, contentType)
      expect(answer.status).toBe(415)
      expect(answer.json.accept).toContain("application/json")
    })

    it("refuses a compressed body with 415", async () => {
      const answer = await ask(route, "x", { ...json, "content-encoding": "gzip" })
      expectProblem(answer, "gzip")
      expect(answer.status).toBe(415)
    })

    it("refuses a body above its limit with 413, told its length or chunked", async () => {
      const limit = /batch|graphs/u.test(route.name) ? Limits.batchBodyBytesMax : Limits.bodyBytesMax
      // Only a submission that says how large it is may be larger than other commands.
      const told = await refusedByLength(route, (submits(route) ? Limits.largeBodyBytesMax : limit) + 1)
      expect(told).toMatch(/^HTTP\/1\.1 413 /u)
      expect(told).toContain('"type":"urn:datamcp:problem:too-large"')
      if (limit === Limits.batchBodyBytesMax) return
      const chunked = await ask(route, JSON.stringify("x".repeat(limit)), { ...json, "transfer-encoding": "chunked" })
      expectProblem(chunked, "chunked")
      expect(chunked.status).toBe(413)
      expect(chunked.json).toMatchObject({ limit, unit: "bytes" })
    })
  })

  describe.each(routes)("$name", (route) => {
    it("refuses methods that it does not have with 405 and says which it has", async () => {
      for (const method of ["PATCH", "TRACE", "PROPFIND", "OPTIONS", "PUT", "DELETE", "POST", "GET"]) {
        // Asked of `/tasks/batch`, GET means the task whose id is "batch".
        if (routes.some((other) => other.method === method && matches(other, route.path))) continue
        // These are of the schedule whose name is "preview".
        if (route.name.endsWith("/preview") && ["GET", "PUT", "DELETE"].includes(method)) continue
        const answer = await server().ask({ method, path: route.path })
        expectProblem(answer, method)
        expect(answer.status).toBe(405)
        expect(answer.headers.allow).toContain(route.method)
        expect(answer.json.allow).toContain(route.method)
      }
    })

    it("refuses parameters in its path that are none", async () => {
      if (!/\/:(id|agent|name)/u.test(route.name)) return
      for (const id of [
        "x*",
        "%3E",
        "%2A",
        "a.b.c%20d",
        "%00",
        "..%2f..%2fetc",
        "%E0%A4%A",
        "%C0%AE",
        "%ff",
        "ä",
        "x".repeat(300)
      ]) {
        const path = route.path.replace(
          /(?<=\/(tasks|graphs|agents|artifacts|api-keys|webhooks|hooks|dead-letters|operations)\/)[^/]+/u,
          id
        )
        const { body, method } = route
        const answer = await server().ask({
          method,
          path,
          headers: json,
          ...(body === undefined ? {} : { body: JSON.stringify(body) })
        })
        expectProblem(answer, id)
        // Bytes beyond ASCII are no request line at all.
        expect(id === "ä" ? [400] : [404, 422]).toContain(answer.status)
      }
    })

    it("refuses query parameters that it does not know", async () => {
      if (route.group === "health") return
      for (const query of ["no_such=1", "__proto__=1", "__proto__[x]=1", "constructor=1", "a%00b=1"]) {
        const answer = await server().ask({
          ...{ method: route.method, path: `${route.path}?${query}`, headers: json },
          ...(route.body === undefined ? {} : { body: JSON.stringify(route.body) })
        })
        expectProblem(answer, query)
        expect(answer.status).toBe(422)
      }
    })
  })

  it.each([
    ["limit=0", "limit", 1],
    ["limit=501", "limit", 500],
    ["limit=-1", "limit", 1],
    ["limit=1e99", "limit", undefined],
    ["limit=1.5", "limit", undefined],
    ["limit=abc", "limit", undefined],
    ["limit=", "limit", undefined],
    ["limit=1&limit=2", "limit", undefined],
    ["status=done", "status", undefined],
    ["type=%00", "type", undefined],
    ["agent=a.b", "agent", undefined],
    ["label=x", "label", undefined],
    ["label=a=%00", "label", undefined],
    ["parent=1", "parent", undefined],
    ["status=failed&status=done", "status.1", undefined],
    ["where=payload=1", "where", undefined],
    [`where=payload./${"x".repeat(520)}=1`, "where", 512],
    ["dead_letter=maybe", "dead_letter", undefined],
    ["sort=name", "sort", undefined],
    ["completed_after=1", "completed_after", undefined],
    ["created_after=yesterday", "created_after", undefined],
    [`cursor=${"x".repeat(257)}`, "cursor", 256]
  ])("GET /tasks?%s names the parameter", async (query, field, limit) => {
    const answer = await server().ask({ path: `/api/v1/tasks?${query}` })
    expectProblem(answer, query)
    expect(answer.status).toBe(422)
    expect(answer.json.errors[0].field).toBe(field)
    expect(answer.json.errors[0].limit).toBe(limit)
  })

  it.each([
    "wait=61s",
    "wait=60001ms",
    "wait=-1s",
    "wait=1h",
    "wait=30",
    "wait=",
    "wait=999999999999s",
    "wait=1s&wait=2s"
  ])("GET /tasks/{id}?%s is refused", async (query) => {
    const answer = await server().ask({ path: `/api/v1/tasks/${unknownId}?${query}` })
    expectProblem(answer, query)
    expect(answer.json.errors[0].field).toBe("wait")
  })

  it.each(["-1", "x", "1.5", "1e30", "9".repeat(400)])("Last-Event-ID %s is refused", async (id) => {
    const answer = await server().ask({ path: `/api/v1/tasks/${unknownId}/events`, headers: { "last-event-id": id } })
    expectProblem(answer, id)
    expect(answer.json.errors[0].field).toBe("last-event-id")
  })

  it.each(["", "x".repeat(256)])("an Idempotency-Key of a wrong length is refused", async (key) => {
    const answer = await server().post("/api/v1/tasks", { type: "echo" }, { headers: { "idempotency-key": key } })
    expectProblem(answer, key)
    expect(answer.json.errors[0].field).toBe("idempotency-key")
  })

  it("an Idempotency-Key that differs from the body's is refused", async () => {
    const headers = { "idempotency-key": "a" }
    const answer = await server().post("/api/v1/tasks", { type: "echo", idempotency_key: "b" }, { headers })
    expectProblem(answer, "differs")
    expect(answer.json.errors).toEqual([
      { field: "idempotency_key", message: "differs from the header Idempotency-Key" }
    ])
    const same = await server().post("/api/v1/tasks", { type: "echo", idempotency_key: "a" }, { headers })
    expect(same.status).toBe(202)
    expect(server().state.submitted.at(-1)).toEqual({ type: "echo", idempotency_key: "a" })
  })

  it.each([
    "/",
    "/api",
    "/api/v1",
    "/api/v1/",
    "/api/v1/nothing",

    "//",
    "/%",
    "/health",
    "/health/live/x",
    "/api/x/health/live",
    "/favicon.ico",
    "/../etc/passwd"
  ])("there is nothing at %s", async (path) => {
    const answer = await server().ask({ path })
    expectProblem(answer, path)
    expect(answer.status).toBe(404)
  })

  it("tells nobody what broke when the server errs, and logs it", async () => {
    const answer = await server().post("/api/v1/tasks", { type: "defect" })
    expect(answer.status).toBe(500)
    expect(answer.json).toMatchObject({ type: "urn:datamcp:problem:internal-error", instance: "/api/v1/tasks" })
    expect(answer.text).not.toContain("secret inside")
    const id = answer.json.request_id
    const lines = server().logged.filter((line: any) => line.requestId === id)
    expect(JSON.stringify(lines)).toContain("secret inside")
  })

  it("passes on what use cases refuse", async () => {
    const unknown = await server().post("/api/v1/tasks", { type: "echo", agent: "nobody" })
    expect(unknown.json).toMatchObject({ status: 422, errors: [{ field: "agent", message: "there is no such agent" }] })
    server().state.overloaded = true
    const overloaded = await server().post("/api/v1/tasks", { type: "echo" })
    server().state.overloaded = false
    expect(overloaded.status).toBe(429)
    expect(overloaded.headers["retry-after"]).toBe("3")
  })

  it("echoes a sound X-Request-ID and replaces others", async () => {
    const sound = await server().ask({ path: "/health/live", headers: { "x-request-id": "order-7/a_b=" } })
    expect(sound.headers["x-request-id"]).toBe("order-7/a_b=")
    for (const id of ["", "a b", "x".repeat(129), "é", "a;b"]) {
      const other = await server().ask({ path: "/health/live", headers: { "x-request-id": id } })
      expect(other.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/u)
    }
  })

  it("left no trace of prototype pollution", () => {
    expect(({} as any).admin).toBeUndefined()
  })
})
