/**
 * Owns what is said about hooks: addresses at which other systems submit tasks by sending an event of theirs.
 *
 * A hook has a template of the task. Within `payload`, `labels`, `metadata` and every other value of it, three forms stand
 * for something of the request, and nothing else does:
 *
 *   {"$body": "/a/0/b", "default": null}   the value there in the JSON body (RFC 6901; "" is all of it)
 *   {"$header": "x-github-event"}           the header of that name; `default` as above
 *   {"$text": ["Build of ", {"$body": "/ref"}]}   the parts as one text
 *
 * An object with one key `$literal` stands for its value as it is.
 */
import { Schema } from "effect"
import { HookId, HookName, Namespace, TaskId } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { TaskStatus, Timestamp } from "./Task.ts"

/**
 * How a request proves where it comes from.
 *
 * - `secret`: the secret is the last part of its URL.
 * - `standard`: signed after Standard Webhooks, at most 5 minutes ago.
 * - `github`: signed as GitHub does, `X-Hub-Signature-256`.
 */
export const HookAuthentication = Schema.Literals(["secret", "standard", "github"])
export type HookAuthentication = typeof HookAuthentication.Type

/** Requests of a hook per minute and node when it says nothing of it. */
export const hookPerMinuteDefault = 600

const definition = {
  description: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
  idempotency_header: Schema.optionalKey(
    Schema.String.check(Schema.isPattern(/^[A-Za-z0-9-]{1,64}$/u, { expected: "the name of a header" }))
  ).annotateKey({
    description:
      "Requests with the same value of this header make one task. `webhook-id` when absent, `x-github-delivery` for `github`."
  }),
  per_minute: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.hookPerMinuteMax }))
  ).annotateKey({ description: `Requests per minute that a node takes; ${hookPerMinuteDefault} when absent.` })
}

const task = Schema.Record(Schema.String, Schema.Json).annotate({
  description:
    "Template of the task: the fields of SubmitTask, with `$body`, `$header` and `$text` for what is filled in."
})

export const HookSecret = Schema.String.check(
  Schema.isPattern(/^[\x20-\x7e]{16,128}$/u, { expected: "16 to 128 ASCII characters" })
)

export const CreateHook = Schema.Struct({
  name: HookName,
  authentication: HookAuthentication,
  secret: Schema.optionalKey(HookSecret).annotateKey({
    description: "Of `standard` (`whsec_<base64>`) and `github` when the other side chooses it; made when absent."
  }),
  task,
  ...definition
}).annotate({ identifier: "CreateHook" })
export type CreateHook = typeof CreateHook.Type

/** Replaces the parts that are given. */
export const UpdateHook = Schema.Struct({
  name: Schema.optionalKey(HookName),
  task: Schema.optionalKey(task),
  enabled: Schema.optionalKey(Schema.Boolean),
  ...definition
}).annotate({ identifier: "UpdateHook" })
export type UpdateHook = typeof UpdateHook.Type

/** View. Its secret is never in it. */
export const Hook = Schema.Struct({
  id: HookId,
  namespace: Namespace,
  name: HookName,
  description: Schema.NullOr(Schema.String),
  authentication: HookAuthentication,
  idempotency_header: Schema.String,
  per_minute: Schema.Int,
  task: Schema.Json,
  enabled: Schema.Boolean,
  created_by: Schema.String,
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Schema.Int
}).annotate({ identifier: "Hook" })
export type Hook = typeof Hook.Type

export const CreatedHook = Schema.Struct({
  ...Hook.fields,
  secret: Schema.String.annotateKey({ description: "In this answer and never again." }),
  path: Schema.String.annotateKey({
    description: "Where requests go, on any node; with `secret` it ends in the secret."
  })
}).annotate({ identifier: "CreatedHook" })
export type CreatedHook = typeof CreatedHook.Type

export const RotateHook = Schema.Struct({ secret: Schema.optionalKey(HookSecret) }).annotate({
  identifier: "RotateHook"
})
export type RotateHook = typeof RotateHook.Type

/** What a sender is answered. */
export const HookAccepted = Schema.Struct({
  task_id: TaskId,
  status: TaskStatus,
  duplicate: Schema.Boolean
}).annotate({ identifier: "HookAccepted" })
export type HookAccepted = typeof HookAccepted.Type
