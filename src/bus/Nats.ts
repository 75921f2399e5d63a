/**
 * Owns the one connection of this process to NATS: made at start within a bound, made again for ever after, drained at
 * the end. Only `src/bus/` and `src/nats/` see it.
 *
 * Invariant: nothing grows while the server is away or slow. The client itself keeps what is published then, without
 * bound; so everybody publishes through `publish`, which refuses while the connection is down and while too many bytes
 * are on their way that the server has not been seen to take.
 */
import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream"
import type { NatsConnection, PublishOptions, Status } from "@nats-io/transport-node"
import { Context, Duration, Effect, Layer, Metric, Result, type Scope, Stream } from "effect"
import { BusUnavailable } from "../../actors/ports/Bus.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { close, cut, type NatsOptions, open } from "./NatsConnecting.ts"

export const NatsLimits = Context.Reference<{
  /** How long the first connection is tried for. */
  readonly connectPatience: Duration.Duration
  /** How long messages under way may take at the end. */
  readonly drainPatience: Duration.Duration
  /** How long one request to JetStream may take. */
  readonly requestPatience: Duration.Duration
  /** How often the server is asked whether it is there; after two questions without answer the connection is given up. */
  readonly pingEvery: Duration.Duration
  /** Bytes published that the server has not been seen to take. */
  readonly unseenBytesMax: number
}>("datamcp/bus/NatsLimits", {
  defaultValue: () => ({
    connectPatience: Duration.seconds(10),
    drainPatience: Duration.seconds(2),
    requestPatience: Duration.seconds(5),
    pingEvery: Duration.seconds(5),
    unseenBytesMax: 16 * 1024 * 1024
  })
})

export class Nats extends Context.Service<
  Nats,
  {
    readonly connection: NatsConnection
    readonly jetstream: JetStreamClient
    readonly manager: JetStreamManager
    /** False from the moment a loss is noticed: at most three times `pingEvery` after it. */
    readonly connected: () => boolean
    /** Connected, and the server keeps up. */
    readonly ready: () => boolean
    /** Hands a message to the connection. False, and nothing is sent, while not `ready` or when it is too large. */
    readonly publish: (subject: string, payload: string | Uint8Array, options?: PublishOptions) => boolean
    /** Calls back after the connection was lost (false) or made again (true). The handler must not throw or block. */
    readonly onConnection: (handler: (connected: boolean) => void) => Effect.Effect<void, never, Scope.Scope>
    /**
     * A request to JetStream. Fails at once while the connection is down and when it is lost meanwhile: the client
     * would wait for an answer that cannot come.
     */
    readonly request: <A>(operation: string, request: () => Promise<A>) => Effect.Effect<A, BusUnavailable>
    /** Waits until the server has seen all that was sent before, at most a second. */
    readonly flushed: Effect.Effect<void>
  }
>()("datamcp/bus/Nats") {
  static readonly layer = (options: NatsOptions) => Layer.effect(Nats, make(options))
}

const make = Effect.fnUntraced(function* (options: NatsOptions) {
  const limits = yield* NatsLimits
  const context = yield* Effect.context<never>()
  const handlers = new Set<(connected: boolean) => void>()
  let connected = true
  let unseenBytes = 0
  let flushing = false

  const connection = yield* Effect.acquireRelease(
    open(options, limits),
    (opened) => close(opened, connected, limits.drainPatience),
    { interruptible: true }
  )
  // The client forgets servers that did not answer the first time.
  connection.setServers([...options.servers])
  const manager = yield* Effect.promise(() =>
    jetstreamManager(connection, { checkAPI: false, timeout: Duration.toMillis(limits.requestPatience) })
  )

  const change = (next: boolean) => {
    if (connected === next) return
    connected = next
    unseenBytes = 0
    Metrics.busConnected.updateUnsafe(next ? 1 : 0, context)
    for (const handler of handlers) handler(next)
  }
  Metrics.busConnected.updateUnsafe(1, context)

  /** Ends when the connection is lost. */
  const lost = Effect.callback<void>((resume) => {
    const handler = (next: boolean) => {
      if (!next) resume(Effect.void)
    }
    handlers.add(handler)
    return Effect.sync(() => handlers.delete(handler))
  })

  const heard = Effect.fnUntraced(function* (status: Status) {
    switch (status.type) {
      case "disconnect":
        if (!connected) return
        change(false)
        return yield* Effect.logWarning("the connection to NATS is lost").pipe(
          Effect.annotateLogs({ server: status.server })
        )
      case "staleConnection":
        change(false)
        cut(connection)
        return yield* Effect.logWarning("NATS does not answer; the connection is given up")
      case "reconnect":
        change(true)
        yield* Metric.update(Metrics.busReconnects, 1)
        return yield* Effect.logInfo("connected to NATS again").pipe(Effect.annotateLogs({ server: status.server }))
      case "error":
        return yield* Effect.logError("NATS reports an error", status.error.message)
      case "ldm":
        return yield* Effect.logInfo("this server of NATS is about to stop").pipe(
          Effect.annotateLogs({ server: status.server })
        )
      case "close":
      case "forceReconnect":
      case "ping":
      case "reconnecting":
      case "slowConsumer":
      case "update":
        return
    }
  })
  yield* Stream.fromAsyncIterable(connection.status(), (cause) => cause).pipe(
    Stream.runForEach(heard),
    Effect.ignore,
    Effect.forkScoped({ startImmediately: true })
  )

  const ready = () => connected && unseenBytes <= limits.unseenBytesMax

  /** Asks the server now and then whether it has what was sent; the question is a PING behind it. */
  const count = (bytes: number) => {
    unseenBytes += bytes
    if (flushing || unseenBytes < flushEveryBytes) return
    const asked = unseenBytes
    const answered = () => {
      flushing = false
      unseenBytes = Math.max(0, unseenBytes - asked)
    }
    flushing = true
    // It rejects when the connection is lost, and all that was under way with it.
    connection.flush().then(answered, answered)
  }

  return Nats.of({
    connection,
    jetstream: jetstream(connection, { timeout: Duration.toMillis(limits.requestPatience) }),
    manager,
    connected: () => connected,
    ready,
    publish: (subject, payload, publishOptions) => {
      if (!ready()) return false
      const published = Result.try(() => connection.publish(subject, payload, publishOptions))
      if (Result.isSuccess(published)) count(payload.length)
      return Result.isSuccess(published)
    },
    onConnection: (handler) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => handlers.add(handler)),
          () => Effect.sync(() => handlers.delete(handler))
        )
      ),
    request: (operation, request) => {
      const fail = (cause: unknown) => new BusUnavailable({ operation, cause })
      return Effect.suspend(() =>
        connected
          ? Effect.raceFirst(
              Effect.tryPromise({ try: request, catch: fail }),
              Effect.flatMap(lost, () => fail(notConnected))
            )
          : fail(notConnected)
      )
    },
    flushed: Effect.suspend(() => (connected ? Effect.tryPromise(() => connection.flush()) : Effect.void)).pipe(
      Effect.timeoutOption("1 second"),
      Effect.ignore
    )
  })
})

/** Bytes sent after which the server is asked whether it has them. */
const flushEveryBytes = 256 * 1024

const notConnected = new Error("not connected to NATS")
