/** The service on a nats-server of its own, and a raw client to ask it. */
import { connect } from "@nats-io/transport-node"
import { Context, Effect, Layer, Logger, References, type Scope } from "effect"
import { NatsLink } from "../../src/nats/NatsLink.ts"
import * as NatsService from "../../src/nats/NatsService.ts"
import type { NatsHandle } from "../support/ServerMakers.ts"
import { ownNats } from "../support/Servers.ts"
import { memoryApp, Script } from "./MemoryApp.ts"
import { RawNatsClient } from "./RawNatsClient.ts"

export const defaults: NatsService.NatsServiceOptions = {
  version: "1.2.3",
  node: "node-1",
  requestsMax: 100,
  heldMax: 100,
  drain: "5 seconds"
}

/** Connects as a node does. */
export const link = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(() => connect({ servers: url, name: "node", reconnectTimeWait: 50, maxReconnectAttempts: -1 })),
    (connection) => Effect.promise(() => connection.close())
  )

/** A raw client, closed with the scope. */
export const rawClient = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(() => RawNatsClient.open(url)),
    (client) => Effect.sync(() => client.close())
  )

/** One node's service over use cases in memory, and the handles of both. `logs` collects what it logs as errors. */
export const startService = (
  url: string,
  options: Partial<NatsService.NatsServiceOptions> = {},
  logs: Array<unknown> = []
): Effect.Effect<Context.Context<Script>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = yield* link(url)
    const logger = Logger.make<unknown, void>(({ cause, fiber, message }) => {
      logs.push({ message, cause: String(cause), ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    return yield* NatsService.layer({ ...defaults, ...options }).pipe(
      Layer.provideMerge(memoryApp),
      Layer.provide(Layer.succeed(NatsLink, connection)),
      Layer.provide(Logger.layer([logger])),
      Layer.build
    )
  })

export interface Rig {
  readonly nats: NatsHandle
  readonly client: RawNatsClient
  readonly script: Script["Service"]
  readonly logs: Array<unknown>
}

/** Server, service and client of one test. */
export const rig = (options: Partial<NatsService.NatsServiceOptions> = {}): Effect.Effect<Rig, never, Scope.Scope> =>
  Effect.gen(function* () {
    const nats = yield* ownNats()
    const logs: Array<unknown> = []
    const services = yield* startService(nats.natsUrl, options, logs)
    const client = yield* rawClient(nats.natsUrl)
    return { nats, client, script: Context.get(services, Script), logs }
  })
