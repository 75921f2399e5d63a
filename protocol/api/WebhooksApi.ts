/**
 * Owns the HTTP contract of webhooks: define, change, test, and see what was delivered.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { DeliveryId, WebhookId } from "../Ids.ts"
import { Page } from "../Page.ts"
import { Conflict, DeliveryNotFound, Overloaded, WebhookNotFound } from "../Problem.ts"
import { PageQuery } from "../Query.ts"
import {
  CreatedWebhook,
  CreateWebhook,
  Delivery,
  ListDeliveries,
  ReplayDeliveries,
  Replayed,
  RotateWebhook,
  UpdateWebhook,
  Webhook
} from "../Webhook.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, IfMatch, prefix } from "./Wire.ts"

const params = { id: WebhookId }
const versioned = { etag: "Version of the webhook, for If-Match." }

const create = HttpApiEndpoint.post("create", "/webhooks", {
  payload: CreateWebhook,
  success: CreatedWebhook.pipe(HttpApiSchema.status(201)),
  error: [Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Define a webhook",
    description:
      "Every matching event that is committed after the answer is delivered at least once. The secret is shown once.",
    answers: { 201: { location: "Path of the webhook.", ...versioned } }
  })
)

const list = HttpApiEndpoint.get("list", "/webhooks", { query: PageQuery, success: Page(Webhook) }).annotateMerge(
  documented({ summary: "List webhooks", description: "Newest first, by cursor." })
)

const get = HttpApiEndpoint.get("get", "/webhooks/:id", {
  params,
  success: Webhook,
  error: WebhookNotFound
}).annotateMerge(documented({ summary: "Get a webhook", answers: { 200: versioned } }))

const update = HttpApiEndpoint.put("update", "/webhooks/:id", {
  params,
  headers: { "if-match": Schema.optionalKey(IfMatch) },
  payload: UpdateWebhook,
  success: Webhook,
  error: [WebhookNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Change a webhook",
    description: "Replaces the parts that are given; `filter` and `retry` as wholes.",
    answers: { 200: versioned }
  })
)

const remove = HttpApiEndpoint.delete("remove", "/webhooks/:id", {
  params,
  success: HttpApiSchema.NoContent,
  error: WebhookNotFound
}).annotateMerge(documented({ summary: "Delete a webhook", description: "With its deliveries, sent or not." }))

const rotate = HttpApiEndpoint.post("rotate", "/webhooks/:id/rotate", {
  params,
  payload: RotateWebhook,
  success: CreatedWebhook,
  error: [WebhookNotFound, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Give a webhook a new secret",
    description: "Deliveries are signed with both for `overlap_ms`. The new one is shown once."
  })
)

const test = HttpApiEndpoint.post("test", "/webhooks/:id/test", {
  params,
  success: Delivery,
  error: [WebhookNotFound, Overloaded]
}).annotateMerge(
  documented({
    summary: "Send a ping now",
    description: "One attempt, also to a webhook that is disabled; the answer says what came of it."
  })
)

const enable = HttpApiEndpoint.post("enable", "/webhooks/:id/enable", {
  params,
  success: Webhook,
  error: WebhookNotFound
}).annotateMerge(
  documented({ summary: "Enable a webhook", description: "What waited when it was disabled is sent then." })
)

const disable = HttpApiEndpoint.post("disable", "/webhooks/:id/disable", {
  params,
  success: Webhook,
  error: WebhookNotFound
}).annotateMerge(
  documented({ summary: "Disable a webhook", description: "It is told of nothing that happens meanwhile." })
)

const deliveries = HttpApiEndpoint.get("deliveries", "/webhooks/:id/deliveries", {
  params,
  query: ListDeliveries,
  success: Page(Delivery),
  error: WebhookNotFound
}).annotateMerge(documented({ summary: "List deliveries", description: "Newest first, by cursor; kept for 7 days." }))

const replayOne = HttpApiEndpoint.post("replayOne", "/webhooks/:id/deliveries/:delivery/replay", {
  params: { id: WebhookId, delivery: DeliveryId },
  success: Delivery,
  error: [WebhookNotFound, DeliveryNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Send a delivery again",
    description: "With its `webhook-id` and body, and as many attempts as the first time. 409 while it has not ended."
  })
)

const replay = HttpApiEndpoint.post("replay", "/webhooks/:id/replay", {
  params,
  payload: ReplayDeliveries,
  success: Replayed,
  error: [WebhookNotFound, Conflict, ...BodyProblem]
}).annotateMerge(documented({ summary: "Send the deliveries of a range of time again" }))

export class WebhooksApi extends HttpApiGroup.make("webhooks")
  .add(create, list, get, update, remove, rotate, test, enable, disable, deliveries, replayOne, replay)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Webhooks", description: "Endpoints that are told of events." })) {}
