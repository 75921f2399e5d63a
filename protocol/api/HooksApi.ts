/**
 * Owns the HTTP contract of hooks: define and change them, and the addresses at which other systems use them.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { CreatedHook, CreateHook, Hook, HookAccepted, RotateHook, UpdateHook } from "../Hook.ts"
import { HookId } from "../Ids.ts"
import { Page } from "../Page.ts"
import { Conflict, HookNotFound, SubmitProblem } from "../Problem.ts"
import { PageQuery } from "../Query.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, IfMatch, prefix } from "./Wire.ts"

const params = { id: HookId }
const versioned = { etag: "Version of the hook, for If-Match." }

const create = HttpApiEndpoint.post("create", "/hooks", {
  payload: CreateHook,
  success: CreatedHook.pipe(HttpApiSchema.status(201)),
  error: [Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Define a hook",
    description: "An address at which another system submits tasks. Needs `task:create` too. The secret is shown once.",
    answers: { 201: { location: "Path of the hook.", ...versioned } }
  })
)

const list = HttpApiEndpoint.get("list", "/hooks", { query: PageQuery, success: Page(Hook) }).annotateMerge(
  documented({ summary: "List hooks", description: "Newest first, by cursor." })
)

const get = HttpApiEndpoint.get("get", "/hooks/:id", { params, success: Hook, error: HookNotFound }).annotateMerge(
  documented({ summary: "Get a hook", answers: { 200: versioned } })
)

const update = HttpApiEndpoint.put("update", "/hooks/:id", {
  params,
  headers: { "if-match": Schema.optionalKey(IfMatch) },
  payload: UpdateHook,
  success: Hook,
  error: [HookNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Change a hook",
    description: "Replaces the parts that are given; `enabled: false` makes it answer 404.",
    answers: { 200: versioned }
  })
)

const remove = HttpApiEndpoint.delete("remove", "/hooks/:id", {
  params,
  success: HttpApiSchema.NoContent,
  error: HookNotFound
}).annotateMerge(documented({ summary: "Delete a hook" }))

const rotate = HttpApiEndpoint.post("rotate", "/hooks/:id/rotate", {
  params,
  payload: RotateHook,
  success: CreatedHook,
  error: [HookNotFound, ...BodyProblem]
}).annotateMerge(documented({ summary: "Give a hook a new secret", description: "The old one is refused at once." }))

export class HooksApi extends HttpApiGroup.make("hooks")
  .add(create, list, get, update, remove, rotate)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Hooks", description: "Addresses at which others submit tasks." })) {}

const calls = {
  payload: Schema.Json,
  success: HookAccepted.pipe(HttpApiSchema.status(202)),
  error: [HookNotFound, ...SubmitProblem, ...BodyProblem]
}

const bySecret = HttpApiEndpoint.post("bySecret", "/hooks/:id/:secret", {
  params: { id: Schema.String, secret: Schema.String },
  ...calls
}).annotateMerge(
  documented({
    summary: "Submit a task by a hook's secret",
    description: "Of a hook with authentication `secret`. 404 for a wrong secret as for an unknown hook."
  })
)

const bySignature = HttpApiEndpoint.post("bySignature", "/hooks/:id", {
  params: { id: Schema.String },
  ...calls
}).annotateMerge(
  documented({
    summary: "Submit a task by a signed request",
    description:
      "Of a hook with authentication `standard` or `github`. 404 for a wrong signature as for an unknown hook."
  })
)

/** Answers without a key: the secret or the signature is the proof. */
export class HookCallsApi extends HttpApiGroup.make("hookCalls")
  .add(bySecret, bySignature)
  .prefix(prefix)
  .annotateMerge(
    OpenApi.annotations({ title: "Hook calls", description: "What other systems send to hooks; needs no API key." })
  ) {}
