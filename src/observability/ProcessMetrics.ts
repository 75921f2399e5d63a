/**
 * Owns the figures of the process itself, and that every figure is there from the start.
 *
 * What can be asked at any time is asked when somebody reads; only the event loop's lag is measured in between, by
 * Node's own histogram. Metrics without labels are shown as 0 from the start.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { type Context, Effect, Function, Layer, Metric } from "effect"
import * as Metrics from "../../protocol/Metrics.ts"

/** How often the lag of the event loop is read, and over how long it therefore is. */
const lagWindow = "10 seconds"
/** How often the lag is sampled; a shorter block may go unseen. */
const lagResolutionMillis = 20

export const layer = (options: { readonly version: string }) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const context = yield* Effect.context<never>()
      for (const metric of Metrics.alwaysShown) metric.valueUnsafe(context)
      observeProcess(context)
      Metrics.buildInfo({ version: options.version, node_version: process.versions.node }).updateUnsafe(1, context)
      const histogram = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const delay = monitorEventLoopDelay({ resolution: lagResolutionMillis })
          delay.enable()
          return delay
        }),
        (delay) => Effect.sync(() => delay.disable())
      )
      const read = Effect.sync(() => readLag(histogram, context))
      yield* read
      yield* Effect.forkScoped(Effect.forever(Effect.delay(read, lagWindow)))
    })
  )

/** Nobody sets these: they are read where they arise. */
const observed = { update: Function.constVoid, modify: Function.constVoid }

const observeProcess = (context: Context.Context<never>) => {
  const gauge = (metric: Metric.Gauge<number>, read: () => number) =>
    Metric.registerUnsafe(metric, context, { ...observed, get: () => ({ value: read() }) })
  const counter = (metric: Metric.Counter<number>, read: () => number) =>
    Metric.registerUnsafe(metric, context, { ...observed, get: () => ({ count: read(), incremental: true }) })
  gauge(Metrics.processMemoryBytes({ kind: "resident" }), () => process.memoryUsage.rss())
  gauge(Metrics.processMemoryBytes({ kind: "heap_used" }), () => process.memoryUsage().heapUsed)
  gauge(Metrics.processMemoryBytes({ kind: "heap_total" }), () => process.memoryUsage().heapTotal)
  gauge(Metrics.processMemoryBytes({ kind: "external" }), () => process.memoryUsage().external)
  counter(Metrics.processCpuSeconds({ mode: "user" }), () => process.cpuUsage().user / 1e6)
  counter(Metrics.processCpuSeconds({ mode: "system" }), () => process.cpuUsage().system / 1e6)
  gauge(Metrics.processUptimeSeconds, () => process.uptime())
}

/** The histogram counts from one tick to the next; what is beyond the resolution is lag. */
const readLag = (histogram: ReturnType<typeof monitorEventLoopDelay>, context: Context.Context<never>) => {
  const seconds = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - lagResolutionMillis / 1e3)
  const set = (quantile: string, nanoseconds: number) =>
    Metrics.eventLoopLagSeconds({ quantile }).updateUnsafe(histogram.count === 0 ? 0 : seconds(nanoseconds), context)
  set("0.5", histogram.percentile(50))
  set("0.99", histogram.percentile(99))
  set("1", histogram.max)
  histogram.reset()
}
