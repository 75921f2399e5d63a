/** One HTTP request per task: what is sent, what is kept, what is refused, and what another attempt could change. */

import { createHash, randomBytes } from "node:crypto"
import type { ServerResponse } from "node:http"
import { gzipSync } from "node:zlib"
import { expect, layer } from "@effect/vitest"
import { DateTime, Effect, Fiber, type Schema, Stream } from "effect"
import type { Attempt } from "../../../actors/Behaviour.ts"
import { HostResolver, type ResolvedAddress } from "../../../actors/behaviours/AddressGuard.ts"
import { http } from "../../../actors/behaviours/Http.ts"
import { ArtifactStore } from "../../../actors/ports/ArtifactStore.ts"
import { attemptOf, failureOf, namespace, perform, services } from "./attempts.ts"
import { stubServer, until } from "./StubServer.ts"

const local = { allow_private: ["127.0.0.0/8"] }
const settings = (more: Record<string, Schema.Json> = {}) => ({ settings: { ...local, ...more } })
const fetch = (payload: Schema.Json, more: Partial<Attempt> = {}) => perform(http, payload, { ...settings(), ...more })
const refusal = (payload: Schema.Json, more: Record<string, Schema.Json> = {}) =>
  failureOf(http, payload, settings(more))

/** Answers names as told, in turn; the last answer stays. */
const resolving = (...answers: ReadonlyArray<ReadonlyArray<string>>) => {
  let asked = 0
  const resolver = async (): Promise<ReadonlyArray<ResolvedAddress>> => {
    const addresses = answers[Math.min(asked++, answers.length - 1)] ?? []
    return addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }))
  }
  return { resolver, asked: () => asked }
}

