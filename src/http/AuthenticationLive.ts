/**
 * Owns how the key in a request becomes the principal of its fiber. Keys are read from the `Authorization` header only;
 * one that stands in a query string is refused even when the header is right, because it has leaked into logs by then.
 */
import { Context, Effect, Layer, Redacted } from "effect"
import { HttpServerRequest, type HttpServerResponse } from "effect/http"
import { Authentication, PageAuthentication } from "../../protocol/api/Authentication.ts"
import { Principal } from "../../protocol/Permission.ts"
import { Unauthenticated } from "../../protocol/Problem.ts"
import { ApiKeys } from "../app/ApiKeys.ts"
import { currentExchange } from "./nodeRequest.ts"

/** The key of an `Authorization: Bearer` header (RFC 6750, scheme in any case). */
export const bearerKey = (authorization: string | undefined): string | undefined =>
  /^bearer +(?<key>[^ ]+) *$/iu.exec(authorization ?? "")?.groups?.["key"]

/** The password of an `Authorization: Basic` header (RFC 7617). */
const basicKey = (authorization: string | undefined): string | undefined => {
  const encoded = /^basic +(?<encoded>[A-Za-z0-9+/_-]+=*) *$/iu.exec(authorization ?? "")?.groups?.["encoded"]
  const pair = encoded === undefined ? "" : Buffer.from(encoded, "base64").toString()
  const colon = pair.indexOf(":")
  return colon === -1 || colon === pair.length - 1 ? undefined : pair.slice(colon + 1)
}

/** Whether a URL shows an API key. */
export const showsKey = (url: string): boolean => /dma_[a-z0-9]{16}_/u.test(url)

export const noKey = new Unauthenticated({ detail: "Send the header Authorization: Bearer <API key>." })

const shownKey = new Unauthenticated({
  detail: "The URL shows an API key. Revoke that key, it stands in logs now, and send keys in the Authorization header."
})

export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const { authenticate } = yield* ApiKeys

    const withPrincipal =
      (keyOf: (authorization: string | undefined) => string | undefined, page: boolean) =>
      <E, R>(handler: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
        Effect.gen(function* () {
          const { headers, url } = yield* HttpServerRequest.HttpServerRequest
          const exchange = yield* currentExchange
          exchange.page = page
          if (showsKey(url)) return yield* shownKey
          const key = keyOf(headers["authorization"])
          if (key === undefined) return yield* noKey
          const principal = yield* authenticate(Redacted.make(key))
          exchange.actor = principal.actor
          return yield* Effect.provideService(handler, Principal, principal)
        })

    return Layer.succeedContext(
      Context.make(Authentication, Authentication.of({ bearer: withPrincipal(bearerKey, false) })).pipe(
        Context.add(
          PageAuthentication,
          PageAuthentication.of({ bearer: withPrincipal(bearerKey, true), basic: withPrincipal(basicKey, true) })
        )
      )
    )
  })
)
