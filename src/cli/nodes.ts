/**
 * `datamcp nodes`: the processes that make up the platform; drain one before it is stopped, or take that back.
 */
import { Effect, Schedule } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { NodeName } from "../../protocol/Ids.ts"
import type { Node } from "../../protocol/Node.ts"
import { Client } from "./Client.ts"
import { CliFailure } from "./CliFailure.ts"
import * as Ink from "./Ink.ts"
import { millisFlag } from "./input.ts"
import { Output } from "./Output.ts"

const name = Argument.String("name").pipe(Argument.withSchema(NodeName), Argument.withDescription("Name of the node"))

const list = Command.make(
  "list",
  {},
  Effect.fn("nodes.list")(function* () {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.nodes.list(), ({ data }, ink) => table(data, ink))
  })
).pipe(
  Command.provide(Client.layer),
  Command.withAlias("ls"),
  Command.withDescription("List nodes, and those that have gone within the last hour")
)

const show = Command.make(
  "show",
  { name },
  Effect.fn("nodes.show")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.nodes.get({ params: { node: given.name } }), details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a node"))

const pollEvery = "250 millis"

const drain = Command.make(
  "drain",
  {
    name,
    timeout: millisFlag("timeout").pipe(
      Flag.withDefault(60_000),
      Flag.withDescription("How long to wait until it has nothing left, such as 30s; 0s does not wait")
    )
  },
  Effect.fn("nodes.drain")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const params = { node: given.name }
    const asked = yield* client.nodes.drain({ params })
    if (given.timeout === 0) return yield* output.answer(asked, details)
    const node = yield* client.nodes.get({ params }).pipe(
      Effect.repeat({ until: hasNothing, schedule: Schedule.spaced(pollEvery) }),
      Effect.timeoutOrElse({
        duration: given.timeout,
        orElse: () => Effect.fail(notDrained(given.name))
      })
    )
    yield* output.answer(node, details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription(
    "Make a node hand over what it hosts and take nothing more, and wait until it has nothing left.\n" +
      "It answers requests until it is stopped; nodes undrain takes the drain back."
  )
)

const hasNothing = ({ state }: Node) => state === "drained" || state === "gone"

const notDrained = (node: string) =>
  new CliFailure({
    exitCode: 1,
    message: `${node} has not handed over everything in time. It goes on: see datamcp nodes show ${node}.`,
    problem: { type: "urn:datamcp:problem:not-drained", title: "The node is not drained yet" }
  })

const undrain = Command.make(
  "undrain",
  { name },
  Effect.fn("nodes.undrain")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(
      yield* client.nodes.undrain({ params: { node: given.name } }),
      (node) => `${node.name}  takes work again within 2 s`
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Let a drained node take work again"))

const coloured = ({ state }: Node, ink: Ink.Ink) =>
  state === "ready" ? ink.green(state) : state === "gone" ? ink.dim(state) : ink.yellow(state)

const age = (millis: number) => `${(millis / 1_000).toFixed(1)} s ago`

const table = (nodes: ReadonlyArray<Node>, ink: Ink.Ink) =>
  Ink.table(
    ["NAME", "VERSION", "ROLES", "STATE", "STARTED", "HEARD OF", "INSTANCES", "RUNNING", "SHARDS"],
    nodes.map((node) => [
      node.name,
      Ink.printable(node.version),
      node.roles.join(","),
      coloured(node, ink),
      Ink.printable(node.started_at.slice(0, 19)),
      age(node.heartbeat_age_ms),
      String(node.instances),
      String(node.running),
      String(node.shards)
    ]),
    ink
  )

const details = (node: Node, ink: Ink.Ink) =>
  Ink.facts(
    [
      ["name", node.name],
      ["version", Ink.printable(node.version)],
      ["roles", node.roles.join(", ")],
      ["state", coloured(node, ink)],
      ["drain", node.drain ? "wanted" : undefined],
      ["started", Ink.printable(node.started_at)],
      ["heard of", age(node.heartbeat_age_ms)],
      ["instances", String(node.instances)],
      ["running", String(node.running)],
      ["shards", String(node.shards)]
    ],
    ink
  )

export const nodes = Command.make("nodes").pipe(
  Command.withDescription("See the nodes of the platform, drain them, take that back"),
  Command.withSubcommands([list, show, drain, undrain])
)
