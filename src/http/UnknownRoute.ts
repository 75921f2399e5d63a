/**
 * Owns the answer to a request that no route took: 405 with what is allowed when the path exists, else 404.
 */
import { FindMyWay } from "effect/http"
import { HttpApi } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { MethodNotAllowed, RouteNotFound } from "../../protocol/api/TransportProblem.ts"

const table = FindMyWay.make<true>()
const methods = new Set<string>()
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint }) => {
    methods.add(endpoint.method)
    table.on(endpoint.method, `/${endpoint.path.slice(1)}`, true)
  }
})

/** Why nothing took a request. */
export const unknownRoute = (method: string, url: string): MethodNotAllowed | RouteNotFound => {
  const allowed = [...methods].filter((known) => table.find(known, url) !== undefined)
  const allow = allowed.includes("GET") ? [...allowed, "HEAD"] : allowed
  return allow.length === 0
    ? new RouteNotFound({ detail: "There is nothing at this path. GET /openapi.json or /docs lists what there is." })
    : new MethodNotAllowed({ detail: `${method} is not allowed here; use ${allow.join(" or ")}.`, allow })
}
