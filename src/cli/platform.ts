/**
 * `datamcp up | serve | migrate`: the commands that run a platform rather than talk to one.
 */
import { Effect, Option, Record, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { NodeRole, nodeRoles } from "../../protocol/Node.ts"
import { Launch } from "./Launch.ts"
import { Output } from "./Output.ts"

const isRole = Schema.is(NodeRole)

const roles = Flag.String("roles").pipe(
  Flag.filterMap(
    (text) => {
      const named = text.split(",").map((role) => role.trim())
      return named.every(isRole) ? Option.some([...new Set(named)]) : Option.none()
    },
    (text) => `Expected ${nodeRoles.join(" or ")}, or both with a comma, got ${text}`
  ),
  Flag.withMetavar("<roles>"),
  Flag.withDescription(`What this node does: ${nodeRoles.join(" or ")}, or both with a comma; else DATAMCP_ROLES`),
  Flag.optional
)

export const up = Command.make(
  "up",
  { roles },
  Effect.fn("up")(function* (given) {
    yield* (yield* Launch).up(Record.getSomes(given))
  })
).pipe(
  Command.withDescription(
    "Run the whole platform here: real Postgres and nats-server of its own (data in .datamcp/), and one node.\n" +
      "DATABASE_URL and NATS_URL name servers to use instead. docs/configuration.md lists all variables."
  )
)

export const serve = Command.make(
  "serve",
  { roles },
  Effect.fn("serve")(function* (given) {
    yield* (yield* Launch).serve(Record.getSomes(given))
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
