/**
 * Owns what stands around every endpoint: its route in the record, query parameters that nobody declared, and the end
 * of every failure as a problem.
 */
import { Effect, Layer, type Types } from "effect"
import { HttpServerRequest, type HttpServerResponse } from "effect/http"
import { Transport } from "../../protocol/api/Api.ts"
import { InvalidInput } from "../../protocol/Problem.ts"
import { showsKey } from "./AuthenticationLive.ts"
import { failureAnswer } from "./FailureAnswer.ts"
import { currentExchange } from "./nodeRequest.ts"

export const layer = Layer.succeed(
  Transport,
  Transport.of((handler, { endpoint }) =>
    Effect.gen(function* () {
      const exchange = yield* currentExchange
      exchange.route = `${endpoint.method} ${endpoint.path}`
      const query = yield* HttpServerRequest.ParsedSearchParams
      const refused = yield* refusedQuery(query, endpoint.query !== undefined)
      const checked: Effect.Effect<HttpServerResponse.HttpServerResponse, Types.unhandled | InvalidInput> =
        refused === undefined ? handler : Effect.fail(refused)
      return yield* Effect.catchCause(checked, (cause) => failureAnswer(cause, exchange, query))
    })
  )
)

type Query = HttpServerRequest.ParsedSearchParams["Service"]

/** What no schema of an endpoint looks at: parameters where none are declared, and NUL in those of free text. */
const refusedQuery = Effect.fnUntraced(function* (query: Query, declared: boolean) {
  const { headers, url } = yield* HttpServerRequest.HttpServerRequest
  // Who shows no key is told so first, whatever else is wrong; and health takes any query.
  if (headers["authorization"] === undefined || showsKey(url)) return undefined
  const fields = Object.keys(query)
  const errors = declared
    ? fields
        .filter((field) => `${field}${query[field]?.toString()}`.includes("\0"))
        .map((field) => ({ field: field.replaceAll("\0", "\\0"), message: "holds a NUL character (U+0000)" }))
    : fields.map((field) => ({ field, message: "is not a known parameter" }))
  const [first] = errors
  return first === undefined
    ? undefined
    : new InvalidInput({ detail: `${first.field}: ${first.message}`, errors: errors.slice(0, 20) })
})
