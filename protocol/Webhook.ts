/**
 * Owns what is said about webhooks: endpoints of others that are told of events, and the log of what they were sent.
 *
 * What is sent follows Standard Webhooks (standardwebhooks.com): the headers `webhook-id`, `webhook-timestamp` and
 * `webhook-signature`, and the body `WebhookBody`. `webhook-id` is the delivery's id, the same on every attempt.
 */
import { Schema } from "effect"
import { Event, EventType } from "./Event.ts"
import { AgentId, AgentRef, DeliveryId, HookName, Namespace, TaskId, TaskType, WebhookId } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { PageQuery } from "./Query.ts"
import { Labels, Timestamp } from "./Task.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const description = Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))

/** Which events are sent: those that fit everything given. */
export const WebhookFilter = Schema.Struct({
  events: Schema.optionalKey(Schema.Array(EventType).check(Schema.isBetweenLength(1, 64))).annotateKey({
    description: "Types of events; all when absent."
  }),
  agent: Schema.optionalKey(AgentRef).annotateKey({ description: "Of this agent, by id or name, and of its tasks." }),
  type: Schema.optionalKey(TaskType).annotateKey({ description: "Of tasks of this type, as it was submitted." }),
  labels: Schema.optionalKey(Labels).annotateKey({ description: "Of tasks with all of these labels." })
}).annotate({ identifier: "WebhookFilter" })
export type WebhookFilter = typeof WebhookFilter.Type

/** How a delivery is tried again: after delays that grow by a factor. What else a task may say of retries has no use here. */
export const DeliveryRetry = Schema.Struct({
  max_attempts: Schema.optionalKey(between(1, Limits.attemptsMax)),
  delay_ms: Schema.optionalKey(between(0, Limits.retryDelayMillisMax)),
  factor: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: 10 }))),
  delay_max_ms: Schema.optionalKey(between(0, Limits.retryDelayMillisMax)),
  jitter: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })))
}).annotate({ identifier: "DeliveryRetry" })
export type DeliveryRetry = typeof DeliveryRetry.Type

/** `retry` when a webhook says nothing of it: 12 attempts over about 28 hours. */
export const webhookRetryDefault = {
  max_attempts: 12,
  delay_ms: 5_000,
  factor: 3,
  delay_max_ms: 6 * 3_600_000,
  jitter: 0.2
} as const
export const webhookConcurrencyDefault = 4
export const webhookDisableAfterDefault = 20

const definition = {
  url: Schema.String.check(Schema.isBetweenLength(1, 8_192)).annotateKey({
    description: "http or https. Addresses that are not on the public internet need the operator's leave."
  }),
  filter: Schema.optionalKey(WebhookFilter),
  description: Schema.optionalKey(description),
  include_result: Schema.optionalKey(Schema.Boolean).annotateKey({
    description: "Whether the event of a task's end comes with its result; false when absent."
  }),
  retry: Schema.optionalKey(DeliveryRetry).annotateKey({
    description: `12 attempts from 5 s to 6 h apart when absent; no longer than ${Limits.webhookTryHours} h in any case.`
  }),
  timeout_ms: Schema.optionalKey(between(100, Limits.webhookTimeoutMillisMax)).annotateKey({
    description: `Longest time to an answer; ${Limits.webhookTimeoutMillisMax} when absent.`
  }),
  concurrency: Schema.optionalKey(between(1, Limits.webhookConcurrencyMax)).annotateKey({
    description: `Deliveries in flight at a time; ${webhookConcurrencyDefault} when absent. 1 sends one after the other.`
  }),
  disable_after: Schema.optionalKey(between(1, 10_000)).annotateKey({
    description: `Deliveries in a row that used up their attempts before it is disabled; ${webhookDisableAfterDefault} when absent.`
  })
}

export const CreateWebhook = Schema.Struct({
  name: HookName,
  ...definition,
  enabled: Schema.optionalKey(Schema.Boolean)
}).annotate({ identifier: "CreateWebhook" })
export type CreateWebhook = typeof CreateWebhook.Type

/** Replaces the parts that are given. */
export const UpdateWebhook = Schema.Struct({
  name: Schema.optionalKey(HookName),
  ...definition,
  url: Schema.optionalKey(definition.url)
}).annotate({ identifier: "UpdateWebhook" })
export type UpdateWebhook = typeof UpdateWebhook.Type

/**
 * Why a webhook is disabled: `asked`, `gone` (its endpoint answered 410), `failures` (`disable_after` was reached),
 * `backlog` (more deliveries waited than are kept).
 */
export const DisabledReason = Schema.Literals(["asked", "gone", "failures", "backlog"])
export type DisabledReason = typeof DisabledReason.Type

