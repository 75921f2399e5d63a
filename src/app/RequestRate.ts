/**
 * Bounds how often something may be asked of this node: a bucket of tokens for each id that fills with time, and holds a
 * tenth of a minute's worth, at least ten. Ids that have been quiet for a minute are forgotten.
 */
import { Clock, Effect } from "effect"

interface Bucket {
  tokens: number
  at: number
}

/** Takes one token of an id, or says in how many seconds there is one. */
export const make = Effect.map(Clock.Clock, (clock) => {
  const buckets = new Map<string, Bucket>()
  let swept = 0

  const sweep = (now: number) => {
    if (now - swept < forgetMillis) return
    swept = now
    for (const [id, { at }] of buckets) if (now - at > forgetMillis) buckets.delete(id)
  }

  return (id: string, perMinute: number): number | undefined => {
    const now = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
    sweep(now)
    const size = Math.max(10, perMinute / 10)
    const perMilli = perMinute / 60_000
    const bucket = buckets.get(id) ?? { tokens: size, at: now }
    bucket.tokens = Math.min(size, bucket.tokens + (now - bucket.at) * perMilli)
    bucket.at = now
    buckets.set(id, bucket)
    if (bucket.tokens < 1) return Math.ceil((1 - bucket.tokens) / perMilli / 1_000)
    bucket.tokens -= 1
    return undefined
  }
})

const forgetMillis = 60_000
