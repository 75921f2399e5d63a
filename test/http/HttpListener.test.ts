/** The listening server: its bounds, what it says to bytes that are no request, and its orderly end. */

import { once } from "node:events"
import { createServer } from "node:http"
import { Duration, Effect, Layer } from "effect"
import { describe, expect, it } from "vitest"
import { layer } from "../../src/http/HttpServer.ts"
import { keys, MemoryState, memoryApp } from "./support/MemoryApp.ts"
import { askPort, jsonOf, serverOfFile, startServer, until, untilClosed } from "./support/TestServer.ts"

const server = serverOfFile({ limits: { headerTime: Duration.millis(300), bodyTime: Duration.millis(300) } })

const head = (...lines: ReadonlyArray<string>) => `${lines.join("\r\n")}\r\n\r\n`
const authorization = `Authorization: Bearer ${keys.admin}`

/** Sends bytes as they are, and gives the status and problem of what comes back before the connection is closed. */
const send = async (...parts: ReadonlyArray<string | Buffer>) => {
  const socket = await server().connect()
  socket.on("error", () => {})
  for (const part of parts) socket.write(part)
  const text = await untilClosed(socket)
  const json = text.slice(text.indexOf("\r\n\r\n") + 4)
  return { status: Number(text.slice(9, 12)), text, problem: jsonOf(json) }
}

describe("bytes that are no request", () => {
  it.each([
    ["not HTTP", "hello\r\n\r\n"],
    ["a space in the path", head("GET /health/live and more HTTP/1.1", "Host: x")],
    [
      "both Content-Length and Transfer-Encoding",
      head("POST /api/v1/tasks HTTP/1.1", "Host: x", "Content-Length: 3", "Transfer-Encoding: chunked")
    ],
    ["two Content-Lengths", head("POST /api/v1/tasks HTTP/1.1", "Host: x", "Content-Length: 3", "Content-Length: 4")],
    ["an unknown transfer coding", head("POST /api/v1/tasks HTTP/1.1", "Host: x", "Transfer-Encoding: chunked, x")],
    ["a folded header", head("GET /health/live HTTP/1.1", "Host: x", "X: a", " b")],
    ["a NUL in a header", head("GET /health/live HTTP/1.1", "Host: x", "X: a\0b")],
    ["a bad header name", head("GET /health/live HTTP/1.1", "Host: x", "X Y: a")],
    [
      "a wrong chunk",
      `${head("POST /api/v1/tasks HTTP/1.1", "Host: x", authorization, "Transfer-Encoding: chunked", "Content-Type: application/json")}zz\r\n`
    ],
    ["no Host", head("GET /health/live HTTP/1.1", "Connection: close")],
    ["an expectation nobody meets", head("POST /api/v1/tasks HTTP/1.1", "Host: x", "Expect: more", "Connection: close")]
  ])("are answered 400 with a problem: %s", async (_, bytes) => {
    const { problem, status } = await send(bytes)
    expect(status).toBe(400)
    expect(problem).toMatchObject({ type: "urn:datamcp:problem:malformed-request", status: 400 })
  })

  it.each([
    ["one long header", `X: ${"x".repeat(17_000)}`],
    ["many headers", Array.from({ length: 1_500 }, (_, i) => `X-${i}: 123456`).join("\r\n")]
  ])("are answered 431 when the header section is too large: %s", async (_, lines) => {
    const { problem, status } = await send(head("GET /health/live HTTP/1.1", "Host: x", lines))
    expect(status).toBe(431)
    expect(problem).toMatchObject({ type: "urn:datamcp:problem:header-too-large", limit: 16_384 })
  })
})

