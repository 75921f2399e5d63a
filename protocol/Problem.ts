/**
 * Owns every expected failure that a caller can meet, as RFC 9457 problem details with a stable `type`.
 *
 * HTTP answers them as `application/problem+json`, NATS as the same JSON with `Nats-Service-Error` headers, the
 * command line as one line. A failure that is not listed here is a defect and answers 500 without details.
 */
import { Schema } from "effect"
import { HttpApiError } from "effect/http-api"

const type = <const S extends string>(slug: S) => `urn:datamcp:problem:${slug}` as const

/** One refused value: where it stands and which rule it breaks. */
export const InvalidField = Schema.Struct({
  /** JSON Pointer-like path, e.g. `tasks.load.payload`. Empty for the whole input. */
  field: Schema.String,
  message: Schema.String,
  /** The limit that was passed, where there is one. */
  limit: Schema.optionalKey(Schema.Finite)
})
export type InvalidField = typeof InvalidField.Type

/** The input breaks a rule of the contract. Nothing was stored. */
export class InvalidInput extends HttpApiError.Problem<InvalidInput>()(
  "InvalidInput",
  { type: type("invalid-input"), status: 422, title: "The input breaks a rule" },
  { errors: Schema.Array(InvalidField) }
) {}

/** The body, payload, batch or page is larger than its limit. Nothing was stored. */
export class TooLarge extends HttpApiError.Problem<TooLarge>()(
  "TooLarge",
  { type: type("too-large"), status: 413, title: "Larger than the limit" },
  { field: Schema.String, limit: Schema.Finite, unit: Schema.String }
) {}

/** No valid credential. */
export class Unauthenticated extends HttpApiError.Problem<Unauthenticated>()("Unauthenticated", {
  type: type("unauthenticated"),
  status: 401,
  title: "A valid API key is required"
}) {}

/** The credential is valid and does not grant this. */
export class Forbidden extends HttpApiError.Problem<Forbidden>()(
  "Forbidden",
  { type: type("forbidden"), status: 403, title: "Not permitted" },
  { permission: Schema.String }
) {}

export class TaskNotFound extends HttpApiError.Problem<TaskNotFound>()(
  "TaskNotFound",
  { type: type("task-not-found"), status: 404, title: "No such task" },
  { task_id: Schema.String }
) {}

export class GraphNotFound extends HttpApiError.Problem<GraphNotFound>()(
  "GraphNotFound",
  { type: type("graph-not-found"), status: 404, title: "No such graph" },
  { graph_id: Schema.String }
) {}

export class AgentNotFound extends HttpApiError.Problem<AgentNotFound>()(
  "AgentNotFound",
  { type: type("agent-not-found"), status: 404, title: "No such agent" },
  { agent: Schema.String }
) {}

export class ScheduleNotFound extends HttpApiError.Problem<ScheduleNotFound>()(
  "ScheduleNotFound",
  { type: type("schedule-not-found"), status: 404, title: "No such schedule" },
  { schedule: Schema.String }
) {}

export class AgentVersionNotFound extends HttpApiError.Problem<AgentVersionNotFound>()(
  "AgentVersionNotFound",
  { type: type("agent-version-not-found"), status: 404, title: "No such version of the agent" },
  { agent: Schema.String, version: Schema.Int }
) {}

export class LimitNotFound extends HttpApiError.Problem<LimitNotFound>()(
  "LimitNotFound",
  { type: type("limit-not-found"), status: 404, title: "No such limit" },
  { limit: Schema.String }
) {}

export class ArtifactNotFound extends HttpApiError.Problem<ArtifactNotFound>()(
  "ArtifactNotFound",
  { type: type("artifact-not-found"), status: 404, title: "No such artifact" },
  { artifact_id: Schema.String }
) {}

export class OperationNotFound extends HttpApiError.Problem<OperationNotFound>()(
  "OperationNotFound",
  { type: type("operation-not-found"), status: 404, title: "No such operation" },
  { operation_id: Schema.String }
) {}

