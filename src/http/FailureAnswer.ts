/**
 * Owns the edge where failures end: whatever a request failed with becomes a problem, and a defect becomes one that
 * says nothing, with its cause in the log under the request's id.
 */
import { Cause, Effect } from "effect"
import { HttpServerError, HttpServerResponse } from "effect/http"
import { HttpApiError } from "effect/http-api"
import { InternalError, MalformedRequest } from "../../protocol/api/TransportProblem.ts"
import { invalidInput } from "../../protocol/InputDecoder.ts"
import { Unavailable } from "../../protocol/Problem.ts"
import type { Exchange } from "./Exchange.ts"
import { isProblem, type Problem, problemAnswer } from "./ProblemAnswer.ts"
import { unknownRoute } from "./UnknownRoute.ts"

/** The answer to a request that failed with `cause`. `query` is what its query parameters were, for their limits. */
export const failureAnswer = (
  cause: Cause.Cause<unknown>,
  exchange: Exchange,
  query?: unknown
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  const problem = problemOf(cause, query)
  const { body, headers, status } = problemAnswer(problem, exchange)
  const response = HttpServerResponse.text(body, { status, headers, contentType: "application/problem+json" })
  if (problem instanceof InternalError) return Effect.as(Effect.logError("A request met a defect", cause), response)
  return Effect.succeed(response)
}

/** The problem that a failed request is answered with. */
export const problemOf = (cause: Cause.Cause<unknown>, query?: unknown): Problem => {
  if (Cause.hasInterruptsOnly(cause)) return stopping
  for (const reason of cause.reasons) {
    const error = reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
    if (isProblem(error)) return error
    if (HttpApiError.HttpApiSchemaError.is(error) && fromRequest.has(error.kind)) {
      return invalidInput(error.cause.issue, error.kind === "Query" ? query : undefined)
    }
    if (error instanceof HttpServerError.HttpServerError) {
      if (error.reason._tag === "RouteNotFound") return unknownRoute(error.request.method, error.request.url)
      if (error.reason._tag === "RequestParseError") return new MalformedRequest({ detail: "The request was cut off." })
    }
  }
  return new InternalError({ detail: "The server's log has the cause under this request's id." })
}

const fromRequest: ReadonlySet<string> = new Set(["Params", "Headers", "Query", "Payload"])

const stopping = new Unavailable({ detail: "This node is stopping; ask another.", retry_after_seconds: 1 })