/** View. Its secret is never in it. */
export const Webhook = Schema.Struct({
  id: WebhookId,
  namespace: Namespace,
  name: HookName,
  url: Schema.String,
  filter: Schema.Struct({ ...WebhookFilter.fields, agent: Schema.optionalKey(AgentId) }),
  description: Schema.NullOr(Schema.String),
  include_result: Schema.Boolean,
  retry: DeliveryRetry,
  timeout_ms: Schema.Int,
  concurrency: Schema.Int,
  disable_after: Schema.Int,
  enabled: Schema.Boolean,
  disabled_reason: Schema.NullOr(DisabledReason),
  disabled_at: Schema.NullOr(Timestamp),
  failures: Schema.Int.annotateKey({ description: "Deliveries in a row that used up their attempts." }),
  previous_secret_until: Schema.NullOr(Timestamp).annotateKey({
    description: "Until when deliveries are also signed with the secret before the last rotation."
  }),
  created_by: Schema.String,
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Schema.Int
}).annotate({ identifier: "Webhook" })
export type Webhook = typeof Webhook.Type

const Secret = Schema.String.annotateKey({ description: "`whsec_<base64>`. In this answer and never again." })

export const CreatedWebhook = Schema.Struct({ ...Webhook.fields, secret: Secret }).annotate({
  identifier: "CreatedWebhook"
})
export type CreatedWebhook = typeof CreatedWebhook.Type

export const RotateWebhook = Schema.Struct({
  overlap_ms: Schema.optionalKey(between(0, Limits.webhookOverlapMillisMax)).annotateKey({
    description: "How long deliveries are signed with the old secret as well; 24 hours when absent."
  })
}).annotate({ identifier: "RotateWebhook" })
export type RotateWebhook = typeof RotateWebhook.Type
export const webhookOverlapMillisDefault = 86_400_000

export const DeliveryStatus = Schema.Literals(["pending", "sending", "delivered", "failed"])
export type DeliveryStatus = typeof DeliveryStatus.Type

/** View of one event on its way to one webhook. */
export const Delivery = Schema.Struct({
  id: DeliveryId.annotate({ description: "The header `webhook-id`." }),
  webhook_id: WebhookId,
  event: Schema.String.annotateKey({ description: "Type of the event; `Ping` for a test." }),
  aggregate: Schema.NullOr(Schema.String),
  number: Schema.NullOr(Schema.Int),
  status: DeliveryStatus,
  attempt: Schema.Int.annotateKey({ description: "Attempts made so far." }),
  next_attempt_at: Schema.NullOr(Timestamp),
  response_status: Schema.NullOr(Schema.Int).annotateKey({ description: "Of the last attempt that was answered." }),
  duration_ms: Schema.NullOr(Schema.Finite),
  error: Schema.NullOr(Schema.String),
  history: Schema.Array(
    Schema.Struct({
      attempt: Schema.Int,
      at: Timestamp,
      response_status: Schema.NullOr(Schema.Int),
      duration_ms: Schema.NullOr(Schema.Finite),
      error: Schema.NullOr(Schema.String)
    })
  ).annotateKey({ description: "The last 20 attempts, oldest first." }),
  created_at: Timestamp,
  ended_at: Schema.NullOr(Timestamp)
}).annotate({ identifier: "Delivery" })
export type Delivery = typeof Delivery.Type

export const ListDeliveries = Schema.Struct({
  ...PageQuery.fields,
  status: Schema.optionalKey(DeliveryStatus)
})
export type ListDeliveries = typeof ListDeliveries.Type

/** Sends ended deliveries again, those that were made in a range of time. */
export const ReplayDeliveries = Schema.Struct({
  since: Timestamp,
  until: Schema.optionalKey(Timestamp).annotateKey({ description: "Now when absent." }),
  status: Schema.optionalKey(Schema.Literals(["delivered", "failed"])).annotateKey({
    description: "Only those that ended so; `failed` when absent."
  })
}).annotate({ identifier: "ReplayDeliveries" })
export type ReplayDeliveries = typeof ReplayDeliveries.Type

export const Replayed = Schema.Struct({
  replayed: Schema.Int,
  more: Schema.Boolean.annotateKey({
    description: `Whether the range holds more than the ${Limits.webhookReplayMax} of one call: ask again.`
  })
}).annotate({ identifier: "Replayed" })
export type Replayed = typeof Replayed.Type

/** What an endpoint is sent. A ping has `Ping` as its type and the webhook's id as its data. */
export const WebhookBody = Schema.Struct({
  type: EventType,
  timestamp: Timestamp,
  data: Schema.Struct({
    event: Event,
    task: Schema.NullOr(
      Schema.Struct({
        id: TaskId,
        name: Schema.String,
        type: TaskType,
        agent_id: Schema.NullOr(AgentId),
        labels: Labels,
        result: Schema.optionalKey(Schema.Json)
      })
    )
  })
}).annotate({ identifier: "WebhookBody" })
