/**
 * Owns how a request over HTTP says who it is from.
 *
 * Every route but the two of health demands an API key: as `Authorization: Bearer <key>`, or, on the pages that a
 * browser or a metrics collector opens, as the password of Basic authentication with any user name. Keys in a query
 * string are refused, because query strings end in logs.
 */
import { HttpApiMiddleware, HttpApiSecurity, OpenApi } from "effect/http-api"
import type { Principal } from "../Permission.ts"
import { Forbidden, Unauthenticated, Unavailable } from "../Problem.ts"

const bearer = HttpApiSecurity.bearer.pipe(
  HttpApiSecurity.annotate(OpenApi.Description, "An API key: `Authorization: Bearer dma_...`"),
  HttpApiSecurity.annotate(OpenApi.Format, "API key")
)

const basic = HttpApiSecurity.basic.pipe(
  HttpApiSecurity.annotate(OpenApi.Description, "An API key as the password; any user name")
)

/** Failures of every route that demands a key. */
const refusals = [Unauthenticated, Forbidden, Unavailable] as const

/** Demands an API key as bearer and provides its principal. */
export class Authentication extends HttpApiMiddleware.Service<Authentication, { provides: Principal }>()(
  "datamcp/protocol/Authentication",
  { requiredForClient: true, security: { bearer }, error: refusals }
) {}

/** The same for what a browser or collector opens by itself: also takes the key as Basic password. */
export class PageAuthentication extends HttpApiMiddleware.Service<PageAuthentication, { provides: Principal }>()(
  "datamcp/protocol/PageAuthentication",
  { requiredForClient: true, security: { bearer, basic }, error: refusals }
) {}
