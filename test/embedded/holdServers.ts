/** A platform to be killed: starts the servers of the folder it is given, says their process ids, and stays. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, Logger, Option } from "effect"
import { EmbeddedServers } from "../../src/embedded/EmbeddedServers.ts"

const hold = Effect.gen(function* () {
  const servers = yield* EmbeddedServers
  const { nats, postgres } = yield* servers.pids
  console.log(JSON.stringify({ nats: Option.getOrNull(nats), postgres: Option.getOrNull(postgres) }))
  return yield* Effect.never
})

const wanted = { folder: process.argv[2] ?? "", databaseUrl: Option.none(), natsUrl: Option.none() }
const quiet = Logger.layer([])
const servers = EmbeddedServers.layer(wanted).pipe(Layer.provide(NodeServices.layer), Layer.provideMerge(quiet))
await Effect.runPromise(Effect.provide(hold, servers))
