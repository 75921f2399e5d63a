/**
 * Owns the writing of whole answers on node:http, where there is no Effect response: the fast lane, and what fails
 * before there is a route.
 */
import type { ServerResponse } from "node:http"
import { securityHeaders } from "./answerHeaders.ts"
import type { Exchange } from "./Exchange.ts"
import { type Problem, problemAnswer } from "./ProblemAnswer.ts"

/** Writes a JSON answer, unless the connection is gone. `location` may be absent. */
export const writeJson = (
  response: ServerResponse,
  exchange: Exchange,
  answer: { readonly status: number; readonly body: string; readonly location?: string }
) => {
  if (response.destroyed) return
  const headers = {
    ...securityHeaders,
    "x-request-id": exchange.requestId,
    "content-type": "application/json",
    "content-length": Buffer.byteLength(answer.body)
  }
  response
    .writeHead(answer.status, answer.location === undefined ? headers : { ...headers, location: answer.location })
    .end(answer.body)
}

/** Writes a problem, unless the connection is gone. */
export const writeProblem = (response: ServerResponse, exchange: Exchange, problem: Problem) => {
  if (response.destroyed) return
  const { body, headers, status } = problemAnswer(problem, exchange)
  response
    .writeHead(status, {
      ...securityHeaders,
      "x-request-id": exchange.requestId,
      ...headers,
      "content-length": Buffer.byteLength(body),
      // What is left of the request's body is not worth reading.
      ...(response.req.complete ? {} : { connection: "close" })
    })
    .end(body)
}