export class KeyNotFound extends HttpApiError.Problem<KeyNotFound>()(
  "KeyNotFound",
  { type: type("key-not-found"), status: 404, title: "No such API key" },
  { key_id: Schema.String }
) {}

export class WebhookNotFound extends HttpApiError.Problem<WebhookNotFound>()(
  "WebhookNotFound",
  { type: type("webhook-not-found"), status: 404, title: "No such webhook" },
  { webhook_id: Schema.String }
) {}

export class DeliveryNotFound extends HttpApiError.Problem<DeliveryNotFound>()(
  "DeliveryNotFound",
  { type: type("delivery-not-found"), status: 404, title: "No such delivery" },
  { delivery_id: Schema.String }
) {}

/** Also for a wrong secret or signature, and for a hook that is disabled. */
export class HookNotFound extends HttpApiError.Problem<HookNotFound>()(
  "HookNotFound",
  { type: type("hook-not-found"), status: 404, title: "No such hook" },
  { hook_id: Schema.String }
) {}

/** The name is taken, the version moved on, or the state does not allow it. */
export class Conflict extends HttpApiError.Problem<Conflict>()(
  "Conflict",
  { type: type("conflict"), status: 409, title: "In conflict with the present state" },
  { reason: Schema.Literals(["name-taken", "version", "state"]), current_version: Schema.optionalKey(Schema.Int) }
) {}

/** A task that has not ended has the key of `unique`. Nothing was stored; `task_id` is that task. */
export class UniqueKeyHeld extends HttpApiError.Problem<UniqueKeyHeld>()(
  "UniqueKeyHeld",
  { type: type("unique-key-held"), status: 409, title: "A live task has this key" },
  { key: Schema.String, field: Schema.String, task_id: Schema.NullOr(Schema.String) }
) {}

/** A task waits under the key of `coalesce` that differs in `field`. Nothing was stored; `task_id` is that task. */
export class CoalesceMismatch extends HttpApiError.Problem<CoalesceMismatch>()(
  "CoalesceMismatch",
  { type: type("coalesce-mismatch"), status: 409, title: "Another kind of task waits under this key" },
  { key: Schema.String, field: Schema.String, task_id: Schema.String }
) {}

/** The idempotency key was used before with another body. */
export class IdempotencyMismatch extends HttpApiError.Problem<IdempotencyMismatch>()(
  "IdempotencyMismatch",
  { type: type("idempotency-mismatch"), status: 422, title: "The idempotency key was used with another body" },
  { key: Schema.String }
) {}

/** Too much work waits to be accepted. Nothing was stored; try again after `retry_after_seconds`. */
export class Overloaded extends HttpApiError.Problem<Overloaded>()(
  "Overloaded",
  { type: type("overloaded"), status: 429, title: "Too much at once" },
  { retry_after_seconds: Schema.Finite }
) {}

/**
 * A part that is needed cannot be reached, or the outcome of a commit could not be learned in time.
 * Submissions with an idempotency key may be repeated safely.
 */
export class Unavailable extends HttpApiError.Problem<Unavailable>()(
  "Unavailable",
  { type: type("unavailable"), status: 503, title: "A part that is needed cannot be reached" },
  { retry_after_seconds: Schema.Finite }
) {}

/** Failures of any command that ends in a submission. */
export const SubmitProblem = [
  InvalidInput,
  TooLarge,
  IdempotencyMismatch,
  UniqueKeyHeld,
  CoalesceMismatch,
  Overloaded,
  Unavailable,
  Forbidden
] as const
export type SubmitProblem = InstanceType<(typeof SubmitProblem)[number]>

/** An invalid input with one refused field. */
export const invalidField = (field: string, message: string, limit?: number) =>
  new InvalidInput({
    detail: field === "" ? message : `${field}: ${message}`,
    errors: [limit === undefined ? { field, message } : { field, message, limit }]
  })
