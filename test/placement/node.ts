/**
 * A node that does nothing but take part in placement, as a process of its own, to be killed and frozen.
 *
 *   node test/placement/node.ts <name> <database url> [leases]
 *
 * Prints one line per change, with what it owns of the probes, and one when its singleton starts. Ends on SIGTERM.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Layer, Redacted } from "effect"
import { Placement } from "../../actors/ports/Placement.ts"
import { NodeName } from "../../protocol/Ids.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import * as ClusterPlacement from "../../src/placement/ClusterPlacement.ts"
import { probes } from "./probes.ts"

const [name = "", url = "", kind] = process.argv.slice(2)

const main = Effect.gen(function* () {
  const placement = yield* Placement
  const tell = () => {
    const owned = probes.flatMap((agent, index) => (placement.owns(agent, 0) ? [index] : []))
    process.stdout.write(`${JSON.stringify({ owned })}\n`)
  }
  yield* placement.onChange(tell)
  yield* placement.singleton(
    "only-one",
    Effect.andThen(
      Effect.sync(() => process.stdout.write(`${JSON.stringify({ singleton: true })}\n`)),
      Effect.never
    )
  )
  tell()
  return yield* Effect.never
})

const database = Postgres.layer({ url: Redacted.make(url), connectionsMax: 4, applicationName: `placement ${name}` })
const placement = ClusterPlacement.layer(NodeName.make(name), { advisoryLocks: kind !== "leases" })

NodeRuntime.runMain(Effect.scoped(Effect.provide(main, placement.pipe(Layer.provide(database)))))
