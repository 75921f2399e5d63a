/**
 * Owns the record of one request and its answer: what names it in logs, metrics and problems.
 *
 * One exists from the request's head to the close of its answer. Nothing of bodies, query strings or keys goes in.
 */
import { randomUUID } from "node:crypto"
import type { IncomingMessage } from "node:http"
import { withoutHookSecret } from "./HookSecrets.ts"

/** What a caller's own X-Request-ID may look like: it goes into logs and headers as it is. */
const requestIdPattern = /^[A-Za-z0-9._:/+=-]{1,128}$/u

const exchanges = new WeakMap<IncomingMessage, Exchange>()

export class Exchange {
  /** The caller's X-Request-ID when it is well-formed, else a new one. */
  readonly requestId: string
  readonly traceparent: string | undefined
  readonly method: string
  /** Path of the request without its query, and without a hook's secret. */
  readonly path: string
  /** Milliseconds of the monotonic clock. */
  readonly startedAt = performance.now()
  /** Method and pattern of the route that took it. */
  route = "unmatched"
  /** Who asked, once that is known. */
  actor: string | undefined = undefined
  /** When the answer began, for answers that go on: event streams. */
  answeredAt: number | undefined = undefined
  /** Whether a browser shall ask its user for a key. */
  page = false

  private constructor(request: IncomingMessage) {
    const given = request.headers["x-request-id"]
    const { url = "/" } = request
    const query = url.indexOf("?")
    this.requestId = typeof given === "string" && requestIdPattern.test(given) ? given : randomUUID()
    this.traceparent = request.headers["traceparent"]?.toString()
    this.method = request.method ?? ""
    this.path = withoutHookSecret(query === -1 ? url : url.slice(0, query))
  }

  /** The record of a request; begun when it is first asked for. */
  static of(request: IncomingMessage): Exchange {
    const known = exchanges.get(request)
    if (known !== undefined) return known
    const exchange = new Exchange(request)
    exchanges.set(request, exchange)
    return exchange
  }
}
