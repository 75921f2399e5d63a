/**
 * Owns what is said about limits: rules that bound how many tasks of a key run at a time or start in a time, and that share what
 * there is fairly between groups.
 *
 * A key is read from each task when it is accepted, by an expression: a task without that label or part of the payload is not
 * concerned. Of several limits that apply to a task all must hold.
 */
import { Schema } from "effect"
import { AgentId, AgentRef, LimitId, LimitName, Namespace, TaskType } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { Timestamp } from "./Task.ts"

/** The expression that gives the same key to every task. */
export const everyTask = "*"

/** Where a task's key stands: `labels.<name>`, `payload.<JSON Pointer>` (RFC 6901), or `*` for one key for all tasks. */
export const KeyExpression = Schema.String.check(
  Schema.isMaxLength(Limits.keyExpressionCharactersMax),
  Schema.isPattern(/^(\*|labels\.[^\p{Cc}\p{Cs}]{1,255}|payload\.(\/([^\p{Cc}\p{Cs}~/]|~[01])*)+)$/u, {
    expected: 'an expression such as labels.customer, payload./customer/id, or "*"'
  })
)
export type KeyExpression = typeof KeyExpression.Type

const concurrency = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.limitConcurrencyMax }))

/** A token bucket per key: it holds `burst` tokens and gets `limit` of them per window, evenly. A start takes one. */
export const Rate = Schema.Struct({
  limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.rateLimitMax })).annotateKey({
    description: "Tasks per window."
  }),
  window_ms: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.rateWindowMillisMax })),
  burst: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.rateLimitMax }))
  ).annotateKey({ description: "Tasks that may start at once after a time of rest; `limit` when absent." })
}).annotate({ identifier: "Rate" })
export type Rate = typeof Rate.Type

/** Command: define a limit. */
export const CreateLimit = Schema.Struct({
  name: LimitName,
  description: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
  agent: Schema.optionalKey(AgentRef).annotateKey({ description: "Only tasks of this agent, by id or name." }),
  type: Schema.optionalKey(TaskType).annotateKey({
    description: "Only tasks of this type; of any version unless it names one."
  }),
  key: Schema.optionalKey(KeyExpression).annotateKey({
    description:
      "Each value is limited by itself: `labels.<name>`, `payload.<JSON Pointer>`, or `*`, the default: all tasks together."
  }),
  fair_by: Schema.optionalKey(KeyExpression).annotateKey({
    description: "Tasks of a key that wait take turns by the value of this expression; those without it are one group."
  }),
  concurrency: Schema.optionalKey(concurrency).annotateKey({
    description: "Tasks of a key that may be queued for their agent or run at a time. 0 holds them all."
  }),
  rate: Schema.optionalKey(Rate)
}).annotate({ identifier: "CreateLimit" })
export type CreateLimit = typeof CreateLimit.Type

/** Command: replace the parts that are given. What a limit applies to, its key and its kind never change. */
export const UpdateLimit = Schema.Struct({
  description: CreateLimit.fields.description,
  concurrency: CreateLimit.fields.concurrency,
  rate: CreateLimit.fields.rate
}).annotate({ identifier: "UpdateLimit" })
export type UpdateLimit = typeof UpdateLimit.Type

/** View: a limit. */
export const Limit = Schema.Struct({
  id: LimitId,
  namespace: Namespace,
  name: LimitName,
  description: Schema.NullOr(Schema.String),
  agent_id: Schema.NullOr(AgentId),
  type: Schema.NullOr(TaskType),
  key: Schema.String,
  fair_by: Schema.NullOr(Schema.String),
  concurrency: Schema.NullOr(Schema.Int),
  rate: Schema.NullOr(Schema.Struct({ limit: Schema.Int, window_ms: Schema.Int, burst: Schema.Int })),
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Schema.Int
}).annotate({ identifier: "Limit" })
export type Limit = typeof Limit.Type

const count = (description: string) => Schema.Int.annotateKey({ description })

/** View: what is taken of one key. */
export const KeyUsage = Schema.Struct({
  key: Schema.String,
  running: count("Tasks that count against it: queued for their agent, or running."),
  waiting: count(`Tasks in its queue; counted up to ${Limits.waitingCountedMax}.`),
  tokens: Schema.NullOr(Schema.Finite).annotateKey({ description: "Of a rate: tokens there are now." })
}).annotate({ identifier: "KeyUsage" })
export type KeyUsage = typeof KeyUsage.Type

/** View: what is taken of a limit, as its keys stand. */
export const LimitUsage = Schema.Struct({
  limit_id: LimitId,
  name: LimitName,
  keys: Schema.Array(KeyUsage).annotateKey({ description: "Those with most tasks that wait, then that run, first." }),
  more_keys: Schema.Boolean.annotateKey({ description: "True when there are keys that are not shown." })
}).annotate({ identifier: "LimitUsage" })
export type LimitUsage = typeof LimitUsage.Type
