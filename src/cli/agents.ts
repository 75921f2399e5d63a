/**
 * `datamcp agents`: define them, steer them, see what they do.
 */
import { Effect, Option, Predicate, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { type AgentConfiguration, CreateAgent, ScaleAgent, UpdateAgent } from "../../protocol/Agent.ts"
import { AgentRef } from "../../protocol/Ids.ts"
import { ListAgents } from "../../protocol/Query.ts"
import * as AgentView from "./AgentView.ts"
import { rollback, rollout, versions } from "./agentVersions.ts"
import { Client } from "./Client.ts"
import { decodeCommand, millisFlag, readJson, readObject } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"

const agent = Argument.String("agent").pipe(
  Argument.withSchema(AgentRef),
  Argument.withDescription("Name or id of the agent")
)

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const list = Command.make(
  "list",
  { type: text("type", "Of this type"), capability: text("capability", "With this capability"), ...pageFlags },
  Effect.fn("agents.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(ListAgents, Record.getSomes<string, unknown>(given), "The filter")
    yield* output.answer(yield* client.agents.list({ query }), showPage("agents", AgentView.list))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List agents, newest first"))

const get = Command.make(
  "get",
  { agent },
  Effect.fn("agents.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.agents.get({ params: { agent: given.agent } }), AgentView.details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show an agent"))

const definition = {
  file: text("file", "The whole definition as JSON (- for standard input); other flags replace its fields").pipe(
    Flag.withAlias("f")
  ),
  description: text("description", "What it is for"),
  settings: text("settings", "Settings of its behaviour: JSON, @file, or - for standard input"),
  instances: Flag.Int("instances").pipe(Flag.withDescription("Instances that shall run"), Flag.optional),
  concurrency: Flag.Int("concurrency").pipe(
    Flag.withDescription("Tasks that an instance runs at a time"),
    Flag.optional
  ),
  timeout: millisFlag("timeout").pipe(
    Flag.withDescription("Longest run of an attempt, for tasks that set none"),
    Flag.optional
  ),
  label: Flag.KeyValuePair("label").pipe(Flag.withDescription("key=value; may be repeated"), Flag.optional)
}

type Definition = Command.Command.Config.Infer<typeof definition>

/** The fields that the flags say, on top of those of the file. */
const definitionFrom = Effect.fnUntraced(function* (
  given: Definition,
  before: { readonly configuration?: AgentConfiguration }
) {
  const file = Option.isSome(given.file) ? yield* readObject(given.file.value) : {}
  const settings = Option.isSome(given.settings) ? yield* readJson("settings", given.settings.value) : undefined
  const configuration = Record.getSomes<string, unknown>({
    max_concurrent_tasks: given.concurrency,
    timeout_ms: given.timeout,
    settings: Option.fromUndefinedOr(settings)
  })
  const base = { ...before.configuration, ...(Predicate.isObject(file["configuration"]) ? file["configuration"] : {}) }
  return {
    ...file,
    ...Record.getSomes<string, unknown>({
      description: given.description,
      desired_instances: given.instances,
      labels: given.label
    }),
    ...(Record.isEmptyRecord(configuration) ? {} : { configuration: { ...base, ...configuration } })
  }
})

const create = Command.make(
  "create",
  {
    name: Argument.String("name").pipe(Argument.withDescription("Unique in its namespace"), Argument.optional),
    type: text("type", "Its behaviour: echo, http, sql, or one of your own").pipe(Flag.withAlias("t")),
    ...definition
  },
  Effect.fn("agents.create")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const fields = yield* definitionFrom(given, {})
    const payload = yield* decodeCommand(
      CreateAgent,
      { ...fields, ...Record.getSomes({ name: given.name, type: given.type }) },
      "The agent"
    )
    yield* output.answer(yield* client.agents.create({ payload }), AgentView.details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Define an agent"),
  Command.withExamples([
    { command: "datamcp agents create greeter --type echo", description: "An agent that answers what it is given" },
    { command: "datamcp agents create --file agent.json", description: "From a file" }
  ])
)

const update = Command.make(
  "update",
  {
    agent,
    ...definition,
    rollout: Flag.Int("rollout").pipe(
      Flag.withDescription("Percent of new tasks that get the change; the others run as before"),
      Flag.optional
    ),
    ifVersion: Flag.Int("if-version").pipe(
      Flag.withDescription("Only if it still has this version; the one just read if not given"),
      Flag.optional
    )
  },
  Effect.fn("agents.update")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const params = { agent: given.agent }
    const before = yield* client.agents.get({ params })
    const rollout = Option.map(given.rollout, (percent) => ({ percent }))
    const change = { ...(yield* definitionFrom(given, before)), ...Record.getSomes({ rollout }) }
    const payload = yield* decodeCommand(UpdateAgent, change, "The change")
    const version = Option.getOrElse(given.ifVersion, () => before.version)
    const after = yield* client.agents.update({ params, payload, headers: { "if-match": version } })
    yield* output.answer(after, AgentView.details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Change what is given of an agent's definition"))

const scale = Command.make(
  "scale",
  { agent, instances: Argument.Int("instances").pipe(Argument.withDescription("Instances that shall run")) },
  Effect.fn("agents.scale")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(ScaleAgent, { desired_instances: given.instances }, "The scale")
    yield* output.answer(yield* client.agents.scale({ params: { agent: given.agent }, payload }), AgentView.line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Set how many instances shall run"))

const pause = Command.make(
  "pause",
  { agent },
  Effect.fn("agents.pause")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.agents.pause({ params: { agent: given.agent } }), AgentView.line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Start no more of its tasks; queued work waits"))

const resume = Command.make(
  "resume",
  { agent },
  Effect.fn("agents.resume")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.agents.resume({ params: { agent: given.agent } }), AgentView.line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Back to work, also out of error"))

const remove = Command.make(
  "delete",
  {
    agent,
    force: Flag.Boolean("force").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Cancel its open tasks instead of finishing them")
    )
  },
  Effect.fn("agents.delete")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = given.force ? { force: true } : {}
    yield* output.answer(yield* client.agents.remove({ params: { agent: given.agent }, query }), AgentView.line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Take nothing new, finish what it has, then end"))

const metrics = Command.make(
  "metrics",
  { agent },
  Effect.fn("agents.metrics")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.agents.metrics({ params: { agent: given.agent } }), AgentView.metrics)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Figures of an agent and its instances"))

export const agents = Command.make("agents").pipe(
  Command.withDescription("Define agents and steer them"),
  Command.withSubcommands([
    list,
    get,
    create,
    update,
    pause,
    resume,
    remove,
    scale,
    metrics,
    versions,
    rollback,
    rollout
  ])
)
