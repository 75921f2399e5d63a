/**
 * Makes, ends and cuts off a connection to NATS. Keeps no state.
 *
 * The first connection is tried within a bound, and tells wrong credentials at once; after it the client reconnects for
 * ever, spread, and also when credentials are refused for a while, as during a change of the server's.
 */
import { readFile } from "node:fs/promises"
import { Socket } from "node:net"
import {
  AuthorizationError,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type NatsConnection
} from "@nats-io/transport-node"
import { Duration, Effect, Predicate, Redacted, Schedule, Schema } from "effect"
import * as Subjects from "../../protocol/Subjects.ts"
import type { NatsAccess } from "../config.ts"

export interface NatsOptions extends NatsAccess {
  /** Shown in the server's list of connections. */
  readonly name: string
}

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

/** Tries all servers in turn until `patience` has passed. Wrong credentials are told at once. */
export const open = (
  options: NatsOptions,
  limits: { readonly connectPatience: Duration.Duration; readonly pingEvery: Duration.Duration }
) =>
  Effect.gen(function* () {
    const client = {
      ...(yield* clientOptions(options)),
      pingInterval: Duration.toMillis(limits.pingEvery),
      maxPingOut: 2
    }
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
        schedule: Schedule.max([
          Schedule.spaced("250 millis").pipe(Schedule.jittered),
          Schedule.during(limits.connectPatience)
        ]),
        while: (error) => !error.refused
      })
    )
  })

const clientOptions = Effect.fnUntraced(function* (options: NatsOptions) {
  const { credentials } = options
  const common: ConnectionOptions = {
    servers: [...options.servers],
    name: options.name,
    inboxPrefix: Subjects.nodeInbox,
    timeout: 3_000,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    reconnectJitter: 500,
    reconnectJitterTLS: 500,
    ignoreAuthErrorAbort: true,
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

/** Sends what is under way, within `patience` and only while connected, and ends. */
export const close = (connection: NatsConnection, connected: boolean, patience: Duration.Duration) =>
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

/**
 * Ends the socket of a connection that does not answer. The client itself first waits until all that it has written is
 * taken, which a frozen or unreachable server does not do, and would not try another server before. It offers no way to
 * its socket; where a later version keeps it elsewhere, we wait as long as the client does.
 */
export const cut = (connection: unknown) => {
  const inside = (holder: unknown, name: string) => (Predicate.hasProperty(holder, name) ? holder[name] : undefined)
  const socket = inside(inside(inside(connection, "protocol"), "transport"), "socket")
  if (socket instanceof Socket) socket.destroy()
}
