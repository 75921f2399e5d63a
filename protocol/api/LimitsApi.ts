/**
 * Owns the HTTP contract of limits: define, change, delete, and see what is taken.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { LimitRef } from "../Ids.ts"
import { CreateLimit, Limit, LimitUsage, UpdateLimit } from "../Limit.ts"
import * as Limits from "../Limits.ts"
import { Page } from "../Page.ts"
import { Conflict, LimitNotFound } from "../Problem.ts"
import { PageQuery } from "../Query.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, IfMatch, prefix } from "./Wire.ts"

const params = { limit: LimitRef.annotate({ description: "Id or name of the limit." }) }
const versioned = { etag: "Version of the limit, for If-Match." }

const create = HttpApiEndpoint.post("create", "/limits", {
  payload: CreateLimit,
  success: Limit.pipe(HttpApiSchema.status(201)),
  error: [Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Define a limit",
    description:
      "Binds tasks that are accepted from now on. Give `concurrency` or `rate`, or `agent` with `fair_by` to share the " +
      "agent's slots. 409 with reason `name-taken` when the namespace has one of that name.",
    answers: { 201: { location: "Path of the limit.", ...versioned } }
  })
)

const list = HttpApiEndpoint.get("list", "/limits", { query: PageQuery, success: Page(Limit) }).annotateMerge(
  documented({ summary: "List limits", description: "Newest first, by cursor." })
)

const get = HttpApiEndpoint.get("get", "/limits/:limit", {
  params,
  success: Limit,
  error: LimitNotFound
}).annotateMerge(documented({ summary: "Get a limit", answers: { 200: versioned } }))

const update = HttpApiEndpoint.put("update", "/limits/:limit", {
  params,
  headers: { "if-match": Schema.optionalKey(IfMatch) },
  payload: UpdateLimit,
  success: Limit,
  error: [LimitNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Change how much a limit allows",
    description:
      "Holds for tasks that wait already. With `If-Match` only that version is changed; otherwise 409 with reason " +
      "`version` and `current_version`.",
    answers: { 200: versioned }
  })
)

const remove = HttpApiEndpoint.delete("remove", "/limits/:limit", {
  params,
  success: Limit,
  error: LimitNotFound
}).annotateMerge(documented({ summary: "Delete a limit", description: "Tasks that waited for it alone are queued." }))

const usage = HttpApiEndpoint.get("usage", "/limits/:limit/usage", {
  params,
  query: {
    key: Schema.optionalKey(
      Schema.String.check(Schema.isMaxLength(Limits.limitKeyCharactersMax)).annotate({ description: "Only this key." })
    )
  },
  success: LimitUsage,
  error: LimitNotFound
}).annotateMerge(documented({ summary: "What is taken of a limit, by key" }))

export class LimitsApi extends HttpApiGroup.make("limits")
  .add(create, list, get, update, remove, usage)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(
    OpenApi.annotations({ title: "Limits", description: "How many tasks of a key run at a time, or start in a time." })
  ) {}
