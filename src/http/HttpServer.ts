/**
 * The HTTP door: the contract of `protocol/api/` carried to the use cases of `src/app/`.
 *
 * A request passes the listener, then the fast lane or the router. The router's way is transport (failures become
 * problems), authentication (a key becomes a principal), handler, use case. Every answer carries the same headers and
 * ends in the access log.
 */

import type { IncomingMessage, ServerResponse } from "node:http"
import { layerHttpServices, makeHandler } from "@effect/platform-node/NodeHttpServer"
import { Context, Effect, Layer, References, Scope, Tracer } from "effect"
import { HttpMiddleware, HttpRouter } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { RouteNotFound } from "../../protocol/api/TransportProblem.ts"
import { withRemoteParent } from "../../protocol/TraceContext.ts"
import { RequestTrace } from "../observability/RequestTrace.ts"
import * as AccessLog from "./AccessLog.ts"
import * as AgentRoutes from "./AgentRoutes.ts"
import * as AgentVersionRoutes from "./AgentVersionRoutes.ts"
import * as ApiKeyRoutes from "./ApiKeyRoutes.ts"
import * as ArtifactRoutes from "./ArtifactRoutes.ts"
import * as AuthenticationLive from "./AuthenticationLive.ts"
import { securityHeaders } from "./answerHeaders.ts"
import * as BehaviourRoutes from "./BehaviourRoutes.ts"
import * as ControlRoutes from "./ControlRoutes.ts"
import { Draining } from "./Draining.ts"
import type { Exchange } from "./Exchange.ts"
import { failureAnswer } from "./FailureAnswer.ts"
import * as FastLane from "./FastLane.ts"
import * as GraphRoutes from "./GraphRoutes.ts"
import * as HookRoutes from "./HookRoutes.ts"
import { showsHookSecret } from "./HookSecrets.ts"
import { listen } from "./HttpListener.ts"
import * as LimitRoutes from "./LimitRoutes.ts"
import { writeProblem } from "./NodeAnswer.ts"
import * as NodeRoutes from "./NodeRoutes.ts"
import { currentExchange } from "./nodeRequest.ts"
import { RequestBodies } from "./RequestBodies.ts"
import * as ScheduleRoutes from "./ScheduleRoutes.ts"
import * as SignalRoutes from "./SignalRoutes.ts"
import * as StreamRoutes from "./StreamRoutes.ts"
import * as SupervisionRoutes from "./SupervisionRoutes.ts"
import * as SystemRoutes from "./SystemRoutes.ts"
import * as TaskRoutes from "./TaskRoutes.ts"
import * as TransportLive from "./TransportLive.ts"
import * as WebhookRoutes from "./WebhookRoutes.ts"

/** Where the server listens. */
export class HttpServer extends Context.Service<
  HttpServer,
  {
    readonly host: string
    /** The port it got, when 0 was asked for. */
    readonly port: number
    /** For a caller on this machine. */
    readonly url: string
  }
>()("datamcp/http/HttpServer") {}

/** Serves until the layer is closed, then ends in order. Fails with `ListenFailed`. */
export const layer = (options: {
  readonly host: string
  readonly port: number
  /** False on a node that only works: health and metrics, and nothing else. */
  readonly api?: boolean
  /** True once the node is about to end: each answer then closes its connection. */
  readonly leaving?: () => boolean
  /** Off sends every request the long way, for tests and comparison. */
  readonly fastLane?: boolean
}) =>
  Layer.effect(
    HttpServer,
    Effect.gen(function* () {
      // Closed after the listener has ended: it interrupts what outlived the draining.
      const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
      const log = yield* AccessLog.make
      const lane = yield* Scope.provide(FastLane.make, scope)
      const route = yield* Effect.provideService(
        makeHandler(yield* app, { scope }),
        // Spans hold the URL.
        HttpMiddleware.TracerDisabledWhen,
        ({ url }) => showsHookSecret(url)
      )
      const port = yield* listen(options, (request, response, exchange) => {
        response.on("close", () => log(exchange, response))
        if (options.leaving?.() === true) response.setHeader("connection", "close")
        if (options.api === false && !isOperation(request)) return writeProblem(response, exchange, noApi)
        if (options.fastLane !== false && lane(request, response, exchange)) return
        setHeaders(response, exchange)
        route(request, response)
      })
      const host = options.host === "0.0.0.0" || options.host === "::" ? "127.0.0.1" : options.host
      return HttpServer.of({
        host: options.host,
        port,
        url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`
      })
    })
  ).pipe(Layer.provide(routes), Layer.provide([RequestBodies.layer, Draining.layer]))

/** What a node of every role answers. */
const operations = new Set(["/health/live", "/health/ready", "/metrics"])
const isOperation = ({ url = "" }: IncomingMessage) => operations.has(url.split("?")[0] ?? "")

const noApi = new RouteNotFound({
  detail: `This node has not the role api: it answers ${[...operations].join(", ")} only.`
})

const routes = HttpApiBuilder.layer(Api).pipe(
  Layer.provide([
    TaskRoutes.layer,
    SignalRoutes.layer,
    StreamRoutes.layer,
    ControlRoutes.controlLayer,
    ControlRoutes.retentionLayer,
    GraphRoutes.layer,
    AgentRoutes.layer,
    AgentVersionRoutes.layer,
    BehaviourRoutes.layer,
    ArtifactRoutes.layer,
    ScheduleRoutes.layer,
    LimitRoutes.layer,
    NodeRoutes.layer,
    SupervisionRoutes.layer,
    ApiKeyRoutes.layer,
    WebhookRoutes.layer,
    HookRoutes.layer,
    HookRoutes.callLayer,
    SystemRoutes.systemLayer,
    SystemRoutes.healthLayer
  ]),
  Layer.provide([AuthenticationLive.layer, TransportLive.layer]),
  Layer.provideMerge(HttpRouter.layer),
  Layer.provide(layerHttpServices),
  (layer) => servedHere(layer)
)

/**
 * What handlers need per request is what the server's own layer was built with: said in types here, as
 * `HttpRouter.serve` does for the server that it starts itself.
 */
function servedHere<A, E, R>(layer: Layer.Layer<A, E, R>) {
  return layer as Layer.Layer<A, E, HttpRouter.Request.Without<R> | HttpRouter.Request.Only<"Requires", R>>
}

/** The router with the request's name in force, and an end for what no route's transport caught. */
const app = Effect.gen(function* () {
  const router = yield* HttpRouter.HttpRouter
  const routed = router.asHttpEffect()
  // A tracer that records opens a span below the request's traceparent by itself.
  const isTraced = (yield* References.TracerEnabled) && (yield* Tracer.Tracer) !== Tracer.nativeTracer
  return Effect.flatMap(currentExchange, (exchange) => {
    const { requestId, traceparent } = exchange
    const answered = Effect.catchCause(routed, (cause) => failureAnswer(cause, exchange))
    return Effect.provideService(isTraced ? answered : withRemoteParent(traceparent)(answered), RequestTrace, {
      requestId,
      traceparent
    })
  })
})

/** Set below Effect, so that they are on every answer, whatever happens above. */
const setHeaders = (response: ServerResponse, exchange: Exchange) => {
  for (const [name, value] of Object.entries(securityHeaders)) response.setHeader(name, value)
  response.setHeader("x-request-id", exchange.requestId)
}
