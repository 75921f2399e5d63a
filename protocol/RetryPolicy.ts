/**
 * Owns what a task or agent may say about further attempts: how long to wait before each, how long in all, and after which
 * errors.
 *
 *   exponential  delay_ms, delay_ms * factor, delay_ms * factor^2, ...
 *   linear       delay_ms, 2 * delay_ms, 3 * delay_ms, ...
 *   fixed        delay_ms, delay_ms, ...
 *   list         the entries of delays_ms in turn; the last one again for attempts beyond them
 *
 * Invariant: what decodes has one meaning. A field that the kind does not use is refused rather than ignored.
 */
import { Schema } from "effect"
import * as Limits from "./Limits.ts"

export const retryKinds = ["exponential", "linear", "fixed", "list"] as const

const millis = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** The code of an error, or the beginning of some with `*` at the end; `*` alone is every error. */
export const ErrorCodePattern = Schema.String.check(
  Schema.isPattern(/^(?=.)[A-Za-z0-9_.:-]{0,64}\*?$/u, {
    expected: "the code of an error such as http_timeout, or its beginning with * at the end, such as http_4*"
  })
)

const ErrorCodePatterns = Schema.Array(ErrorCodePattern).check(Schema.isBetweenLength(1, Limits.retryErrorPatternsMax))

const fields = {
  kind: Schema.optionalKey(Schema.Literals(retryKinds)).annotateKey({
    description: "How delays grow; `exponential` when absent."
  }),
  max_attempts: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.attemptsMax }))
  ).annotateKey({
    description: "The first one included. With a `list`, one more than its delays when absent; else 5."
  }),
  delay_ms: Schema.optionalKey(millis(0, Limits.retryDelayMillisMax)).annotateKey({
    description: "Delay before the second attempt; not with `list`."
  }),
  factor: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: 10 }))).annotateKey({
    description: "What each delay is multiplied by; `exponential` only."
  }),
  delays_ms: Schema.optionalKey(
    Schema.Array(millis(0, Limits.retryDelayMillisMax)).check(Schema.isBetweenLength(1, Limits.attemptsMax))
  ).annotateKey({ description: "Delay before the second attempt, the third, ...; `list` only." }),
  delay_max_ms: Schema.optionalKey(millis(0, Limits.retryDelayMillisMax)).annotateKey({
    description: "Longest delay, also of one that a behaviour asks for, such as by Retry-After."
  }),
  jitter: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))).annotateKey({
    description: "Share of a delay that chance may take off: 0 none, 1 all of it."
  }),
  total_ms: Schema.optionalKey(millis(1, Limits.retryTotalMillisMax)).annotateKey({
    description: "No attempt begins later than this after the first one began."
  }),
  retry_on: Schema.optionalKey(ErrorCodePatterns).annotateKey({
    description:
      "Errors after which there is a further attempt, even where the behaviour sees no use in one; no others."
  }),
  never_retry_on: Schema.optionalKey(ErrorCodePatterns).annotateKey({
    description: "Errors after which there is no further attempt, whatever the behaviour or `retry_on` says."
  })
}

const Fields = Schema.Struct(fields)

/** How a task is tried again. Change by addition only. */
export const RetryPolicy = Fields.check(
  Schema.makeFilter((policy: typeof Fields.Type) => problemOf(policy), { expected: "a policy of one meaning" })
).annotate({ identifier: "RetryPolicy" })
export type RetryPolicy = typeof RetryPolicy.Type

/** The first field that contradicts another one, and why; undefined when none does. */
const problemOf = (policy: typeof Fields.Type) => {
  const { kind = "exponential" } = policy
  const problem = (field: keyof typeof fields, issue: string) => ({ path: [field], issue })
  if (kind === "list" && policy.delays_ms === undefined) return problem("delays_ms", "is needed with kind list")
  if (kind !== "list" && policy.delays_ms !== undefined) return problem("delays_ms", "goes with kind list only")
  if (kind === "list" && policy.delay_ms !== undefined) return problem("delay_ms", "does not go with kind list")
  if (kind !== "exponential" && policy.factor !== undefined) return problem("factor", "goes with kind exponential only")
  const both = policy.never_retry_on?.find((pattern) => policy.retry_on?.includes(pattern) === true)
  return both === undefined ? undefined : problem("never_retry_on", `names "${both}", which stands in retry_on too`)
}
