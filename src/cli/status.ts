/**
 * `datamcp status`: how the node that answers is, and the caller's tasks by status.
 */
import { Effect } from "effect"
import { Command } from "effect/cli"
import type { Status } from "../../protocol/System.ts"
import { Client } from "./Client.ts"
import * as Ink from "./Ink.ts"
import { Output } from "./Output.ts"

/** Above it the server counts no further (see `Status.tasks`). */
const countedTo = 10_000

export const status = Command.make(
  "status",
  {},
  Effect.fn("status")(function* () {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.system.status(), show)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("How the server is, and your tasks by status"))

const show = (state: Status, ink: Ink.Ink) =>
  Ink.facts(
    [
      ["node", state.node],
      ["version", Ink.printable(state.version)],
      ["namespace", state.namespace],
      [
        "parts",
        Object.entries(state.parts)
          .map(([name, up]) => (up ? ink.green(name) : ink.red(`${name} away`)))
          .join(", ")
      ],
      ["agents", String(state.agents)],
      ["instances here", String(state.instances_here)],
      [
        "tasks",
        Object.entries(state.tasks)
          .map(([name, count]) => `${count >= countedTo ? "at least " : ""}${count} ${name}`)
          .join(", ") || "none"
      ]
    ],
    ink
  )
