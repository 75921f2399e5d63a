/**
 * The HTTP door over use cases in memory, on a port of its own, and a client of node:http that sends what it is told:
 * nothing is encoded, retried or hidden.
 */

import { once } from "node:events"
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from "node:http"
import { connect, type Socket } from "node:net"
import { Cause, Effect, Exit, Layer, Logger, References, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"
import { HttpLimits } from "../../../src/http/HttpLimits.ts"
import { HttpServer, layer } from "../../../src/http/HttpServer.ts"
import { RequestTrace } from "../../../src/observability/RequestTrace.ts"
import { keys, MemoryState, memoryApp } from "./MemoryApp.ts"

export interface Asked {
  readonly method?: string
  readonly path: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: string | Uint8Array
  /** The admin's when absent; null sends none. */
  readonly key?: string | null
}

export interface Answered {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** The body as JSON; undefined when it is none. */
  readonly json: any
}

export interface TestServer {
  readonly port: number
  readonly state: MemoryState
  /** Lines that were logged. */
  readonly logged: Array<unknown>
  readonly ask: (asked: Asked) => Promise<Answered>
  /** Sends JSON with POST. */
  readonly post: (path: string, body: unknown, asked?: Omit<Asked, "path" | "body">) => Promise<Answered>
  /** A raw connection. */
  readonly connect: () => Promise<Socket>
  readonly close: () => Promise<void>
}

export interface ServerOptions {
  readonly fastLane?: boolean
  readonly limits?: Partial<(typeof HttpLimits)["Service"]>
  readonly logLevel?: "Debug" | "Info"
}

export const startServer = async (options: ServerOptions = {}): Promise<TestServer> => {
  const state = new MemoryState()
  const logged: Array<unknown> = []
  const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
    const { requestId } = fiber.getRef(RequestTrace)
    logged.push({
      logLevel,
      message,
      cause: Cause.pretty(cause),
      requestId,
      ...fiber.getRef(References.CurrentLogAnnotations)
    })
  })
  const scope = Scope.makeUnsafe()
  const limits = { ...HttpLimits.defaultValue(), ...options.limits }
  const server = layer({ host: "127.0.0.1", port: 0, fastLane: options.fastLane ?? true }).pipe(
    Layer.provide(memoryApp(state)),
    Layer.provide([
      Layer.succeed(HttpLimits, limits),
      Logger.layer([logger]),
      Layer.succeed(References.MinimumLogLevel, options.logLevel ?? "Info")
    ])
  )
  const { port } = await Effect.runPromise(
    Effect.flatMap(Layer.buildWithScope(server, scope), (context) => Effect.provideContext(HttpServer, context))
  )
  const ask = (asked: Asked) => askPort(port, asked)
  return {
    port,
    state,
    logged,
    ask,
    post: (path, body, asked) =>
      ask({
        ...asked,
        method: asked?.method ?? "POST",
        path,
        headers: { "content-type": "application/json", ...asked?.headers },
        body: JSON.stringify(body)
      }),
    connect: async () => {
      const socket = connect(port, "127.0.0.1")
      await once(socket, "connect")
      return socket
    },
    close: () => Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

/** A server for all tests of a file. */
export const serverOfFile = (options?: ServerOptions): (() => TestServer) => {
  let server: TestServer | undefined
  beforeAll(async () => {
    server = await startServer(options)
  })
  afterAll(() => server?.close())
  return () => {
    if (server === undefined) throw new Error("asked before the file's server was up")
    return server
  }
}

/** Asks whatever listens on a port. */
export const askPort = (port: number, asked: Asked): Promise<Answered> => {
  const { body, headers, key = keys.admin, method = "GET", path } = asked
  return new Promise((resolve, reject) => {
    const sent = request({
      ...{ host: "127.0.0.1", port, method, path, agent: false },
      headers: { ...(key === null ? {} : { authorization: `Bearer ${key}` }), ...headers }
    })
    sent.on("response", (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("error", reject)
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString()
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: jsonOf(text) })
      })
    })
    sent.on("error", reject)
    sent.setTimeout(20_000, () => sent.destroy(new Error(`no answer to ${method} ${path} within 20 s`)))
    sent.end(body)
  })
}

/** A text as JSON; undefined when it is none. */
export const jsonOf = (text: string): any => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Everything that comes over a raw connection until the other side closes it. */
export const untilClosed = async (socket: Socket): Promise<string> => {
  let text = ""
  socket.on("data", (chunk) => {
    text += chunk.toString()
  })
  await once(socket, "close", { signal: AbortSignal.timeout(20_000) })
  return text
}

/** Waits until a condition holds, at most 10 s. */
export const until = async (condition: () => boolean): Promise<void> => {
  const end = performance.now() + 10_000
  while (!condition()) {
    if (performance.now() > end) throw new Error("waited 10 s in vain")
    await new Promise((resolve) => setImmediate(resolve))
  }
}
