/** Retry policies of every kind, for properties: what `RetryPolicy` takes, without those that it refuses. */
import { Schema } from "effect"
import * as Limits from "../../protocol/Limits.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const delay = between(0, Limits.retryDelayMillisMax)

const shared = {
  delay_max_ms: Schema.optionalKey(delay),
  jitter: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })))
}

export const anyPolicy = Schema.Union([
  Schema.Struct({
    ...shared,
    kind: Schema.optionalKey(Schema.Literal("exponential")),
    delay_ms: Schema.optionalKey(delay),
    factor: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: 10 })))
  }),
  Schema.Struct({ ...shared, kind: Schema.Literal("linear"), delay_ms: Schema.optionalKey(delay) }),
  Schema.Struct({ ...shared, kind: Schema.Literal("fixed"), delay_ms: Schema.optionalKey(delay) }),
  Schema.Struct({
    ...shared,
    kind: Schema.Literal("list"),
    delays_ms: Schema.Array(delay).check(Schema.isBetweenLength(1, 20))
  })
])
