/**
 * Owns the one connection of this process to NATS: made at start within a bound, made again for ever after, drained at
 * the end. Only `src/bus/` and `src/nats/` see it.
 *
 * Invariant: nothing here grows while the server is away. The client itself keeps what is published then, without
 * bound; so everybody publishes through `publish`, which refuses while the connection is down.
 */
import { readFile } from "node:fs/promises"
import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream"
import {
  AuthorizationError,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type NatsConnection,
  type PublishOptions,
  type Status
} from "@nats-io/transport-node"
import {
  Context,
  Duration,
  Effect,
  Layer,
  Metric,
  Redacted,
  Result,
  Schedule,
  Schema,
  type Scope,
  Stream
} from "effect"
import * as Metrics from "../../protocol/Metrics.ts"
import type { NatsAccess } from "../config.ts"

export interface NatsOptions extends NatsAccess {
  /** Shown in the server's list of connections. */
  readonly name: string
}

export const NatsLimits = Context.Reference<{
  /** How long the first connection is tried for. */
  readonly connectPatience: Duration.Duration
  /** How long messages under way may take at the end. */
  readonly drainPatience: Duration.Duration
  /** How long one request to JetStream may take. */
  readonly requestPatience: Duration.Duration
}>("datamcp/bus/NatsLimits", {
  defaultValue: () => ({
    connectPatience: Duration.seconds(10),
    drainPatience: Duration.seconds(2),
    requestPatience: Duration.seconds(5)
  })
})

/** NATS could not be reached at start, or does not let us in. */
export class NatsUnreachable extends Schema.TaggedError<NatsUnreachable>()("NatsUnreachable", {
  servers: Schema.Array(Schema.String),
  refused: Schema.Boolean,
  reason: Schema.String
}) {
  override get message() {
    const servers = this.servers.join(", ")
    return this.refused
      ? `NATS at ${servers} refuses our credentials: ${this.reason}`
      : `NATS could not be reached at ${servers}: ${this.reason}`
  }
}

export class Nats extends Context.Service<
  Nats,
  {
    readonly connection: NatsConnection
    readonly jetstream: JetStreamClient
    readonly manager: JetStreamManager
    /** False from the moment a loss is noticed (at most 15 s after it, when no end of the connection says so). */
    readonly connected: () => boolean
    /** Hands a message to the connection. False, and nothing is sent, while it is down or when it is too large. */
    readonly publish: (subject: string, payload: string | Uint8Array, options?: PublishOptions) => boolean
    /** Calls back after the connection was lost (false) or made again (true). The handler must not throw or block. */
    readonly onConnection: (handler: (connected: boolean) => void) => Effect.Effect<void, never, Scope.Scope>
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

  const connection = yield* Effect.acquireRelease(
    open(options, limits.connectPatience),
    (opened) => close(opened, connected, limits.drainPatience),
    { interruptible: true }
  )
  // The client forgets servers that did not answer the first time.
  connection.setServers([...options.servers])
  const manager = yield* Effect.promise(() =>
    jetstreamManager(connection, { checkAPI: false, timeout: Duration.toMillis(limits.requestPatience) })
  )

  const change = (next: boolean) => {
    connected = next
    Metrics.busConnected.updateUnsafe(next ? 1 : 0, context)
    for (const handler of handlers) handler(next)
  }
  Metrics.busConnected.updateUnsafe(1, context)

  const heard = Effect.fnUntraced(function* (status: Status) {
    switch (status.type) {
      case "disconnect":
        if (!connected) return
        change(false)
        return yield* Effect.logWarning("the connection to NATS is lost").pipe(
          Effect.annotateLogs({ server: status.server })
        )
      case "reconnect":
        change(true)
        yield* Metric.update(Metrics.busReconnects, 1)
        return yield* Effect.logInfo("connected to NATS again").pipe(Effect.annotateLogs({ server: status.server }))
      case "error":
        return yield* Effect.logError("NATS reports an error", status.error.message)
      case "staleConnection":
        return yield* Effect.logWarning("NATS does not answer; the connection is given up")
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
    Effect.catchCause((cause) => Effect.logError("the state of the connection to NATS is no longer known", cause)),
    Effect.forkScoped({ startImmediately: true })
  )

  return Nats.of({
    connection,
    jetstream: jetstream(connection, { timeout: Duration.toMillis(limits.requestPatience) }),
    manager,
    connected: () => connected,
    publish: (subject, payload, publishOptions) =>
      connected && Result.isSuccess(Result.try(() => connection.publish(subject, payload, publishOptions))),
    onConnection: (handler) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => handlers.add(handler)),
          () => Effect.sync(() => handlers.delete(handler))
        )
      ),
    flushed: Effect.suspend(() => (connected ? Effect.tryPromise(() => connection.flush()) : Effect.void)).pipe(
      Effect.timeoutOption("1 second"),
      Effect.ignore
    )
  })
})

/** Tries all servers in turn until `patience` has passed. Wrong credentials are told at once. */
const open = (options: NatsOptions, patience: Duration.Duration) =>
  Effect.gen(function* () {
    const client = yield* clientOptions(options)
    return yield* Effect.tryPromise({
      try: async (signal) => {
        const opened = await connect(client)
        if (signal.aborted) await opened.close()
        return opened
      },
      catch: (cause) =>
        new NatsUnreachable({
          servers: options.servers,
          refused: cause instanceof AuthorizationError,
          reason: cause instanceof Error ? cause.message : String(cause)
        })
    }).pipe(
      Effect.retry({
        schedule: Schedule.max([Schedule.spaced("250 millis").pipe(Schedule.jittered), Schedule.during(patience)]),
        while: (error) => !error.refused
      })
    )
  })

const clientOptions = Effect.fnUntraced(function* (options: NatsOptions) {
  const { credentials } = options
  const common: ConnectionOptions = {
    servers: [...options.servers],
    name: options.name,
    timeout: 3_000,
    // For ever, spread, and also when credentials are refused for a while, as during a change of the server's.
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    reconnectJitter: 500,
    reconnectJitterTLS: 500,
    ignoreAuthErrorAbort: true,
    pingInterval: 5_000,
    maxPingOut: 2,
    noAsyncTraces: true,
    ...(options.tls ? { tls: {} } : {})
  }
  switch (credentials._tag) {
    case "None":
      return common
    case "Password":
      return { ...common, user: credentials.user, pass: Redacted.value(credentials.password) }
    case "Token":
      return { ...common, token: Redacted.value(credentials.token) }
    case "File": {
      const file = yield* Effect.tryPromise({
        try: () => readFile(credentials.path),
        catch: (cause) =>
          new NatsUnreachable({
            servers: options.servers,
            refused: true,
            reason: `the credentials file ${credentials.path} cannot be read (${cause instanceof Error ? cause.message : String(cause)})`
          })
      })
      return { ...common, authenticator: credsAuthenticator(file) }
    }
  }
})

const close = (connection: NatsConnection, connected: boolean, patience: Duration.Duration) =>
  Effect.suspend(() =>
    connected && !connection.isClosed() && !connection.isDraining()
      ? Effect.tryPromise(() => connection.drain())
      : Effect.void
  ).pipe(
    Effect.timeoutOption(patience),
    Effect.ignore,
    Effect.andThen(Effect.tryPromise(() => connection.close())),
    Effect.timeoutOption(patience),
    Effect.ignore
  )
