/** A stub of an OTLP collector: keeps what it is sent. */
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect, type Scope } from "effect"

export interface ExportedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
}

export interface Collector {
  readonly endpoint: string
  readonly requests: Array<{ readonly path: string; readonly headers: Record<string, unknown>; readonly body: any }>
}

export const collector: Effect.Effect<Collector, never, Scope.Scope> = Effect.gen(function* () {
  const requests: Collector["requests"] = []
  const server = yield* Effect.acquireRelease(
    Effect.callback<Server>((resume) => {
      const made = createServer((request, response) => {
        let body = ""
        request.on("data", (part) => {
          body += part
        })
        request.on("end", () => {
          requests.push({ path: request.url ?? "", headers: request.headers, body: JSON.parse(body) })
          response.writeHead(200, { "content-type": "application/json" }).end("{}")
        })
      }).listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
    }),
    (made) => Effect.callback<void>((resume) => void made.close(() => resume(Effect.void)))
  )
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests }
})

export const spansOf = ({ requests }: Collector): ReadonlyArray<ExportedSpan> =>
  requests
    .filter(({ path }) => path === "/v1/traces")
    .flatMap(({ body }) =>
      body.resourceSpans.flatMap((resource: any) => resource.scopeSpans.flatMap((s: any) => s.spans))
    )
