/**
 * `datamcp up | serve | migrate`: the commands that run a platform rather than talk to one.
 */
import { Effect } from "effect"
import { Command } from "effect/cli"
import { Launch } from "./Launch.ts"
import { Output } from "./Output.ts"

export const up = Command.make(
  "up",
  {},
  Effect.fn("up")(function* () {
    yield* (yield* Launch).up
  })
).pipe(
  Command.withDescription(
    "Run the whole platform here: real Postgres and nats-server of its own (data in .datamcp/), and one node.\n" +
      "DATABASE_URL and NATS_URL name servers to use instead. docs/configuration.md lists all variables."
  )
)

export const serve = Command.make(
  "serve",
  {},
  Effect.fn("serve")(function* () {
    yield* (yield* Launch).serve
  })
).pipe(Command.withDescription("Run one node on the servers that DATABASE_URL and NATS_URL name"))

export const migrate = Command.make(
  "migrate",
  {},
  Effect.fn("migrate")(function* () {
    const output = yield* Output
    const applied = yield* (yield* Launch).migrate
    yield* output.answer({ applied }, () =>
      applied.length === 0 ? "The database is up to date." : `Applied ${applied.join(", ")}.`
    )
  })
).pipe(
  Command.withDescription("Bring the database that DATABASE_URL names to this version; `up` and `serve` do it too")
)
