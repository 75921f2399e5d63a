/**
 * Owns whether spans are recorded and where they go: over OTLP/HTTP when an endpoint is configured, else nowhere at all.
 *
 * A trace begins at a door (a span of kind `server` or `consumer`) or continues a `traceparent`; spans of loops that begin
 * by themselves are not recorded, and nothing hangs below the span of whoever started the node. The sampler decides once per trace, a caller's decision stands. Memory is bounded: when
 * the collector does not keep up, spans are dropped, never work delayed.
 */
import { Duration, Effect, Layer, Option, Redacted, References, Semaphore, Tracer } from "effect"
import { FetchHttpClient, HttpClient, HttpClientError } from "effect/http"
import { OtlpExporter, OtlpMetrics, OtlpSerialization, OtlpTracer } from "effect/observability"
import { noSpan } from "../../protocol/TraceContext.ts"

export interface TracingOptions {
  /** Base URL of an OTLP/HTTP collector; undefined turns everything off. */
  readonly endpoint: string | undefined
  readonly headers?: Redacted.Redacted<Readonly<Record<string, string>>> | undefined
  readonly serviceName: string
  readonly serviceVersion: string
  /** Becomes `service.instance.id`. */
  readonly nodeName: string
  /** Share of the traces begun here that are recorded, 0 to 1. */
  readonly sampleRatio: number
  readonly exportInterval?: Duration.Input
}

/** Most spans of one export request; also about what waits while one is built. */
const spansPerRequest = 512
/** Export requests that may be on the way at a time. What comes beyond is dropped, and export pauses for a minute. */
const requestsMax = 8
const requestTimeout = Duration.seconds(5)
/** How long the end of the process may wait for the last export. */
const shutdownTimeout = Duration.seconds(1)

/** Tracer, and export of metrics. With no endpoint: spans cost nothing, and no exporter runs. */
export const layer = (options: TracingOptions): Layer.Layer<Tracer.ParentSpan> =>
  Layer.merge(
    Layer.succeed(Tracer.ParentSpan, noSpan),
    options.endpoint === undefined
      ? Layer.succeed(References.TracerEnabled, false)
      : exporting(options, options.endpoint)
  )

const exporting = (options: TracingOptions, endpoint: string) => {
  const base = endpoint.replace(/\/+$/u, "")
  const shared = {
    headers: options.headers === undefined ? undefined : Redacted.value(options.headers),
    exportInterval: options.exportInterval ?? Duration.seconds(10),
    shutdownTimeout,
    resource: {
      serviceName: options.serviceName,
      serviceVersion: options.serviceVersion,
      attributes: { "service.instance.id": options.nodeName }
    }
  }
  const tracer = OtlpTracer.make({ ...shared, url: `${base}/v1/traces`, maxBatchSize: spansPerRequest }).pipe(
    Effect.map((exporter) => sampled(exporter, options.sampleRatio))
  )
  return Layer.mergeAll(
    Layer.effect(Tracer.Tracer, tracer),
    Layer.effectDiscard(OtlpMetrics.make({ ...shared, url: `${base}/v1/metrics` }))
  ).pipe(Layer.provide([OtlpExporter.layerFlusher, OtlpSerialization.layerJson, boundedClient]))
}

/** A tracer that records a share of the traces that begin at doors, and what continues a recorded one. */
export const sampled = (recording: Tracer.Tracer, ratio: number): Tracer.Tracer =>
  Tracer.make({
    span: (options) => {
      const recorded = Option.isSome(options.parent) ? options.parent.value.sampled : begins(options.kind, ratio)
      return options.sampled && recorded
        ? recording.span(options)
        : new Tracer.NativeSpan({ ...options, sampled: false })
    }
  })

const begins = (kind: Tracer.SpanKind, ratio: number) =>
  (kind === "server" || kind === "consumer") && (ratio >= 1 || Math.random() < ratio)

/** Each request has a time limit, and there are only so many at once: a collector that hangs holds no memory of ours. */
const boundedClient = Layer.effect(
  HttpClient.HttpClient,
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const permits = yield* Semaphore.make(requestsMax)
    return HttpClient.transform(client, (effect, request) => {
      const failure = (description: string) =>
        new HttpClientError.HttpClientError({
          reason: new HttpClientError.TransportError({ request, description, cause: description })
        })
      return effect.pipe(
        Effect.timeoutOrElse({
          duration: requestTimeout,
          orElse: () => Effect.fail(failure("the collector did not answer in time"))
        }),
        Semaphore.withPermitsIfAvailable(permits, 1),
        Effect.flatMap(
          Option.match({
            onNone: () => Effect.fail(failure("too many exports are on the way")),
            onSome: Effect.succeed
          })
        )
      )
    })
  })
).pipe(Layer.provide(FetchHttpClient.layer))
