/**
 * A server that answers as a test says: canned JSON, broken streams, other people's pages. It keeps what it was asked.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect } from "effect"

export interface Asked {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage["headers"]
  readonly body: string
}

export type Answer = (asked: Asked, response: ServerResponse) => void

export interface StubPlatform {
  readonly url: string
  readonly asked: ReadonlyArray<Asked>
  /** `route` is a method and a path without its query, such as `GET /api/v1/tasks`. The last answer said counts. */
  readonly on: (route: string, answer: Answer) => void
}

export const json =
  (status: number, body: unknown, contentType = "application/json"): Answer =>
  (_asked, response) => {
    response.writeHead(status, { "content-type": contentType }).end(JSON.stringify(body))
  }

export const problem = (status: number, slug: string, title: string, members: object = {}): Answer =>
  json(status, { type: `urn:datamcp:problem:${slug}`, title, status, ...members }, "application/problem+json")

/** The first time the first answer, and so on; the last one for ever. */
export const inTurn = (...answers: ReadonlyArray<Answer>): Answer => {
  let turn = 0
  return (asked, response) => answers[Math.min(turn++, answers.length - 1)]?.(asked, response)
}

export const stubPlatform = Effect.acquireRelease(
  Effect.callback<StubPlatform & { readonly close: () => void }>((resume) => {
    const answers = new Map<string, Answer>()
    const asked: Array<Asked> = []
    const server = createServer((request, response) => {
      const parts: Array<Buffer> = []
      request.on("data", (part: Buffer) => parts.push(part))
      request.on("end", () => {
        const path = request.url ?? ""
        const one = {
          method: request.method ?? "",
          path,
          headers: request.headers,
          body: Buffer.concat(parts).toString()
        }
        asked.push(one)
        const answer =
          answers.get(`${one.method} ${path.split("?")[0]}`) ?? problem(404, "route-not-found", "No such route")
        answer(one, response)
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      resume(
        Effect.succeed({
          url: `http://127.0.0.1:${port}`,
          asked,
          on: (route, answer) => answers.set(route, answer),
          close: () => {
            server.closeAllConnections()
            server.close()
          }
        })
      )
    })
  }),
  (stub) => Effect.sync(() => stub.close())
)
