/**
 * The typed client of the HTTP contract, with URL and key in place. Nothing of it is written by hand: it comes from
 * `protocol/api/Api.ts`.
 *
 * Each request has a bound on the time to its answer, and no redirect is followed.
 */
import { Context, Duration, Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient, HttpClientError, HttpClientRequest } from "effect/http"
import { HttpApiClient, HttpApiMiddleware } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { Authentication, PageAuthentication } from "../../protocol/api/Authentication.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Connection } from "./Connection.ts"

/** Longest time to the first byte of an answer: the longest wait that a call can ask for, and some. */
const answerTime = Duration.millis(Limits.waitMillisMax + 30_000)

export class Client extends Context.Service<Client, HttpApiClient.ForApi<typeof Api>>()("datamcp/cli/Client") {
  static readonly layerNoDeps = Layer.effect(
    Client,
    Effect.gen(function* () {
      const { url } = yield* Connection
      return yield* HttpApiClient.make(Api, {
        transformClient: (client) =>
          client.pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl(url)), HttpClient.transform(bounded))
      })
    })
  ).pipe(Layer.provide(Layer.unwrap(Effect.map(Connection, ({ key }) => withKey(key)))))

  /** For the `Connection` that is given in. */
  static readonly layerConnection = Client.layerNoDeps.pipe(
    Layer.provide(FetchHttpClient.layer),
    // A redirect would show the key to whoever it leads to.
    Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, { redirect: "error" }))
  )

  /** For the connection that flags, environment and files tell. */
  static readonly layer = Client.layerConnection.pipe(Layer.provide(Connection.layer))
}

const withKey = (key: Connection["Service"]["key"]) => {
  const addKey = ({ next, request }: Outgoing) => next(HttpClientRequest.bearerToken(request, key))
  return Layer.merge(
    HttpApiMiddleware.layerClient(Authentication, addKey),
    HttpApiMiddleware.layerClient(PageAuthentication, addKey)
  )
}

type Outgoing = Parameters<HttpApiMiddleware.HttpApiMiddlewareClient<never, never, never>>[0]

const bounded = <A, R>(
  effect: Effect.Effect<A, HttpClientError.HttpClientError, R>,
  request: HttpClientRequest.HttpClientRequest
) =>
  Effect.timeoutOrElse(effect, {
    duration: answerTime,
    orElse: () =>
      Effect.fail(
        new HttpClientError.HttpClientError({
          reason: new HttpClientError.TransportError({
            request,
            description: `no answer within ${Duration.toSeconds(answerTime)} s`
          })
        })
      )
  })
