/**
 * Owns the HTTP contract of operations: health, status, metrics, and the documents of the interface itself.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Readiness, Status } from "../System.ts"
import { Authentication, PageAuthentication } from "./Authentication.ts"
import { documented, prefix } from "./Wire.ts"

/** The one group that answers without a key. */
export class HealthApi extends HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("live", "/health/live", {
      success: Schema.Struct({ live: Schema.Literal(true) })
    }).annotateMerge(documented({ summary: "Is this process alive", description: "Asks nothing of other parts." })),
    HttpApiEndpoint.get("ready", "/health/ready", {
      success: [Readiness, Readiness.pipe(HttpApiSchema.status(503))]
    }).annotateMerge(
      documented({
        summary: "Is this node ready",
        description: "200 when it can accept tasks, else 503; each part by name."
      })
    )
  )
  .annotateMerge(
    OpenApi.annotations({ title: "Health", description: "For load balancers and supervisors; needs no key." })
  ) {}

const status = HttpApiEndpoint.get("status", "/status", { success: Status })
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(documented({ summary: "Status of the node", description: "And the caller's tasks by status." }))

const metrics = HttpApiEndpoint.get("metrics", "/metrics", {
  success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" }))
})
  .middleware(PageAuthentication)
  .annotateMerge(
    documented({ summary: "Metrics of the node", description: "Prometheus text format 0.0.4. Needs `metrics:read`." })
  )

const openapi = HttpApiEndpoint.get("openapi", "/openapi.json", { success: Schema.Json })
  .middleware(PageAuthentication)
  .annotateMerge(documented({ summary: "This document", description: "OpenAPI 3.1." }))

const docs = HttpApiEndpoint.get("docs", "/docs", {
  success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/html; charset=utf-8" }))
})
  .middleware(PageAuthentication)
  .annotateMerge(
    documented({
      summary: "The interface as a page",
      description: "In a browser: any user name, and an API key as the password."
    })
  )

export class SystemApi extends HttpApiGroup.make("system")
  .add(status, metrics, openapi, docs)
  .annotateMerge(OpenApi.annotations({ title: "Operations", description: "Status, metrics and documents." })) {}
