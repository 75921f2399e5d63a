/**
 * `datamcp agents versions`, `rollback` and `rollout`: what was in force, what is, and what shall be.
 */
import { Effect, Option } from "effect"
import { Argument, Command } from "effect/cli"
import { AgentVersionNumber, RollBackAgent, RollOutAgent } from "../../protocol/AgentVersion.ts"
import * as AgentVersionView from "./AgentVersionView.ts"
import * as AgentView from "./AgentView.ts"
import { Client } from "./Client.ts"
import { decodeCommand } from "./input.ts"
import { Output } from "./Output.ts"

const agent = Argument.String("agent").pipe(Argument.withDescription("Name or id"))
const version = Argument.Int("version").pipe(Argument.withDescription("Number of a version"))

export const versions = Command.make(
  "versions",
  { agent, version: Argument.optional(version) },
  Effect.fn("agents.versions")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    if (Option.isNone(given.version)) {
      const all = yield* client.agentVersions.list({ params: { agent: given.agent } })
      return yield* output.answer(all, AgentVersionView.list)
    }
    const wanted = yield* decodeCommand(AgentVersionNumber, given.version.value, "The version")
    const one = yield* client.agentVersions.get({ params: { agent: given.agent, version: wanted } })
    yield* output.answer(one, AgentVersionView.details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Versions of an agent's definition with their figures, or one of them whole")
)

export const rollback = Command.make(
  "rollback",
  { agent, version },
  Effect.fn("agents.rollback")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(RollBackAgent, { version: given.version }, "The roll-back")
    const after = yield* client.agentVersions.rollBack({ params: { agent: given.agent }, payload, headers: {} })
    yield* output.answer(after, AgentView.details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Make a new version with the definition of an old one"))

export const rollout = Command.make(
  "rollout",
  {
    agent,
    percent: Argument.Int("percent").pipe(
      Argument.withDescription("Share of new tasks that get the new version: 100 finishes, 0 takes it back")
    )
  },
  Effect.fn("agents.rollout")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(RollOutAgent, { percent: given.percent }, "The roll-out")
    const after = yield* client.agentVersions.rollOut({ params: { agent: given.agent }, payload, headers: {} })
    yield* output.answer(after, AgentView.details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Change the share of a roll-out, which begins by agents update --rollout")
)
