/**
 * Owns how a trace travels between processes: the W3C `traceparent` (Trace Context, version 00), read and written here.
 *
 * It rides in HTTP and NATS headers, in `TaskOrder.trace` and in events, so that spans of one submission hang together
 * over HTTP, ledger, dispatch, instance and completion. A malformed one is dropped, never refused: a trace is no
 * reason to fail a task. Whether spans are recorded at all is decided elsewhere; with tracing off nothing here opens one.
 */
import { Context, Effect, Option, Tracer } from "effect"

/** The lower-case name of the header, in HTTP and in NATS. */
export const traceparentHeader = "traceparent"

const pattern = /^00-(?<traceId>[0-9a-f]{32})-(?<spanId>[0-9a-f]{16})-(?<flags>[0-9a-f]{2})$/u

/** The span that a `traceparent` names; undefined when it is absent, malformed, all zeros, or of another version. */
export const parseTraceparent = (text: string | undefined): Tracer.ExternalSpan | undefined => {
  const parts = text === undefined ? undefined : pattern.exec(text)?.groups
  if (parts === undefined) return undefined
  const { flags = "", spanId = "", traceId = "" } = parts
  if (/^0+$/u.test(traceId) || /^0+$/u.test(spanId)) return undefined
  return Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 })
}

/** The `traceparent` that names a span as the parent of what follows. */
export const formatTraceparent = (span: {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}): string => `00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`

/** The trace id within a `traceparent`: 32 hex digits, the id that logs and events carry. */
export const traceIdOf = (traceparent: string | undefined): string | undefined => parseTraceparent(traceparent)?.traceId

/** The nearest span that is no placeholder: with tracing off, spans are, and the caller's own `traceparent` lies below them. */
export const realSpan = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  let found = span
  while (found !== undefined && Context.get(found.annotations, Tracer.DisablePropagation)) {
    found = found._tag === "Span" ? Option.getOrUndefined(found.parent) : undefined
  }
  return found
}

/** The `traceparent` of the span in force; undefined when there is none. Cheap: opens nothing. */
export const currentTraceparent: Effect.Effect<string | undefined> = Effect.map(
  Effect.serviceOption(Tracer.ParentSpan),
  (found) => {
    const span = realSpan(Option.getOrUndefined(found))
    return span === undefined ? undefined : formatTraceparent(span)
  }
)

/** Runs an effect below the span that a `traceparent` names; without a valid one, as it is. */
export const withRemoteParent =
  (traceparent: string | undefined) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const parent = parseTraceparent(traceparent)
    return parent === undefined ? effect : Effect.provideService(effect, Tracer.ParentSpan, parent)
  }

/**
 * Runs an effect in a span that continues a `traceparent`, or begins a trace when there is no valid one: never below
 * the fiber that happens to run it, which may live for days.
 */
export const withSpanFrom =
  (traceparent: string | undefined, name: string, options: Omit<Tracer.SpanOptionsNoTrace, "parent" | "root"> = {}) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const parent = parseTraceparent(traceparent)
    return Effect.withSpan(effect, name, parent === undefined ? { ...options, root: true } : { ...options, parent })
  }

/** Stands for no span at all: below it a trace begins anew. For what outlives whoever started it. */
export const noSpan: Tracer.AnySpan = Tracer.externalSpan({
  traceId: "0".repeat(32),
  spanId: "0".repeat(16),
  sampled: false,
  annotations: Context.make(Tracer.DisablePropagation, true)
})
