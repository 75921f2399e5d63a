/**
 * The HTTP contract: server, OpenAPI document, docs page and typed client come from it and from nothing else.
 *
 * Input is closed: an unknown field or query parameter is refused by name. Answers are open: a client ignores fields
 * that it does not know, so that a newer server can add some.
 */
import { HttpApi, HttpApiMiddleware, OpenApi } from "effect/http-api"
import * as Limits from "../Limits.ts"
import { InvalidInput } from "../Problem.ts"
import { AgentsApi } from "./AgentsApi.ts"
import { AgentVersionsApi } from "./AgentVersionsApi.ts"
import { ApiKeysApi } from "./ApiKeysApi.ts"
import { ArtifactsApi } from "./ArtifactsApi.ts"
import { BehavioursApi } from "./BehavioursApi.ts"
import { ControlApi, RetentionApi } from "./ControlApi.ts"
import { GraphsApi } from "./GraphsApi.ts"
import { HookCallsApi, HooksApi } from "./HooksApi.ts"
import { LimitsApi } from "./LimitsApi.ts"
import { NodesApi } from "./NodesApi.ts"
import { refineOpenApi } from "./OpenApiDocument.ts"
import { SchedulesApi } from "./SchedulesApi.ts"
import { SignalsApi } from "./SignalsApi.ts"
import { StreamsApi } from "./StreamsApi.ts"
import { SupervisionApi } from "./SupervisionApi.ts"
import { HealthApi, SystemApi } from "./SystemApi.ts"
import { TasksApi } from "./TasksApi.ts"
import { InternalError, MalformedRequest } from "./TransportProblem.ts"
import { WebhooksApi } from "./WebhooksApi.ts"

/** Failures that every route can meet before or beside its use case. */
export class Transport extends HttpApiMiddleware.Service<Transport>()("datamcp/protocol/Transport", {
  error: [MalformedRequest, InvalidInput, InternalError]
}) {}

const closed = { onExcessProperty: "error", errors: "all" } as const

export class Api extends HttpApi.make("datamcp")
  .add(
    TasksApi,
    SignalsApi,
    StreamsApi,
    ControlApi,
    GraphsApi,
    AgentsApi,
    AgentVersionsApi,
    BehavioursApi,
    LimitsApi,
    ArtifactsApi,
    SchedulesApi,
    ApiKeysApi,
    RetentionApi,
    NodesApi,
    SystemApi,
    HealthApi
  )
  .add(WebhooksApi, HooksApi, HookCallsApi)
  .add(SupervisionApi)
  .middleware(Transport)
  .annotate(HttpApi.QueryParseOptions, closed)
  .annotate(HttpApi.PayloadParseOptions, closed)
  .annotateMerge(
    OpenApi.annotations({
      title: "datamcp",
      version: "1",
      transform: refineOpenApi,
      description: `Runs fleets of AI and data agents as supervised actors.

**Keys.** Every route but health and the calls of hooks demands \`Authorization: Bearer <API key>\`; the pages below also take the key as the
password of Basic authentication.

**Errors** are RFC 9457 problem details (\`application/problem+json\`) with a stable \`type\`; refused input lists each
field in \`errors\`. A defect answers 500 with the request's id and nothing else.

**Requests** carry an \`X-Request-ID\` of their own or get one; it is echoed, and stands in logs and problems.

**Lists** are newest first; pass \`next_cursor\` back as \`cursor\`. At most ${Limits.pageEntriesMax} entries a page.

**Limits.** JSON bodies ${Limits.bodyBytesMax} bytes, batches and graphs ${Limits.batchBodyBytesMax}, nesting
${Limits.jsonDepthMax}. 429 and 503 carry \`Retry-After\`. After 429 nothing was stored; after 503
a submission may have been: send it again with its idempotency key.`
    })
  ) {}
