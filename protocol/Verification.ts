/**
 * What `datamcp verify` answers: which promises it looked at, on how much, and where one does not hold.
 */
import { Schema } from "effect"
import { Namespace } from "./Ids.ts"

/** One thing that a check found to be otherwise than promised. */
export const Breach = Schema.Struct({
  /** Id of the check. */
  check: Schema.String,
  /** What it was found at: the id of a task, agent or schedule, or a key. */
  subject: Schema.String,
  /** What is there, and what should be. */
  found: Schema.String
})
export type Breach = typeof Breach.Type

export const CheckOutcome = Schema.Struct({
  id: Schema.String,
  /** The promise, in the numbering of docs/guarantees.md. */
  guarantee: Schema.String,
  promise: Schema.String,
  /** `skipped`: it needs all tasks, and these are too many to be read unasked. */
  outcome: Schema.Literals(["holds", "broken", "skipped"]),
  broken: Schema.Number
})
export type CheckOutcome = typeof CheckOutcome.Type

export const Verification = Schema.Struct({
  ok: Schema.Boolean,
  /** Null: all of them. */
  namespace: Schema.NullOr(Namespace),
  /** Tasks that were accepted since then were looked at; null: all tasks. */
  since: Schema.NullOr(Schema.String),
  tasks: Schema.Number,
  checks: Schema.Array(CheckOutcome),
  /** At most 1,000 of each check. */
  breaches: Schema.Array(Breach)
})
export type Verification = typeof Verification.Type

/** What is to be looked at. */
export interface VerificationScope {
  /** Undefined: all of them. */
  readonly namespace: Namespace | undefined
  /** Tasks that were accepted within so long; undefined: all tasks. */
  readonly sinceMillis: number | undefined
}
