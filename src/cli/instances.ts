/**
 * `datamcp instances`: act on single instances of an agent. What they do is shown by `datamcp tree`.
 */
import { Effect, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { AgentRef } from "../../protocol/Ids.ts"
import { InstanceIndex, SteerInstance } from "../../protocol/Supervision.ts"
import { Client } from "./Client.ts"
import { decodeCommand } from "./input.ts"
import { Output } from "./Output.ts"
import * as SupervisionView from "./SupervisionView.ts"

const which = {
  agent: Argument.String("agent").pipe(
    Argument.withSchema(AgentRef),
    Argument.withDescription("Name or id of the agent")
  ),
  index: Argument.Int("index").pipe(
    Argument.withSchema(InstanceIndex),
    Argument.withDescription("Number of the instance, from 0")
  ),
  reason: Flag.String("reason").pipe(Flag.withDescription("Why; it stands in the event"), Flag.optional)
}

const steer = (name: "restart" | "quarantine" | "release", done: string, description: string) =>
  Command.make(
    name,
    which,
    Effect.fn(`instances.${name}`)(function* ({ agent, index, reason }) {
      const client = yield* Client
      const output = yield* Output
      const payload = yield* decodeCommand(SteerInstance, Record.getSomes({ reason }), "The order")
      const order = yield* client.supervision[name]({ params: { agent, index }, payload })
      yield* output.answer(order, (shown, ink) => SupervisionView.order(shown, done, ink))
    })
  ).pipe(Command.provide(Client.layer), Command.withDescription(description))

const restart = steer("restart", "starts anew", "Start an instance anew; what it runs is given back")
const quarantine = steer("quarantine", "is quarantined", "Let an instance take no work until it is released")
const release = steer("release", "may work", "Let an instance work again after a quarantine")

export const instances = Command.make("instances").pipe(
  Command.withDescription("Restart, quarantine and release single instances of an agent"),
  Command.withSubcommands([restart, quarantine, release])
)
