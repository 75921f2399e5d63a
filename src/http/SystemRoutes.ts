/**
 * Carries the HTTP contract of operations: health, status, metrics, and the documents of the interface.
 */
import { Effect } from "effect"
import { HttpApiBuilder, OpenApi } from "effect/http-api"
import { PrometheusMetrics } from "effect/observability"
import { Api } from "../../protocol/api/Api.ts"
import { authorize } from "../app/authorize.ts"
import { System } from "../app/System.ts"
import { jsonAnswer } from "./answers.ts"
import { docsPage } from "./DocsPage.ts"

export const healthLayer = HttpApiBuilder.group(
  Api,
  "health",
  Effect.fnUntraced(function* (handlers) {
    const system = yield* System
    return handlers.handleAll({
      live: () => Effect.succeed({ live: true as const }),
      ready: () =>
        Effect.map(system.readiness, (readiness) => (readiness.ready ? readiness : jsonAnswer(503, readiness)))
    })
  })
)

export const systemLayer = HttpApiBuilder.group(
  Api,
  "system",
  Effect.fnUntraced(function* (handlers) {
    const system = yield* System
    const page = yield* Effect.cached(docsPage)
    const document = jsonAnswer(200, OpenApi.fromApi(Api))
    return handlers.handleAll({
      status: () => system.status,
      metrics: () => Effect.andThen(authorize("metrics:read"), PrometheusMetrics.format()),
      openapi: () => Effect.succeed(document),
      docs: () => page
    })
  })
)
