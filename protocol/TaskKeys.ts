/**
 * Owns what is said about keys by which submissions meet: one that a single live task may have, and one under which
 * submissions join a task that waits for more of them.
 *
 * Keys of a namespace: the same key in another namespace is another key, and so is one of the other kind. Unlike an
 * idempotency key, which says that two submissions are the same one, these are about different submissions.
 */
import { Schema } from "effect"
import * as Limits from "./Limits.ts"

export const TaskKey = Schema.String.check(Schema.isBetweenLength(1, Limits.taskKeyCharactersMax))

/** What becomes of a submission whose key a live task has: a problem that names that task, or that task as the answer. */
export const OnConflict = Schema.Literals(["refuse", "existing"])
export type OnConflict = typeof OnConflict.Type

/** Only if no task that has not ended has this key. */
export const Unique = Schema.Struct({
  key: TaskKey,
  on_conflict: Schema.optionalKey(OnConflict).annotateKey({
    description:
      "When a live task has the key: `refuse` with 409 and its id (the default), or answer with the `existing` one."
  })
}).annotate({ identifier: "Unique" })
export type Unique = typeof Unique.Type

/** What a task that gathers submissions keeps of their payloads. */
export const Keep = Schema.Literals(["latest", "all"])
export type Keep = typeof Keep.Type

const waitMillis = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.coalesceMillisMax }))

/** Join the task that waits under this key, or begin one. */
export const Coalesce = Schema.Struct({
  key: TaskKey,
  keep: Keep.annotateKey({
    description:
      "`latest`: the payload of the last submission replaces the others'. `all`: the payload is the list of all of them."
  }),
  quiet_ms: Schema.optionalKey(waitMillis).annotateKey({
    description: "The task starts when no submission has joined it for so long."
  }),
  max_wait_ms: Schema.optionalKey(waitMillis).annotateKey({
    description: `It starts so long after the first submission at the latest; ${Limits.coalesceMillisMax} when absent. One of the two times must be given.`
  }),
  max_items: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 2, maximum: Limits.coalescedItemsMax }))
  ).annotateKey({
    description: `Of \`all\`: it starts when so many have joined, as the first submission says; ${Limits.coalescedItemsMax} when absent.`
  })
}).annotate({ identifier: "Coalesce" })
export type Coalesce = typeof Coalesce.Type
