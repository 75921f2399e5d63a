/**
 * One nats-server with JetStream: its configuration file and the proof that it answers.
 *
 * The configuration is a file of mode 0600, because passwords on a command line can be read by every user of the machine.
 * Does not supervise, find the program or choose ports.
 */
import { connect } from "node:net"
import { Effect, FileSystem, Redacted, Schedule, Schema } from "effect"

/** Bytes of one message; larger payloads travel as artifacts. */
export const messageBytesMax = 1024 * 1024

export interface NatsCredentials {
  readonly user: string
  readonly password: Redacted.Redacted
}

export interface NatsServer {
  readonly configFile: string
  /** JetStream's folder; created by the server. */
  readonly storeFolder: string
  /** Names the running process, while there is one. */
  readonly pidFile?: string
  readonly port: number
  /** Its own monitoring page, on the loopback and without a password: for tests only. */
  readonly monitorPort?: number
  /** Empty: everybody who reaches the port may do everything. For tests only. */
  readonly users: ReadonlyArray<
    NatsCredentials & { readonly publish?: ReadonlyArray<string>; readonly subscribe?: ReadonlyArray<string> }
  >
}

/** Writes the configuration file. JSON is a subset of nats-server's own format, so nothing needs quoting rules of ours. */
export const writeConfig = Effect.fn("NatsServer.writeConfig")(function* (server: NatsServer) {
  const fs = yield* FileSystem.FileSystem
  const config = {
    host: "127.0.0.1",
    port: server.port,
    ...(server.monitorPort === undefined ? {} : { http: `127.0.0.1:${server.monitorPort}` }),
    ...(server.pidFile === undefined ? {} : { pid_file: server.pidFile }),
    max_payload: messageBytesMax,
    // A slow reader is cut off rather than kept in memory without bound.
    max_pending: 64 * 1024 * 1024,
    jetstream: { store_dir: server.storeFolder },
    ...(server.users.length === 0
      ? {}
      : {
          authorization: {
            users: server.users.map(({ password, publish, subscribe, user }) => ({
              user,
              password: Redacted.value(password),
              ...(publish === undefined && subscribe === undefined ? {} : { permissions: { publish, subscribe } })
            }))
          }
        })
  }
  const draft = `${server.configFile}.draft`
  yield* fs.writeFileString(draft, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 })
  yield* fs.rename(draft, server.configFile)
})

export class NotAnswering extends Schema.TaggedError<NotAnswering>()("NotAnswering", { port: Schema.Int }) {
  override get message() {
    return `nats-server does not answer on port ${this.port}`
  }
}

/** Waits until the server lets us in and JetStream is on. Fails with `NotAnswering` after `patience` attempts, 25 ms apart. */
export const awaitAnswering = Effect.fn("NatsServer.awaitAnswering")(
  (port: number, credentials?: NatsCredentials, patience = 1200) =>
    answersPing(port, credentials).pipe(
      Effect.filterOrFail(
        (answers) => answers,
        () => new NotAnswering({ port })
      ),
      Effect.retry({ schedule: Schedule.spaced("25 millis"), times: patience })
    )
)

/** The client protocol's opening: `INFO`, `CONNECT`, `PING`, `PONG`. The server listens only after JetStream has recovered. */
const answersPing = (port: number, credentials?: NatsCredentials) =>
  Effect.callback<boolean>((resume) => {
    const socket = connect({ host: "127.0.0.1", port, timeout: 2_000 })
    const options = {
      verbose: false,
      pedantic: false,
      name: "datamcp health",
      lang: "node",
      version: "1",
      ...(credentials === undefined ? {} : { user: credentials.user, pass: Redacted.value(credentials.password) })
    }
    const end = (answer: boolean) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    let received = ""
    socket.on("data", (bytes) => {
      received = (received + bytes.toString("latin1")).slice(-8192)
      if (received.startsWith("INFO ") && received.endsWith("\r\n") && !received.includes("\nPONG")) {
        socket.write(`CONNECT ${JSON.stringify(options)}\r\nPING\r\n`)
      }
      if (/(^|\n)PONG\r\n/.test(received)) end(received.includes('"jetstream":true'))
      if (/(^|\n)-ERR/.test(received)) end(false)
    })
    socket.on("error", () => end(false))
    socket.on("close", () => end(false))
    socket.on("timeout", () => end(false))
    return Effect.sync(() => socket.destroy())
  })
