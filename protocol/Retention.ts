/**
 * Owns what is said about retention: after how long a namespace's ended tasks are deleted.
 */
import { Schema } from "effect"
import { ArtifactId, Namespace } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { TerminalStatus, Timestamp } from "./Task.ts"
import { taskFilterFields } from "./TaskFilter.ts"

export const RetentionRule = Schema.Struct({
  status: Schema.optionalKey(Schema.Array(TerminalStatus).check(Schema.isBetweenLength(1, 4))).annotateKey({
    description: "Ended so; in any way when absent."
  }),
  type: taskFilterFields.type,
  label: taskFilterFields.label,
  delete_after_ms: Schema.NullOr(
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.retentionMillisMax }))
  ).annotateKey({ description: "Time from the task's end to its deletion; null keeps it for ever." }),
  archive: Schema.optionalKey(Schema.Boolean).annotateKey({
    description: "Write it to an artifact (NDJSON, gzip) before."
  })
}).annotate({ identifier: "RetentionRule" })
export type RetentionRule = typeof RetentionRule.Type

/** Command: the rules of a namespace, in place of the old ones. The first that fits a task decides; none keeps it. */
export const SetRetention = Schema.Struct({
  rules: Schema.Array(RetentionRule).check(Schema.isMaxLength(Limits.retentionRulesMax))
}).annotate({ identifier: "SetRetention" })
export type SetRetention = typeof SetRetention.Type

/** View: the rules, and what came of them. */
export const Retention = Schema.Struct({
  namespace: Namespace,
  rules: Schema.Array(RetentionRule),
  version: Schema.Int.annotateKey({ description: "0: nothing was ever set, and everything is kept." }),
  updated_at: Schema.NullOr(Timestamp),
  deleted: Schema.Int.annotateKey({ description: "Tasks that were deleted by rules so far." }),
  archives: Schema.Array(Schema.Struct({ artifact_id: ArtifactId, tasks: Schema.Int, at: Timestamp })).annotateKey({
    description: "The newest archives."
  })
}).annotate({ identifier: "Retention" })
export type Retention = typeof Retention.Type
