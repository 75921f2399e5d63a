/**
 * Starts a Postgres or a nats-server for a test run or for one test, and ends it when the scope closes.
 *
 * Both come back with handles to kill and restart the process (`ServerProcess`); port and data survive a restart.
 */
import { mkdirSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Option, Redacted, type Scope } from "effect"
import { awaitAnswering, type NatsCredentials, writeConfig } from "../../src/embedded/NatsServer.ts"
import { serverAs } from "../../src/embedded/OsUser.ts"
import {
  awaitAccepting,
  initialise,
  type PostgresServer,
  serverCommand,
  throwAwaySettings,
  urlOf
} from "../../src/embedded/PostgresServer.ts"
import { type ServerProcess, serverProcess } from "./ServerProcess.ts"
import type { TestMachine } from "./TestMachine.ts"

export interface PostgresHandle extends ServerProcess {
  readonly port: number
  /** The url of a database of this server; `postgres` unless named. */
  readonly url: (database?: string) => Redacted.Redacted
}

export interface NatsHandle extends ServerProcess {
  readonly port: number
  readonly natsUrl: string
  /** Connections that are open right now, ours included. */
  readonly connections: Effect.Effect<ReadonlyArray<{ readonly name: string }>>
  /** JetStream's folder, to damage while the server is down. */
  readonly storeFolder: string
}

/** The password of every Postgres of the tests: they listen on the loopback and hold nothing. */
export const password = Redacted.make("test")

/** Starts on an empty cluster below `folder`. `settings` go over the throw-away ones. */
export const makePostgres = (
  machine: TestMachine,
  folder: string,
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<PostgresHandle, never, Scope.Scope> =>
  Effect.gen(function* () {
    const server: PostgresServer = {
      programs: machine.postgres,
      user: Option.fromNullOr(machine.user),
      dataFolder: join(folder, "postgres"),
      port: yield* freePort
    }
    yield* initialise(server, password, { sync: false })
    const process = yield* serverProcess({
      command: yield* serverAs(server.user, serverCommand(server, { ...throwAwaySettings, ...settings }), "SIGINT"),
      stopSignal: "SIGINT",
      ready: awaitAccepting(server.port)
    })
    return { ...process, port: server.port, url: (database?: string) => urlOf(server, password, database) }
  }).pipe(Effect.provide(NodeServices.layer), Effect.orDie)

/** Starts with an empty JetStream store below `folder`. Without `users` everybody may do everything. */
export const makeNats = (
  machine: Pick<TestMachine, "nats">,
  folder: string,
  users: ReadonlyArray<NatsCredentials> = []
): Effect.Effect<NatsHandle, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* freePort
    const monitorPort = yield* freePort
    const configFile = join(folder, "nats.conf")
    const storeFolder = join(folder, "jetstream")
    mkdirSync(folder, { recursive: true })
    yield* writeConfig({ configFile, storeFolder, port, monitorPort, users })
    const process = yield* serverProcess({
      command: yield* serverAs(Option.none(), [machine.nats, ["-c", configFile]], "SIGTERM"),
      stopSignal: "SIGTERM",
      ready: awaitAnswering(port, users[0])
    })
    const connections = Effect.promise(async () => {
      const response = await fetch(`http://127.0.0.1:${monitorPort}/connz`)
      const body = (await response.json()) as { connections: ReadonlyArray<{ name?: string }> }
      return body.connections.map(({ name = "(unnamed)" }) => ({ name }))
    })
    return { ...process, port, natsUrl: `nats://127.0.0.1:${port}`, connections, storeFolder }
  }).pipe(Effect.provide(NodeServices.layer), Effect.orDie)

/** A port that nobody listens on. Somebody else may take it before we do; the start then fails and says so. */
export const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen({ host: "127.0.0.1", port: 0 }, () => {
    const address = server.address()
    const port = address !== null && typeof address === "object" ? address.port : 0
    server.close(() => resume(Effect.succeed(port)))
  })
})
