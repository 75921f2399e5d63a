/**
 * A real nats-server with JetStream that belongs to one data folder, supervised and ended with the scope.
 *
 * Listens on the loopback and lets nobody in without a password. Two users: `datamcp`, for the nodes, may do everything;
 * `client`, for programs that use the platform over NATS, may call its service and hear their own answers, and reaches neither streams nor
 * dispatch nor events.
 */
import { Effect, Option, Path } from "effect"
import { DataFolder } from "./DataFolder.ts"
import { natsProgram } from "./NatsProgram.ts"
import { awaitAnswering, type NatsCredentials, type NatsServer, writeConfig } from "./NatsServer.ts"
import { serverAs } from "./OsUser.ts"
import { superviseChild } from "./SupervisedChild.ts"
import { endSurvivor } from "./Survivors.ts"

export interface PreparedNats {
  readonly program: string
  readonly server: NatsServer
  readonly pidFile: string
  readonly url: string
  readonly nodeCredentials: NatsCredentials
  readonly clientCredentials: NatsCredentials
}

/** The port that NATS clients try by default, where it is free. */
const usualPort = 4222

/** Subjects of the client user: the service and its discovery; answers come to inboxes below its own prefix or the usual one. */
const clientPermissions = { publish: ["datamcp.v1.>", "$SRV.>"], subscribe: ["_INBOX.>"] }

/** Finds or fetches the program and writes the configuration. Fails with `EmbeddedProblem`. */
export const prepare = Effect.gen(function* () {
  const folder = yield* DataFolder
  const path = yield* Path.Path
  const program = yield* natsProgram(path.join(folder.path, "tools"))
  const configFile = path.join(folder.path, "nats.conf")
  const pidFile = path.join(folder.path, "nats.pid")
  yield* endSurvivor(pidFile, configFile, "SIGTERM")
  const nodeCredentials = { user: "datamcp", password: yield* folder.secret("nats") }
  const clientCredentials = { user: "client", password: yield* folder.secret("nats-client") }
  const server: NatsServer = {
    configFile,
    pidFile,
    storeFolder: path.join(folder.path, "nats"),
    port: yield* folder.portFor("nats", usualPort),
    users: [nodeCredentials, { ...clientCredentials, ...clientPermissions }]
  }
  yield* writeConfig(server)
  const url = `nats://127.0.0.1:${server.port}`
  return { program, server, pidFile, url, nodeCredentials, clientCredentials } satisfies PreparedNats
}).pipe(Effect.withSpan("EmbeddedNats.prepare"))

/** Starts it and returns once JetStream answers; supervises it until the scope closes. Fails with `EmbeddedProblem`. */
export const run = Effect.fn("EmbeddedNats.run")(function* (nats: PreparedNats) {
  const { configFile, port } = nats.server
  const command = yield* serverAs(Option.none(), [nats.program, ["-c", configFile]], "SIGTERM")
  return yield* superviseChild({
    name: "nats-server",
    command,
    stopSignal: "SIGTERM",
    prepare: endSurvivor(nats.pidFile, configFile, "SIGTERM"),
    ready: awaitAnswering(port, nats.nodeCredentials)
  })
})
