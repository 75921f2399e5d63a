/**
 * Owns what is kept of every answered request: a count, a duration, and a line of log at level Debug, or Error when the
 * server failed. Never a key, a body or a query string.
 */

import type { ServerResponse } from "node:http"
import { type Context, Effect, LogLevel } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"
import { RequestTrace } from "../observability/RequestTrace.ts"
import type { Exchange } from "./Exchange.ts"

/** Status of a request whose client went away before there was an answer. */
const clientClosed = 499

/** What records a request when its answer is closed. */
export type AccessLog = (exchange: Exchange, response: ServerResponse) => void

export const make: Effect.Effect<AccessLog> = Effect.gen(function* () {
  const context: Context.Context<never> = yield* Effect.context()
  const isVerbose = yield* LogLevel.isEnabled("Debug")
  const run = Effect.runForkWith(context)

  return (exchange, response) => {
    const status = response.headersSent ? response.statusCode : clientClosed
    const millis = (exchange.answeredAt ?? performance.now()) - exchange.startedAt
    const { route } = exchange
    Metrics.httpRequests({ route, status: `${Math.floor(status / 100)}xx` }).updateUnsafe(1, context)
    Metrics.httpRequestSeconds({ route }).updateUnsafe(millis / 1000, context)
    if (status < 500 && !isVerbose) return
    const line = {
      method: exchange.method,
      route,
      status,
      duration_ms: Math.round(millis * 1000) / 1000,
      ...(exchange.actor === undefined ? {} : { principal: exchange.actor })
    }
    const { requestId, traceparent } = exchange
    run(
      (status < 500 ? Effect.logDebug("request") : Effect.logError("request")).pipe(
        Effect.annotateLogs(line),
        Effect.provideService(RequestTrace, { requestId, traceparent })
      )
    )
  }
})
