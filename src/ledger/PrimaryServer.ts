/**
 * Which of several named Postgres servers takes writes: the one that new connections go to.
 *
 *   searching --(a server admits us)--> following --(it is gone, silent or refuses)--> searching
 *
 * Being admitted is the proof: a standby refuses the sessions that `Postgres.ts` opens. While nobody admits us, connections
 * go on being tried at the last one known.
 *
 * Invariant: once another server was found, no connection of ours to an earlier one is left. A former primary that comes
 * back, or wakes, is not written to by sessions that it still holds. Whether it admits new ones is for whoever promotes
 * servers to prevent; we stay where we are while it answers.
 */
import { connect, type Socket } from "node:net"
import { Context, Duration, Effect, Latch, type Scope } from "effect"

export const PrimaryLimits = Context.Reference<{
  /** How often the server that we follow is asked whether it is there. */
  readonly askEvery: Duration.Duration
  /** How long it may take to admit us or to answer. */
  readonly patience: Duration.Duration
  /** Pause after none of the servers has admitted us. */
  readonly searchEvery: Duration.Duration
  /** How long the first search may take; then the start goes on, and fails with what the first server says. */
  readonly firstSearch: Duration.Duration
}>("datamcp/ledger/PrimaryLimits", {
  defaultValue: () => ({
    askEvery: Duration.millis(500),
    patience: Duration.seconds(2),
    searchEvery: Duration.millis(250),
    firstSearch: Duration.seconds(10)
  })
})

/** One server of several. Its name goes into the verification of its certificate. */
export interface Server {
  readonly host: string
  readonly port: number
}

/** The part of the driver's configuration that says where to. Read anew for every connection. */
export interface Whereto extends Server {
  readonly stream: () => Socket
}

/** Opens a session on a server, until the scope closes; what it gives asks there whether it still answers. */
export type Admission<E> = (
  server: Server,
  patience: Duration.Duration
) => Effect.Effect<Effect.Effect<unknown, E>, E, Scope.Scope>

/** After this idle time the system asks the other end whether it is there. */
const keepAliveMillis = 10_000

/**
 * Takes a URL with several hosts apart, as libpq writes them: `postgres://user@one:5432,two:5432/database`. One URL for each.
 */
export const urlsOf = (url: string): ReadonlyArray<string> => {
  const [, before = "", hosts = "", after = ""] = /^(\w+:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/u.exec(url) ?? []
  return hosts.split(",").map((host) => `${before}${host}${after}`)
}

/** Follows the primary among the servers of `urls` while the scope is open. */
export const follow = Effect.fn("PrimaryServer.follow")(function* <E extends { readonly message: string }>(
  urls: ReadonlyArray<string>,
  admission: Admission<E>
): Effect.fn.Return<Whereto, never, Scope.Scope> {
  const limits = yield* PrimaryLimits
  const servers = urls.map(serverOf)
  const sockets = new Map<Socket, Server>()
  let current: Server = servers[0] ?? { host: "localhost", port: 5432 }

  const leaveOthers = () => {
    for (const [socket, server] of sockets) if (server !== current) socket.destroy()
  }

  const moveTo = (server: Server) =>
    Effect.suspend(() => {
      const moved = server !== current
      current = server
      leaveOthers()
      return moved ? Effect.logWarning("Postgres: another server takes writes now").pipe(annotate(server)) : Effect.void
    })

  /** Fails when the server does not admit us; else goes on until it is gone. */
  const stayWith = (server: Server, admitted: Effect.Effect<void>) =>
    Effect.gen(function* () {
      const ask = Effect.timeout(yield* admission(server, limits.patience), limits.patience)
      yield* ask
      yield* moveTo(server)
      yield* admitted
      return yield* Effect.forever(Effect.delay(ask, limits.askEvery))
    }).pipe(Effect.scoped)

  /** From the one that was followed last, round all of them, for ever. */
  const search = (admitted: Effect.Effect<void>) =>
    Effect.gen(function* () {
      const first = servers.indexOf(current)
      for (const server of [...servers.slice(first), ...servers.slice(0, first)]) {
        const error = yield* Effect.flip(stayWith(server, admitted))
        yield* Effect.logDebug("Postgres: this server is not followed", error.message).pipe(annotate(server))
      }
      yield* Effect.sleep(limits.searchEvery)
    }).pipe(Effect.forever)

  const found = yield* Latch.make()
  yield* Effect.forkScoped(search(found.open))
  yield* Effect.timeoutOption(found.await, limits.firstSearch)

  return {
    get host() {
      return current.host
    },
    get port() {
      return current.port
    },
    stream: () => {
      const server = current
      const socket = connect({ ...server, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMillis })
      sockets.set(socket, server)
      socket.once("close", () => sockets.delete(socket))
      return socket
    }
  }
})

const serverOf = (text: string): Server => {
  const url = new URL(text)
  return { host: url.hostname.replace(/^\[(.*)\]$/u, "$1"), port: url.port === "" ? 5432 : Number(url.port) }
}

const annotate = ({ host, port }: Server) => Effect.annotateLogs({ server: `${host}:${port}` })