describe("a slow sender", () => {
  it("of headers is answered 408 and hung up on", async () => {
    const { problem, status } = await send("GET /health/live HTTP/1.1\r\nHost: x\r\n")
    expect(status).toBe(408)
    expect(problem).toMatchObject({ type: "urn:datamcp:problem:request-timeout" })
  })

  it.each([
    ["of a small body", "Content-Length: 20"],
    ["of a large body", "Content-Length: 200000"],
    ["of chunks", "Transfer-Encoding: chunked"]
  ])("%s is answered 408 and hung up on", async (_, length) => {
    const lines = ["Host: x", authorization, "Content-Type: application/json", "Connection: close", length]
    const { problem, status } = await send(head("POST /api/v1/tasks HTTP/1.1", ...lines))
    expect(status).toBe(408)
    expect(problem).toMatchObject({ type: "urn:datamcp:problem:request-timeout" })
  })

  it("that hangs up in the middle of a body leaves nothing behind", async () => {
    const before = server().state.submitted.length
    const lines = ["Host: x", authorization, "Content-Type: application/json", "Content-Length: 20"]
    const socket = await server().connect()
    socket.write(`${head("POST /api/v1/tasks HTTP/1.1", ...lines)}{"type":`)
    await new Promise((resolve) => setImmediate(resolve))
    socket.destroy()
    expect((await server().ask({ path: "/health/live" })).status).toBe(200)
    expect(server().state.submitted).toHaveLength(before)
  })
})

describe("a slow reader", () => {
  it("that takes nothing of its answer any more is hung up on", async () => {
    const impatient = await startServer({ limits: { stallTime: Duration.millis(300) } })
    const bytes = new Uint8Array(32 * 1024 * 1024)
    const stored = await impatient.ask({ method: "POST", path: "/api/v1/artifacts?name=a", body: bytes })
    const socket = await impatient.connect()
    socket.on("error", () => {})
    socket.pause()
    socket.write(head(`GET ${stored.headers.location}/content HTTP/1.1`, "Host: x", authorization))
    await once(socket, "readable")
    const start = performance.now()
    await impatient.close()
    expect(performance.now() - start).toBeLessThan(3_000)
    socket.destroy()
  })
})

describe("bodies in memory", () => {
  it("of all requests together have a bound, above which callers are told to come back", async () => {
    const bounded = await startServer({ limits: { bufferedBytesMax: 1_000 } })
    const answer = await bounded.post("/api/v1/tasks", { type: "echo", payload: "x".repeat(2_000) })
    expect(answer.status).toBe(429)
    expect(answer.headers["retry-after"]).toBe("1")
    expect((await bounded.post("/api/v1/tasks", { type: "echo" })).status).toBe(202)
    await bounded.close()
  })
})

describe("requests after another over one connection", () => {
  it("are answered in order, whichever way each goes", async () => {
    const body = '{"type":"echo"}'
    const lines = ["Host: x", authorization, "Content-Type: application/json", `Content-Length: ${body.length}`]
    const post = `${head("POST /api/v1/tasks HTTP/1.1", ...lines)}${body}`
    const last = head("GET /api/v1/me HTTP/1.1", "Host: x", authorization, "Connection: close")
    const { text } = await send(`${post}${head("GET /nothing HTTP/1.1", "Host: x")}${post}${last}`)
    expect([...text.matchAll(/HTTP\/1\.1 (\d+) /gu)].map(([, status]) => status)).toEqual(["202", "404", "202", "200"])
  })

  it("go on after a refused body", async () => {
    const lines = ["Host: x", authorization, "Content-Type: text/plain", "Content-Length: 2"]
    const last = head("GET /health/live HTTP/1.1", "Host: x", "Connection: close")
    const { text } = await send(`${head("POST /api/v1/tasks HTTP/1.1", ...lines)}{}${last}`)
    expect([...text.matchAll(/HTTP\/1\.1 (\d+) /gu)].map(([, status]) => status)).toEqual(["415", "200"])
  })
})

describe("a request that asks for more than an answer", () => {
  it.each([
    ["to the fast lane", "POST /api/v1/tasks", 202],
    ["to the router", "POST /api/v1/tasks/batch", 207]
  ])("is told to go on before its body: %s", async (_, line, status) => {
    const body = '[{"type":1}]'
    const socket = await server().connect()
    let text = ""
    socket.on("data", (chunk) => {
      text += chunk.toString()
    })
    const sent = status === 202 ? '{"type":"e"}' : body
    const lines = ["Host: x", authorization, "Content-Type: application/json", `Content-Length: ${sent.length}`]
    socket.write(head(`${line} HTTP/1.1`, ...lines, "Expect: 100-continue", "Connection: close"))
    await until(() => text.startsWith("HTTP/1.1 100 Continue"))
    socket.write(sent)
    await until(() => text.includes(`HTTP/1.1 ${status} `))
    socket.destroy()
  })

  it("may ask to upgrade, and is answered as it is", async () => {
    const lines = [
      "Host: x",
      authorization,
      "Connection: Upgrade, close",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13"
    ]
    const { status } = await send(head("GET /api/v1/me HTTP/1.1", ...lines))
    expect(status).toBe(200)
  })
})

