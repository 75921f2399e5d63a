/** Arithmetic on measurements: quantiles, rates, and the median of several rounds. */

/** Figures of one run, by name. */
export type Figures = Readonly<Record<string, number>>

/** A figure over several rounds. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** A quantile of the samples (nearest rank), rounded to a hundredth; NaN without samples. */
export const quantile = (samples: ReadonlyArray<number>, at: number): number => {
  const sorted = [...samples].sort((left, right) => left - right)
  return hundredths(sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))] ?? Number.NaN)
}

/** The middle sample, or the mean of the two in the middle. */
export const median = (samples: ReadonlyArray<number>): number => {
  const sorted = [...samples].sort((left, right) => left - right)
  const middle = (sorted.length - 1) / 2
  return hundredths(((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2)
}

export const hundredths = (value: number): number => Math.round(value * 100) / 100

/** Whole things per second. */
export const perSecond = (count: number, millis: number): number => Math.round((count / millis) * 1_000)

/** `p50`, `p95`, `p99` and `max`, each with `prefix` and `_ms`. */
export const percentiles = (prefix: string, millis: ReadonlyArray<number>): Figures => ({
  [`${prefix}p50_ms`]: quantile(millis, 0.5),
  [`${prefix}p95_ms`]: quantile(millis, 0.95),
  [`${prefix}p99_ms`]: quantile(millis, 0.99),
  [`${prefix}max_ms`]: quantile(millis, 1)
})

/** Each figure that any round has, over the rounds that have it. */
export const spreads = (rounds: ReadonlyArray<Figures>): Readonly<Record<string, Spread>> => {
  const names = new Set(rounds.flatMap((figures) => Object.keys(figures)))
  return Object.fromEntries(
    [...names].map((name) => {
      const samples = rounds.map((figures) => figures[name]).filter((sample) => sample !== undefined)
      return [name, { median: median(samples), min: Math.min(...samples), max: Math.max(...samples) }]
    })
  )
}
