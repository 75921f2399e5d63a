/**
 * Owns the listening server of node:http: its timeouts and bounds, what it answers when bytes are no request, and its
 * orderly end.
 *
 * Ending: no new connections; streams and waits are told; connections that are open take one request more and are closed by its answer, or after
 * `idleTime` without one; requests in flight get `drainTime`; then connections are cut.
 */

import { randomUUID } from "node:crypto"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { type AddressInfo, Server as NetServer } from "node:net"
import type { Duplex } from "node:stream"
import { Data, Duration, Effect, Fiber, Schedule } from "effect"
import { HeaderTooLarge, MalformedRequest, RequestTimeout } from "../../protocol/api/TransportProblem.ts"
import { securityHeaders } from "./answerHeaders.ts"
import { Draining } from "./Draining.ts"
import { Exchange } from "./Exchange.ts"
import { HttpLimits } from "./HttpLimits.ts"
import { writeProblem } from "./NodeAnswer.ts"
import { type Problem, problemAnswer } from "./ProblemAnswer.ts"

/** The server cannot listen where it was told to. */
export class ListenFailed extends Data.TaggedError("ListenFailed")<{
  readonly reason: "address-in-use" | "not-permitted" | "address-unavailable" | "other"
  readonly host: string
  readonly port: number
  readonly cause: unknown
}> {
  override get message() {
    const where = `${this.host}:${this.port}`
    switch (this.reason) {
      case "address-in-use":
        return `Cannot listen on ${where}: another process listens there already. End it, or set PORT to another port.`
      case "not-permitted":
        return `Cannot listen on ${where}: this user may not use that port. Set PORT to one above 1023.`
      case "address-unavailable":
        return `Cannot listen on ${where}: this machine has no such address. Set HOST to one of its own, or to 0.0.0.0.`
      case "other":
        return `Cannot listen on ${where}.`
    }
  }
}

/** Answers one request. */
export type Handler = (request: IncomingMessage, response: ServerResponse, exchange: Exchange) => void

/** Listens until the scope closes, then ends in order. Gives the port, which matters when 0 was asked for. */
export const listen = (options: { readonly host: string; readonly port: number }, handle: Handler) =>
  Effect.gen(function* () {
    const limits = yield* HttpLimits
    const draining = yield* Draining
    const server = createServer({
      headersTimeout: Duration.toMillis(limits.headerTime),
      requestTimeout: Duration.toMillis(limits.uploadTime),
      keepAliveTimeout: Duration.toMillis(limits.keepAliveTime),
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: limits.headerBytesMax,
      // Node would answer its absence without a body.
      requireHostHeader: false
    })
    server.maxConnections = limits.connectionsMax
    server.timeout = Duration.toMillis(limits.stallTime)
    serve(server, handle, limits.headerBytesMax)
    yield* Effect.acquireRelease(bind(server, options), () => end(server, draining, limits))
    const { port } = addressOf(server)
    return port
  })

const serve = (server: Server, handle: Handler, headerBytesMax: number) => {
  const answering = new WeakMap<Duplex, ServerResponse>()
  const receive = (request: IncomingMessage, response: ServerResponse) => {
    answering.set(request.socket, response)
    const exchange = Exchange.of(request)
    if (!server.listening) response.setHeader("connection", "close")
    if (request.headers.host === undefined && request.httpVersion === "1.1") {
      writeProblem(response, exchange, new MalformedRequest({ detail: "The header Host is missing." }))
    } else handle(request, response, exchange)
  }
  server.on("request", receive)
  server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    response.writeContinue()
    receive(request, response)
  })
  server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) =>
    writeProblem(response, Exchange.of(request), new MalformedRequest({ detail: "Expect: only 100-continue is met." }))
  )
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    const response = answering.get(socket)
    const isAnswering = response !== undefined && response.headersSent && !response.writableFinished
    if (error.code === "ECONNRESET" || !socket.writable || isAnswering) socket.destroy()
    else endSocket(socket, unreadable(error, headerBytesMax))
  })
}

const unreadable = ({ code }: NodeJS.ErrnoException, limit: number): Problem => {
  if (code === "HPE_HEADER_OVERFLOW") {
    return new HeaderTooLarge({ detail: `The header section is larger than the limit of ${limit} bytes.`, limit })
  }
  return code === "ERR_HTTP_REQUEST_TIMEOUT"
    ? new RequestTimeout({ detail: "The request did not arrive in time." })
    : new MalformedRequest({ detail: "The bytes are no HTTP/1.1 request." })
}

/** Answers on a socket that has no request, and closes it once the answer is out. */
const endSocket = (socket: Duplex, problem: Problem) => {
  const requestId = randomUUID()
  const { body, headers, status } = problemAnswer(problem, { requestId, path: "", page: false })
  const lines = Object.entries({
    ...securityHeaders,
    ...headers,
    "x-request-id": requestId,
    "content-length": Buffer.byteLength(body)
  })
  const head = [`HTTP/1.1 ${status} ${problem.title}`, ...lines.map(([name, value]) => `${name}: ${value}`)]
  socket.end(`${head.join("\r\n")}\r\nconnection: close\r\n\r\n${body}`, () => socket.destroy())
}

const bind = (server: Server, { host, port }: { readonly host: string; readonly port: number }) =>
  Effect.callback<void, ListenFailed>((resume) => {
    const onError = (cause: NodeJS.ErrnoException) =>
      resume(Effect.fail(new ListenFailed({ reason: reasonOf(cause.code), host, port, cause })))
    server.once("error", onError)
    server.listen({ host, port }, () => {
      server.off("error", onError)
      resume(Effect.void)
    })
  })

const reasonOf = (code = ""): ListenFailed["reason"] => reasons.get(code) ?? "other"

const reasons = new Map<string, ListenFailed["reason"]>([
  ["EADDRINUSE", "address-in-use"],
  ["EACCES", "not-permitted"],
  ["EPERM", "not-permitted"],
  ["EADDRNOTAVAIL", "address-unavailable"],
  ["ENOTFOUND", "address-unavailable"]
])

const addressOf = (server: Server): Pick<AddressInfo, "port"> => {
  const address = server.address()
  return typeof address === "object" && address !== null ? address : { port: 0 }
}

const end = (
  server: Server,
  draining: Draining["Service"],
  { drainTime, idleTime }: { readonly drainTime: Duration.Duration; readonly idleTime: Duration.Duration }
) =>
  Effect.gen(function* () {
    const closed = yield* Effect.forkChild(
      Effect.callback<void>((resume) => {
        // Not that of node:http, which cuts idle connections at once, and with them requests that are on their way.
        NetServer.prototype.close.call(server, () => resume(Effect.void))
      }),
      { startImmediately: true }
    )
    yield* draining.begin
    // A connection that was busy when the server closed idles a moment later.
    const idle = Effect.repeat(
      Effect.sync(() => server.closeIdleConnections()),
      Schedule.spaced("25 millis")
    ).pipe(Effect.delay(idleTime))
    yield* Effect.raceFirst(Effect.asVoid(idle), Fiber.join(closed)).pipe(Effect.timeoutOption(drainTime))
    server.closeAllConnections()
  })
