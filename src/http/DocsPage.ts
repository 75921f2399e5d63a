/**
 * Owns the page that shows the interface to a person: Scalar's reference, bundled with Effect, made from the contract.
 *
 * It loads nothing from elsewhere, and runs no script but its own two, named by their hashes in its policy.
 */
import { createHash } from "node:crypto"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiScalar } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"

const path = "/docs"

/** Makes the page; some megabytes, so make it once and when it is first asked for. */
export const docsPage: Effect.Effect<HttpServerResponse.HttpServerResponse> = Effect.gen(function* () {
  const router = yield* HttpRouter.make
  const scalar = HttpApiScalar.layer(Api, { path, scalar: appearance })
  yield* Effect.provide(Effect.void, Layer.provide(scalar, Layer.succeed(HttpRouter.HttpRouter, router)))
  const request = HttpServerRequest.fromWeb(new Request(`http://localhost${path}`))
  const answer = yield* Effect.provideService(router.asHttpEffect(), HttpServerRequest.HttpServerRequest, request)
  const html = yield* Effect.promise(() => HttpServerResponse.toWeb(answer).text())
  return HttpServerResponse.text(html, {
    contentType: "text/html; charset=utf-8",
    headers: { "content-security-policy": policy(html), "cache-control": "private, max-age=300" }
  })
}).pipe(Effect.scoped, Effect.orDie)

/** Nothing from elsewhere, and nothing that leads there. */
const appearance = {
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  authentication: { preferredSecurityScheme: "bearer" }
}

const policy = (html: string): string => {
  const scripts = [...html.matchAll(/<script>(?<source>[\s\S]*?)<\/script>/gu)]
  const hashes = scripts.map(
    ({ groups }) =>
      `'sha256-${createHash("sha256")
        .update(groups?.["source"] ?? "")
        .digest("base64")}'`
  )
  return [
    "default-src 'none'",
    `script-src ${hashes.join(" ")}`,
    "style-src 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join("; ")
}
