/**
 * The servers that a proof stands on: real ones of its own, in a folder of its own, which it may kill; or those that the environment names,
 * which it never touches.
 *
 * Its own are supervised as those of `datamcp up` are: who is killed comes back by the means that a user's platform has.
 */
import { randomInt } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Layer, Option, Redacted } from "effect"
import type { FaultKind } from "../../protocol/Proof.ts"
import { AppConfig, requireServers } from "../config.ts"
import { EmbeddedServers } from "../embedded/EmbeddedServers.ts"
import { ProofProblem } from "./ProofProblem.ts"

export interface ProofServers {
  readonly databaseUrl: Redacted.Redacted
  /** What tells a node where they are; over the environment of this process. */
  readonly environment: Readonly<Record<string, string>>
  /** SIGKILL. False when it is down already. */
  readonly kill: (fault: Exclude<FaultKind, "nodes">) => Effect.Effect<boolean>
  /** Never succeeds. Fails when a server of ours has died too often. */
  readonly gaveUp: Effect.Effect<never, ProofProblem>
}

/** Connections of all nodes together, of the 100 that a Postgres of our own takes. */
const connectionsMax = 80
/** Connections of a node by default. */
const connectionsDefault = 10

/** Starts them on nothing; ends them with the scope. */
export const own = Effect.fnUntraced(function* (folder: string, nodes: number) {
  // Away from the usual port of NATS: a platform of the user's may want it meanwhile.
  writeFileSync(join(folder, "ports.json"), JSON.stringify({ nats: randomInt(15_000, 30_000) }))
  const context = yield* Layer.build(
    EmbeddedServers.layer({ folder, databaseUrl: Option.none(), natsUrl: Option.none() })
  ).pipe(Effect.mapError(({ message }) => new ProofProblem({ message })))
  const servers = yield* Effect.provide(EmbeddedServers, context)
  const credentials = Option.getOrThrow(servers.natsAuth)
  return {
    databaseUrl: servers.databaseUrl,
    environment: {
      DATABASE_URL: Redacted.value(servers.databaseUrl),
      DATABASE_CONNECTIONS: String(Math.min(connectionsDefault, Math.floor(connectionsMax / nodes))),
      NATS_URL: servers.natsUrl,
      NATS_USER: credentials.user,
      NATS_PASSWORD: Redacted.value(credentials.password),
      NATS_TOKEN: "",
      NATS_CREDS: ""
    },
    kill: (fault) =>
      Effect.map(servers.pids, (pids) =>
        Option.match(pids[fault], { onNone: () => false, onSome: (pid) => process.kill(pid, "SIGKILL") })
      ),
    gaveUp: Effect.mapError(servers.gaveUp, ({ message }) => new ProofProblem({ message }))
  } satisfies ProofServers
})

/** Those of DATABASE_URL and NATS_URL; the nodes read them from the environment as they are. */
export const named = Effect.gen(function* () {
  const config = yield* AppConfig
  yield* Effect.mapError(requireServers(config), ({ message }) => new ProofProblem({ message }))
  const { databaseUrl } = config
  if (databaseUrl === undefined) return yield* new ProofProblem({ message: "DATABASE_URL names no database." })
  const servers: ProofServers = {
    databaseUrl,
    environment: {},
    kill: () => Effect.succeed(false),
    gaveUp: Effect.never
  }
  return servers
})