layer(services, { excludeTestServices: true })("http", (it) => {
  it.effect("fetches JSON and says where it came from", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/cars": (_, response) =>
          response
            .writeHead(200, {
              "content-type": "application/vnd.api+json; charset=utf-8",
              "set-cookie": "secret=1",
              etag: `"7"`
            })
            .end(`{"cars": [1, 2]}`)
      })
      const result = yield* fetch({ url: `${server.url}/cars?x=1`, headers: { Accept: "application/json" } })
      expect(result).toMatchObject({
        status: 200,
        url: `${server.url}/cars?x=1`,
        redirects: 0,
        content_type: "application/vnd.api+json",
        size_bytes: 16,
        body: { cars: [1, 2] },
        headers: { etag: `"7"` }
      })
      expect(JSON.stringify(result)).not.toContain("secret")
      expect(server.requests).toMatchObject([{ method: "GET", headers: { accept: "application/json" } }])
      expect(server.requests[0]?.headers["idempotency-key"]).toBeUndefined()
    })
  )

  it.effect("reads text by its charset and keeps nothing that cannot be stored", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/latin": (_, response) =>
          response
            .writeHead(200, { "content-type": "text/plain; charset=ISO-8859-1" })
            .end(Buffer.from([0x63, 0xe9, 0])),
        "/empty": (_, response) => response.writeHead(204).end()
      })
      expect(yield* fetch({ url: `${server.url}/latin` })).toMatchObject({ body: "cé\uFFFD" })
      expect(yield* fetch({ url: `${server.url}/empty` })).toMatchObject({ status: 204, body: null })
    })
  )

  it.effect("sends JSON, and text as it stands, with a key that is the same on every attempt", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({ "/orders": (_, response) => response.writeHead(201).end() })
      yield* fetch({ url: `${server.url}/orders`, body: { n: 1 } })
      yield* fetch(
        { url: `${server.url}/orders`, method: "PUT", body: "a,b\n", headers: { "Content-Type": "text/csv" } },
        { number: 2 }
      )
      yield* fetch({ url: `${server.url}/orders`, method: "DELETE", headers: { "idempotency-key": "my own" } })
      expect(server.requests).toMatchObject([
        { method: "POST", body: `{"n":1}`, headers: { "content-type": "application/json" } },
        { method: "PUT", body: "a,b\n", headers: { "content-type": "text/csv" } },
        { method: "DELETE", body: "", headers: { "idempotency-key": "my own" } }
      ])
      const [first, second] = server.requests.map(({ headers }) => headers["idempotency-key"])
      expect(first).toBe(attemptOf(http, null).idempotencyKey)
      expect(second).toBe(first)
    })
  )

  it.effect("keeps a body as an artifact, byte by byte, when it is asked to", () =>
    Effect.gen(function* () {
      const bytes = randomBytes(600_000)
      const server = yield* stubServer({
        "/image": (_, response) => response.writeHead(200, { "content-type": "image/png" }).end(bytes)
      })
      const result = (yield* fetch({ url: `${server.url}/image`, save_as: "logo.png" })) as {
        readonly artifact: { readonly id: never; readonly sha256: string }
      }
      expect(result).toMatchObject({
        content_type: "image/png",
        size_bytes: 600_000,
        artifact: { name: "logo.png", content_type: "image/png", size_bytes: 600_000 }
      })
      expect(result).not.toHaveProperty("body")
      expect(result.artifact.sha256).toBe(createHash("sha256").update(bytes).digest("hex"))
      const stored = yield* Stream.runCollect((yield* ArtifactStore).read(namespace, result.artifact.id))
      expect(Buffer.concat(stored).equals(bytes)).toBe(true)
    })
  )

  it.effect("says what to do about a body that is no text, no JSON, or too large for a result", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/image": (_, response) => response.writeHead(200, { "content-type": "image/png" }).end("x"),
        "/broken": (_, response) => response.writeHead(200, { "content-type": "application/json" }).end("{"),
        "/nul": (_, response) => response.writeHead(200, { "content-type": "application/json" }).end(`{"a":"\\u0000"}`),
        "/large": (_, response) => response.writeHead(200, { "content-type": "text/plain" }).end("x".repeat(262_144))
      })
      expect(yield* refusal({ url: `${server.url}/image` })).toMatchObject({
        code: "http_binary",
        retryable: false,
        message: expect.stringContaining("save_as")
      })
      expect(yield* refusal({ url: `${server.url}/broken` })).toMatchObject({ code: "http_json", retryable: false })
      expect(yield* refusal({ url: `${server.url}/nul` })).toMatchObject({
        code: "http_json",
        message: expect.stringContaining("NUL")
      })
      expect(yield* refusal({ url: `${server.url}/large` })).toMatchObject({
        code: "result_too_large",
        message: expect.stringContaining("262144")
      })
    })
  )

  it.effect("stops reading at the limit, also of a small body that unpacks without end", () =>
    Effect.gen(function* () {
      let sent = 0
      const server = yield* stubServer({
        "/endless": (_, response) => {
          response.writeHead(200, { "content-type": "text/plain" })
          const more = () => {
            while (!response.destroyed && response.write("x".repeat(65_536))) sent += 65_536
            if (!response.destroyed) response.once("drain", more)
          }
          more()
        },
        "/bomb": (_, response) =>
          response
            .writeHead(200, { "content-type": "text/plain", "content-encoding": "gzip" })
            .end(gzipSync(Buffer.alloc(20_000_000))),
        "/packed": (_, response) =>
          response.writeHead(200, { "content-type": "text/plain", "content-encoding": "gzip" }).end(gzipSync("hello")),
        "/odd": (_, response) => response.writeHead(200, { "content-encoding": "rot13" }).end("uryyb"),
        "/lie": (_, response) => response.writeHead(200, { "content-encoding": "gzip" }).end("hello")
      })
      expect(yield* refusal({ url: `${server.url}/endless` })).toMatchObject({
        code: "http_too_large",
        retryable: false,
        message: expect.stringContaining("5242880")
      })
      yield* until(() => server.open() === 0)
      expect(sent).toBeLessThan(12_000_000)
      expect(yield* refusal({ url: `${server.url}/bomb` })).toMatchObject({ code: "http_too_large" })
      expect(yield* refusal({ url: `${server.url}/packed`, response_bytes_max: 4 })).toMatchObject({
        code: "http_too_large"
      })
      expect(yield* fetch({ url: `${server.url}/packed` })).toMatchObject({ body: "hello", size_bytes: 5 })
      expect(yield* refusal({ url: `${server.url}/odd` })).toMatchObject({ code: "http_encoding", retryable: false })
      expect(yield* refusal({ url: `${server.url}/lie` })).toMatchObject({ code: "http_encoding", retryable: false })
    })
  )

  it.effect("lets another attempt mend what may mend itself, and no other status", () =>
    Effect.gen(function* () {
      const inAMinute = DateTime.add(yield* DateTime.now, { minutes: 1 })
      const answer = (status: number, headers = {}) => ({
        [`/${status}`]: (_: unknown, response: ServerResponse) =>
          void response.writeHead(status, headers).end("because\0")
      })
      const server = yield* stubServer({
        ...answer(503, { "retry-after": "7" }),
        ...answer(429, { "retry-after": DateTime.toDateUtc(inAMinute).toUTCString() }),
        ...answer(500, { "retry-after": "soon" }),
        ...answer(400, { "retry-after": "7" }),
        ...answer(404)
      })
      const at = (status: number) => refusal({ url: `${server.url}/${status}` })
      expect(yield* at(503)).toMatchObject({
        code: "http_status",
        retryable: true,
        retryAfterMillis: 7_000,
        details: { status: 503, body: "because\uFFFD" }
      })
      const limited = yield* at(429)
      expect(limited.retryable).toBe(true)
      expect(limited.retryAfterMillis).toBeGreaterThan(50_000)
      expect(limited.retryAfterMillis).toBeLessThanOrEqual(60_000)
      const failed = yield* at(500)
      expect([failed.retryable, failed.retryAfterMillis]).toEqual([true, undefined])
      const wrong = yield* at(400)
      expect([wrong.retryable, wrong.retryAfterMillis]).toEqual([false, undefined])
      expect((yield* at(404)).retryable).toBe(false)
    })
  )

  it.effect("takes the statuses for good that it is told to expect", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/teapot": (_, response) => response.writeHead(418).end("short and stout"),
        "/ok": (_, response) => response.end()
      })
      expect(yield* fetch({ url: `${server.url}/teapot`, expect: [200, "4xx"] })).toMatchObject({
        status: 418,
        body: "short and stout"
      })
      expect(yield* refusal({ url: `${server.url}/ok`, expect: [418] })).toMatchObject({
        code: "http_status",
        details: { status: 200 }
      })
    })
  )

  it.effect("counts a server that is not there, breaks off or is silent among the faults of the moment", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/cut": (_, response) => {
          response.writeHead(200, { "content-length": "100", "content-type": "text/plain" }).write("x")
          setImmediate(() => response.destroy())
        },
        "/silent": () => {}
      })
      expect(yield* refusal({ url: `${server.url}/cut` })).toMatchObject({ code: "http_network", retryable: true })
      expect(yield* refusal({ url: `${server.url}/silent`, timeout_ms: 50 })).toMatchObject({
        code: "http_timeout",
        retryable: true
      })
      yield* until(() => server.open() === 0)
      expect(yield* refusal({ url: "http://127.0.0.1:9/" })).toMatchObject({
        code: "http_network",
        retryable: true,
        message: expect.stringContaining("ECONNREFUSED")
      })
      const nowhere = failureOf(http, { url: "http://nowhere.invalid/" }, settings())
      expect(
        yield* Effect.provideService(nowhere, HostResolver, () =>
          Promise.reject(Object.assign(new Error("no"), { code: "ENOTFOUND" }))
        )
      ).toMatchObject({
        code: "http_network",
        retryable: true
      })
    })
  )

  it.effect("lets go of the socket at once when the task is cancelled", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/silent": () => {},
        "/drip": (_, response) => void response.writeHead(200, { "content-type": "text/plain" }).write("x")
      })
      for (const path of ["silent", "drip"]) {
        const seen = server.requests.length
        const fiber = yield* Effect.forkChild(fetch({ url: `${server.url}/${path}` }))
        yield* until(() => server.requests.length > seen)
        expect(server.open()).toBe(1)
        yield* Fiber.interrupt(fiber)
        yield* until(() => server.open() === 0)
      }
    })
  )

  it.effect("keeps a connection for the next task of the instance and closes it with the instance", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({ "/": (_, response) => response.end("x") })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const run = yield* http.open(local)
          for (let task = 0; task < 6; task++) yield* Effect.scoped(run(attemptOf(http, { url: server.url })))
        })
      )
      expect(server.requests).toHaveLength(6)
      expect(server.connections()).toBeLessThanOrEqual(2)
      yield* until(() => server.open() === 0)
    })
  )

  it.effect("refuses private addresses, in every spelling, unless its settings name them", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({ "/": (_, response) => response.end("secret") })
      const { port } = server
      const unnamed = [
        `127.0.0.1:${port}`,
        `[::1]:${port}`,
        `[::ffff:127.0.0.1]:${port}`,
        `[::ffff:7f00:1]:${port}`,
        `localhost:${port}`,
        `0.0.0.0:${port}`,
        `169.254.169.254`,
        `[64:ff9b::7f00:1]:${port}`,
        `[2002:7f00:1::]:${port}`
      ]
      for (const host of unnamed) {
        expect(yield* failureOf(http, { url: `http://${host}/` })).toMatchObject({
          code: "http_destination_refused",
          retryable: false
        })
      }
      for (const host of [
        `127.1:${port}`,
        `0x7f.1:${port}`,
        `2130706433:${port}`,
        `localhost.:${port}`,
        `x@127.0.0.1:${port}`
      ]) {
        expect(yield* failureOf(http, { url: `http://${host}/` }, settings())).toMatchObject({
          code: "http_url",
          retryable: false
        })
      }
      expect(server.connections()).toBe(0)
      expect(
        yield* perform(http, { url: server.url }, { settings: { allow_private: [`127.0.0.1:${port}`] } })
      ).toMatchObject({ body: "secret" })
    })
  )

  it.effect("connects to what it has judged, though the name server changes its mind", () =>
    Effect.gen(function* () {
      const secret = yield* stubServer({ "/": (_, response) => response.end("secret") }, "127.0.0.1")
      const open = yield* stubServer(
        { "/": (_, response) => response.writeHead(200, { connection: "close" }).end("open") },
        "127.0.0.2",
        secret.port
      )
      const rebinding = resolving(["127.0.0.2"], ["127.0.0.1"])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const run = yield* http.open({ allow_private: ["127.0.0.2"] })
          const attempt = attemptOf(http, { url: `http://rebind.example:${secret.port}/` })
          expect(yield* Effect.scoped(run(attempt))).toMatchObject({ body: "open" })
          yield* until(() => open.open() === 0)
          expect(yield* Effect.flip(Effect.scoped(run(attempt)))).toMatchObject({ code: "http_destination_refused" })
        })
      ).pipe(Effect.provideService(HostResolver, rebinding.resolver))
      // One question per socket: there is no second answer to fall for.
      expect(rebinding.asked()).toBe(2)
      expect(secret.connections()).toBe(0)
    })
  )

  it.effect("refuses a name when one of its addresses is refused", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({ "/": (_, response) => response.end("open") })
      const mixed = resolving(["127.0.0.1", "10.0.0.1"])
      const failure = yield* failureOf(
        http,
        { url: `http://mixed.example:${server.port}/` },
        { settings: { allow_private: ["127.0.0.1"] } }
      ).pipe(Effect.provideService(HostResolver, mixed.resolver))
      expect(failure.code).toBe("http_destination_refused")
      expect(server.connections()).toBe(0)
    })
  )

  it.effect("follows redirects with the method that the standard says", () =>
    Effect.gen(function* () {
      const to = (status: number, location: string) => (_: unknown, response: ServerResponse) =>
        void response.writeHead(status, { location }).end()
      const server = yield* stubServer({
        "/found": to(302, "/end"),
        "/other": to(303, "end"),
        "/same": to(307, "/end?x=1"),
        "/end": (request, response) => response.end(request.method)
      })
      expect(yield* fetch({ url: `${server.url}/found`, body: { a: 1 } })).toMatchObject({
        body: "GET",
        redirects: 1,
        url: `${server.url}/end`
      })
      expect(yield* fetch({ url: `${server.url}/other`, method: "PUT", body: "x" })).toMatchObject({ body: "GET" })
      expect(yield* fetch({ url: `${server.url}/same`, method: "PATCH", body: { a: 1 } })).toMatchObject({
        body: "PATCH"
      })
      const ends = server.requests.filter(({ url }) => url.startsWith("/end"))
      expect(ends.map(({ body, headers }) => [body, headers["content-type"]])).toEqual([
        ["", undefined],
        ["", undefined],
        [`{"a":1}`, "application/json"]
      ])
    })
  )

  it.effect("judges every redirect anew and follows three at most", () =>
    Effect.gen(function* () {
      const secret = yield* stubServer({ "/": (_, response) => response.end("secret") }, "127.0.0.2")
      const server = yield* stubServer({
        "/inside": (_, response) => response.writeHead(302, { location: secret.url }).end(),
        "/odd": (_, response) => response.writeHead(302, { location: "http://x:y@127.0.0.1/" }).end(),
        "/file": (_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end(),
        "/loop": (_, response) => response.writeHead(302, { location: "/loop" }).end()
      })
      const at = (path: string) =>
        failureOf(http, { url: `${server.url}/${path}` }, { settings: { allow_private: ["127.0.0.1"] } })
      expect(yield* at("inside")).toMatchObject({ code: "http_destination_refused" })
      expect(yield* at("odd")).toMatchObject({ code: "http_url" })
      expect(yield* at("file")).toMatchObject({ code: "http_url" })
      expect(yield* at("loop")).toMatchObject({ code: "http_redirects", retryable: false })
      expect(server.requests.filter(({ url }) => url === "/loop")).toHaveLength(4)
      expect(secret.connections()).toBe(0)
    })
  )

  it.effect("gives credentials to the origin that they were meant for, and to no other", () =>
    Effect.gen(function* () {
      const other = yield* stubServer({ "/": (_, response) => response.end("x") })
      const server = yield* stubServer({
        "/here": (_, response) => response.writeHead(302, { location: "/end" }).end(),
        "/there": (_, response) => response.writeHead(302, { location: other.url }).end(),
        "/end": (_, response) => response.end()
      })
      const headers = { Authorization: "Bearer secret", Cookie: "secret", "X-Api-Key": "secret", Accept: "text/plain" }
      yield* fetch({ url: `${server.url}/here`, headers })
      expect(server.requests.at(-1)).toMatchObject({
        url: "/end",
        headers: { authorization: "Bearer secret", cookie: "secret" }
      })
      yield* fetch({ url: `${server.url}/there`, headers })
      expect(other.requests[0]?.headers["accept"]).toBe("text/plain")
      expect(JSON.stringify(other.requests)).not.toContain("secret")
    })
  )

  it.effect("refuses payloads and settings that break a rule, naming the field", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [Schema.Json, string]> = [
        [null, "must be an object"],
        [{}, "url"],
        [{ url: "x", verb: "GET" }, "verb"],
        [{ url: "x", method: "TRACE" }, "method"],
        [{ url: "http://127.0.0.1/", method: "GET", body: 1 }, "body"],
        [{ url: "x", headers: { Host: "evil" } }, "headers.Host"],
        [{ url: "x", headers: { "Transfer-Encoding": "chunked" } }, "headers.Transfer-Encoding"],
        [{ url: "x", headers: { a: "b\r\nc: d" } }, "headers.a"],
        [{ url: "x", headers: { "a b": "c" } }, "headers.a b"],
        [{ url: "x", save_as: "../x" }, "save_as"],
        [{ url: "x", expect: [] }, "expect"],
        [{ url: "x", timeout_ms: 0 }, "timeout_ms"]
      ]
      for (const [payload, field] of wrong) {
        expect(yield* refusal(payload)).toMatchObject({
          code: "payload_invalid",
          retryable: false,
          message: expect.stringContaining(field)
        })
      }
      expect((yield* Effect.flip(http.check({ allow_private: ["127.1"] }))).message).toMatch(
        /^allow_private\.0: must be a host name/u
      )
      expect((yield* Effect.flip(http.check({ response_bytes_max: 1e12 }))).message).toContain("response_bytes_max")
      yield* http.check({})
    })
  )
})