describe("a taken port", () => {
  it("is a failure that names it", async () => {
    const other = createServer().listen(0, "127.0.0.1")
    await once(other, "listening")
    const address = other.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const failure = await Effect.runPromise(
      Effect.flip(
        Effect.scoped(Layer.build(layer({ host: "127.0.0.1", port }).pipe(Layer.provide(memoryApp(new MemoryState())))))
      )
    )
    expect(failure).toMatchObject({ _tag: "ListenFailed", reason: "address-in-use", port })
    expect(failure.message).toBe(
      `Cannot listen on 127.0.0.1:${port}: another process listens there already. End it, or set PORT to another port.`
    )
    other.close()
  })

  it("is told from an address that the machine does not have", async () => {
    const failure = await Effect.runPromise(
      Effect.flip(
        Effect.scoped(
          Layer.build(layer({ host: "203.0.113.1", port: 0 }).pipe(Layer.provide(memoryApp(new MemoryState()))))
        )
      )
    )
    expect(failure.reason).toBe("address-unavailable")
  })
})

describe("stopping", () => {
  it.each([true, false])("finishes a request in flight and takes no new one (fast lane %s)", async (fastLane) => {
    const stopping = await startServer({ fastLane })
    Effect.runSync(stopping.state.gate.close)
    const inFlight = stopping.post("/api/v1/tasks", { type: "echo" })
    await stopping.ask({ path: "/health/live" })
    const closed = stopping.close()
    await untilRefused(stopping.port)
    Effect.runSync(stopping.state.gate.open)
    const answer = await inFlight
    expect(answer.status).toBe(202)
    expect(answer.headers.connection).toBe("close")
    await closed
  })

  it.each([true, false])("cuts what takes longer than the draining may (fast lane %s)", async (fastLane) => {
    const stopping = await startServer({ fastLane, limits: { drainTime: Duration.millis(200) } })
    Effect.runSync(stopping.state.gate.close)
    const inFlight = stopping.post("/api/v1/tasks", { type: "echo" }).catch((error: Error) => error.message)
    await stopping.ask({ path: "/health/live" })
    const start = performance.now()
    await stopping.close()
    expect(performance.now() - start).toBeLessThan(4_000)
    expect(await inFlight).toMatch(/socket hang up|ECONNRESET/u)
  })

  it("answers a request that comes on an open connection after the stop has begun, and closes that by its answer", async () => {
    const stopping = await startServer()
    const socket = await stopping.connect()
    let text = ""
    socket.on("data", (chunk) => {
      text += chunk.toString()
    })
    const request = head("GET /health/live HTTP/1.1", "Host: x")
    socket.write(request)
    await until(() => text.includes("live"))
    text = ""
    const closed = stopping.close()
    await untilRefused(stopping.port)
    socket.write(request)
    await until(() => text.includes("live"))
    expect(text).toMatch(/^HTTP\/1.1 200/u)
    expect(text.toLowerCase()).toContain("connection: close")
    await closed
  })

  it("does not wait for connections that idle", async () => {
    const stopping = await startServer({ limits: { keepAliveTime: Duration.seconds(60) } })
    const socket = await stopping.connect()
    let text = ""
    socket.on("data", (chunk) => {
      text += chunk.toString()
    })
    socket.write(head("GET /health/live HTTP/1.1", "Host: x"))
    await until(() => text.includes("live"))
    const start = performance.now()
    await stopping.close()
    expect(performance.now() - start).toBeLessThan(4_000)
    socket.destroy()
  })
})

const untilRefused = async (port: number) => {
  for (let refused = false; !refused; ) {
    refused = await askPort(port, { path: "/health/live" }).then(
      () => false,
      () => true
    )
  }
}
