/**
 * Owns the failures that belong to HTTP itself, before or beside any use case: a route that does not exist, a body that
 * is no JSON, a server that erred. Like those of `Problem.ts` they are RFC 9457 problem details with a stable `type`.
 *
 * They carry nothing of the request but what its sender needs to mend it, and nothing of the server.
 */
import { Schema } from "effect"
import { HttpApiError } from "effect/http-api"
import { Overloaded, TooLarge } from "../Problem.ts"

const type = <const S extends string>(slug: S) => `urn:datamcp:problem:${slug}` as const

/** The request cannot be read: bytes that are no HTTP, no UTF-8 or no JSON. Nothing was stored. */
export class MalformedRequest extends HttpApiError.Problem<MalformedRequest>()("MalformedRequest", {
  type: type("malformed-request"),
  status: 400,
  title: "The request cannot be read"
}) {}

/** No route has this path. */
export class RouteNotFound extends HttpApiError.Problem<RouteNotFound>()("RouteNotFound", {
  type: type("route-not-found"),
  status: 404,
  title: "No such route"
}) {}

/** The path exists, this method on it does not; `allow` lists those that do, as the `Allow` header does. */
export class MethodNotAllowed extends HttpApiError.Problem<MethodNotAllowed>()(
  "MethodNotAllowed",
  { type: type("method-not-allowed"), status: 405, title: "This method is not allowed here" },
  { allow: Schema.Array(Schema.String) }
) {}

/** The request did not arrive in time. */
export class RequestTimeout extends HttpApiError.Problem<RequestTimeout>()("RequestTimeout", {
  type: type("request-timeout"),
  status: 408,
  title: "The request did not arrive in time"
}) {}

/** The body has a content type that this route does not take; `accept` lists those it does. */
export class UnsupportedMediaType extends HttpApiError.Problem<UnsupportedMediaType>()(
  "UnsupportedMediaType",
  { type: type("unsupported-media-type"), status: 415, title: "This content type is not accepted here" },
  { accept: Schema.Array(Schema.String) }
) {}

/** The header section is larger than `limit` bytes. */
export class HeaderTooLarge extends HttpApiError.Problem<HeaderTooLarge>()(
  "HeaderTooLarge",
  { type: type("header-too-large"), status: 431, title: "The header section is too large" },
  { limit: Schema.Finite }
) {}

/** A defect. What happened stands in the server's log under the request's id. */
export class InternalError extends HttpApiError.Problem<InternalError>()("InternalError", {
  type: type("internal-error"),
  status: 500,
  title: "The server erred"
}) {}

/** Failures of routes that read a body, beside those of every route. */
export const BodyProblem = [TooLarge, UnsupportedMediaType, RequestTimeout, Overloaded] as const
