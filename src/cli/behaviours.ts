/**
 * `datamcp behaviours`: what agents can be made of.
 */
import { Effect } from "effect"
import { Command } from "effect/cli"
import type { BehaviourList } from "../../protocol/Behaviour.ts"
import { Client } from "./Client.ts"
import * as Ink from "./Ink.ts"
import { Output } from "./Output.ts"

const list = Command.make(
  "list",
  {},
  Effect.fn("behaviours.list")(function* () {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.behaviours.list(), show)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withAlias("ls"),
  Command.withDescription("List the behaviours that the node which answers can run")
)

const show = ({ data }: BehaviourList, ink: Ink.Ink) =>
  Ink.table(
    ["TYPE", "ISOLATED", "BUILT IN", "DESCRIPTION"],
    data.map(({ built_in, description, isolated, type }) => [
      type,
      isolated ? ink.green("yes") : built_in ? "no" : ink.yellow("no"),
      built_in ? "yes" : "no",
      Ink.printable(description)
    ]),
    ink
  )

export const behaviours = Command.make("behaviours").pipe(
  Command.withDescription("See what agents can be made of"),
  Command.withSubcommands([list])
)
