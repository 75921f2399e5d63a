/**
 * Owns the way from Effect's request to Node's, which the exchange and the body reader work on. Only HTTP/1.1 is served.
 */

import { IncomingMessage } from "node:http"
import { toIncomingMessage } from "@effect/platform-node/NodeHttpServerRequest"
import { Effect } from "effect"
import { HttpServerRequest } from "effect/http"
import { Exchange } from "./Exchange.ts"

/** Node's request below an Effect request; a defect when there is none, as in tests without a socket. */
export const nodeRequest = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<IncomingMessage> => {
  const source = toIncomingMessage(request)
  return source instanceof IncomingMessage ? Effect.succeed(source) : Effect.die("served without node:http")
}

/** The record of the request that this fiber works for. */
export const currentExchange: Effect.Effect<Exchange, never, HttpServerRequest.HttpServerRequest> = Effect.map(
  Effect.flatMap(HttpServerRequest.HttpServerRequest, nodeRequest),
  Exchange.of
)
