/** Webhooks and hooks for tests of doors: one of each is known, permissions are checked, and nothing is sent. */
import { Effect, Layer } from "effect"
import type { Hook } from "../../protocol/Hook.ts"
import { DeliveryId, HookId, HookName, Namespace, WebhookId } from "../../protocol/Ids.ts"
import { DeliveryNotFound, HookNotFound, WebhookNotFound } from "../../protocol/Problem.ts"
import { type Delivery, type Webhook, webhookRetryDefault } from "../../protocol/Webhook.ts"
import { authorize } from "../../src/app/authorize.ts"
import { Hooks } from "../../src/app/Hooks.ts"
import { Webhooks } from "../../src/app/Webhooks.ts"

const at = "2026-11-23T10:00:00.000000Z"
const known = "01900000-0000-7000-8000-000000000001"
const namespace = Namespace.make("default")

const webhook: Webhook = {
  id: WebhookId.make(known),
  namespace,
  name: HookName.make("ends"),
  url: "https://example.com/",
  filter: {},
  description: null,
  include_result: false,
  retry: webhookRetryDefault,
  timeout_ms: 10_000,
  concurrency: 4,
  disable_after: 20,
  enabled: true,
  disabled_reason: null,
  disabled_at: null,
  failures: 0,
  previous_secret_until: null,
  created_by: "key:test",
  created_at: at,
  updated_at: at,
  version: 1
}

const delivery: Delivery = {
  id: DeliveryId.make(known),
  webhook_id: webhook.id,
  event: "Ping",
  aggregate: null,
  number: null,
  status: "delivered",
  attempt: 1,
  next_attempt_at: null,
  response_status: 204,
  duration_ms: 1,
  error: null,
  history: [],
  created_at: at,
  ended_at: at
}

const hook: Hook = {
  id: HookId.make(known),
  namespace,
  name: HookName.make("pushes"),
  description: null,
  authentication: "secret",
  idempotency_header: "webhook-id",
  per_minute: 600,
  task: { type: "echo" },
  enabled: true,
  created_by: "key:test",
  created_at: at,
  updated_at: at,
  version: 1
}

const secret = "whsec_dGVzdA=="

const ofWebhook = (id: WebhookId) =>
  id === webhook.id
    ? Effect.succeed(webhook)
    : Effect.fail(new WebhookNotFound({ webhook_id: id, detail: `There is no webhook ${id}.` }))

const ofHook = (id: string) =>
  id === hook.id
    ? Effect.succeed(hook)
    : Effect.fail(new HookNotFound({ hook_id: id, detail: "There is no such hook." }))

const webhooks = Webhooks.of({
  create: (command) =>
    Effect.as(authorize("webhook:write"), { ...webhook, name: command.name, url: command.url, secret }),
  list: () => Effect.as(authorize("webhook:read"), { data: [webhook], next_cursor: null }),
  get: (id) => Effect.andThen(authorize("webhook:read"), ofWebhook(id)),
  update: (id) => Effect.andThen(authorize("webhook:write"), ofWebhook(id)),
  remove: (id) => Effect.andThen(authorize("webhook:write"), Effect.asVoid(ofWebhook(id))),
  rotate: (id) =>
    Effect.andThen(
      authorize("webhook:write"),
      Effect.map(ofWebhook(id), (found) => ({ ...found, secret }))
    ),
  test: (id) => Effect.andThen(authorize("webhook:write"), Effect.as(ofWebhook(id), delivery)),
  enable: (id) => Effect.andThen(authorize("webhook:write"), ofWebhook(id)),
  disable: (id) => Effect.andThen(authorize("webhook:write"), ofWebhook(id)),
  deliveries: (id) =>
    Effect.andThen(authorize("webhook:read"), Effect.as(ofWebhook(id), { data: [delivery], next_cursor: null })),
  replayOne: (id, of) =>
    Effect.andThen(
      authorize("webhook:write"),
      Effect.flatMap(ofWebhook(id), () =>
        of === delivery.id ? Effect.succeed(delivery) : Effect.fail(new DeliveryNotFound({ delivery_id: of }))
      )
    ),
  replay: (id) => Effect.andThen(authorize("webhook:write"), Effect.as(ofWebhook(id), { replayed: 1, more: false }))
})

const hooks = Hooks.of({
  create: (command) =>
    Effect.as(authorize("webhook:write", "task:create"), {
      ...hook,
      name: command.name,
      secret,
      path: `/api/v1/hooks/${hook.id}`
    }),
  list: () => Effect.as(authorize("webhook:read"), { data: [hook], next_cursor: null }),
  get: (id) => Effect.andThen(authorize("webhook:read"), ofHook(id)),
  update: (id) => Effect.andThen(authorize("webhook:write", "task:create"), ofHook(id)),
  remove: (id) => Effect.andThen(authorize("webhook:write"), Effect.asVoid(ofHook(id))),
  rotate: (id) =>
    Effect.andThen(
      authorize("webhook:write"),
      Effect.map(ofHook(id), (found) => ({ ...found, secret, path: `/api/v1/hooks/${found.id}` }))
    ),
  call: ({ id }) => Effect.fail(new HookNotFound({ hook_id: id, detail: "There is no such hook." }))
})

export const layer = Layer.merge(Layer.succeed(Webhooks, webhooks), Layer.succeed(Hooks, hooks))
