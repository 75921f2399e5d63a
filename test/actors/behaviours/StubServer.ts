/** A web server that a test scripts, and that tells what reached it. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect } from "effect"

export interface StubRequest {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage["headers"]
  readonly body: string
}

/** Answers by path; a path without an answer gets 404. */
export type Answers = Readonly<Record<string, (request: StubRequest, response: ServerResponse) => void>>

/** Listens on a free port of `host` until the scope closes. */
export const stubServer = (answers: Answers, host = "127.0.0.1", port = 0) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => listening(answers, host, port)),
      ({ server }) =>
        Effect.promise(
          () =>
            new Promise<void>((resolve) => {
              server.close(() => resolve())
              server.closeAllConnections()
            })
        )
    ),
    ({ requests, server, sockets }) => {
      const address = server.address() as AddressInfo
      const bracketed = host.includes(":") ? `[${host}]` : host
      return {
        port: address.port,
        url: `http://${bracketed}:${address.port}`,
        requests,
        /** Connections that were ever opened, and those that are open now. */
        connections: () => sockets.opened,
        open: () => sockets.opened - sockets.closed
      }
    }
  )

const listening = (answers: Answers, host: string, port: number) => {
  const requests: Array<StubRequest> = []
  const sockets = { opened: 0, closed: 0 }
  const server = createServer((incoming, response) => {
    const pieces: Array<Buffer> = []
    incoming.on("data", (piece: Buffer) => pieces.push(piece))
    incoming.on("end", () => {
      const request: StubRequest = {
        method: incoming.method ?? "",
        url: incoming.url ?? "",
        headers: incoming.headers,
        body: Buffer.concat(pieces).toString()
      }
      requests.push(request)
      const answer = answers[new URL(request.url, "http://stub").pathname]
      if (answer === undefined) response.writeHead(404, { "content-type": "text/plain" }).end("no such page")
      else answer(request, response)
    })
  })
  server.on("connection", (socket) => {
    sockets.opened++
    socket.on("close", () => sockets.closed++)
  })
  return new Promise<{
    readonly server: Server
    readonly requests: Array<StubRequest>
    readonly sockets: typeof sockets
  }>((resolve, reject) => {
    server.on("error", reject)
    server.listen(port, host, () => resolve({ server, requests, sockets }))
  })
}

/** Waits for a condition of the real world, at most 5 s. */
export const until = (condition: () => boolean) =>
  Effect.gen(function* () {
    for (let tries = 0; !condition(); tries++) {
      if (tries > 1_000) return yield* Effect.die(new Error(`it did not come true in time: ${condition.toString()}`))
      yield* Effect.sleep("5 millis")
    }
  })
