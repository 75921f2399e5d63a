/**
 * Owns the HTTP contract of API keys, and of the question who one is.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { ApiKey, CreateApiKey, CreatedApiKey } from "../ApiKey.ts"
import { ApiKeyId, Namespace } from "../Ids.ts"
import { Page } from "../Page.ts"
import { Permission, Role } from "../Permission.ts"
import { KeyNotFound } from "../Problem.ts"
import { PageQuery } from "../Query.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, prefix } from "./Wire.ts"

/** View: who the caller is. */
export const Me = Schema.Struct({
  actor: Schema.String,
  namespace: Namespace,
  role: Role,
  permissions: Schema.Array(Permission)
}).annotate({ identifier: "Me" })
export type Me = typeof Me.Type

const create = HttpApiEndpoint.post("create", "/api-keys", {
  payload: CreateApiKey,
  success: CreatedApiKey.pipe(HttpApiSchema.status(201)),
  error: BodyProblem
}).annotateMerge(
  documented({
    summary: "Make an API key",
    description: "The key stands in this answer and never again. It cannot grant more than its maker has."
  })
)

const list = HttpApiEndpoint.get("list", "/api-keys", {
  query: PageQuery,
  success: Page(ApiKey)
}).annotateMerge(
  documented({ summary: "List API keys", description: "Newest first, by cursor, without their secrets." })
)

const revoke = HttpApiEndpoint.delete("revoke", "/api-keys/:id", {
  params: { id: ApiKeyId },
  success: HttpApiSchema.NoContent,
  error: KeyNotFound
}).annotateMerge(documented({ summary: "Revoke an API key", description: "Refused on every node within 5 s." }))

const me = HttpApiEndpoint.get("me", "/me", { success: Me }).annotateMerge(
  documented({ summary: "Who am I", description: "The principal behind the key of this request." })
)

export class ApiKeysApi extends HttpApiGroup.make("apiKeys")
  .add(create, list, revoke, me)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Identity", description: "API keys and who they stand for." })) {}
