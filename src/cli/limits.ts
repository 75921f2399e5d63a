/**
 * `datamcp limits`: bound how many tasks of a key run at a time or start in a time, and see what is taken.
 */
import { Effect, Option, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { LimitRef } from "../../protocol/Ids.ts"
import { CreateLimit, type Limit, type LimitUsage, UpdateLimit } from "../../protocol/Limit.ts"
import * as Limits from "../../protocol/Limits.ts"
import { PageQuery } from "../../protocol/Query.ts"
import { Client } from "./Client.ts"
import * as Ink from "./Ink.ts"
import { decodeCommand, millisFlag } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"

const limit = Argument.String("limit").pipe(
  Argument.withSchema(LimitRef),
  Argument.withDescription("Name or id of the limit")
)

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const number = (name: string, description: string) =>
  Flag.Int(name).pipe(Flag.withDescription(description), Flag.optional)

const measureFlags = {
  concurrency: number("concurrency", "Tasks of a key that may be queued for their agent or run at a time; 0 holds all"),
  rate: number("rate", "Tasks of a key that may start per window"),
  per: millisFlag("per", Limits.rateWindowMillisMax).pipe(
    Flag.withDescription("The window of the rate, such as 1s or 1m; 1m if not given"),
    Flag.optional
  ),
  burst: number("burst", "Tasks that may start at once after a time of rest; as many as the rate if not given"),
  description: text("description", "What it is for")
}

interface Measures {
  readonly concurrency: Option.Option<number>
  readonly rate: Option.Option<number>
  readonly per: Option.Option<number>
  readonly burst: Option.Option<number>
  readonly description: Option.Option<string>
}

const minute = 60_000

/** The parts of a command that flags give. A window or burst without a rate is told by the contract. */
const measures = ({ burst, concurrency, description, per, rate }: Measures) => {
  const parts = Record.getSomes({ limit: rate, window_ms: per, burst })
  return {
    ...Record.getSomes<string, unknown>({ concurrency, description }),
    ...(Object.keys(parts).length > 0 && { rate: { window_ms: minute, ...parts } })
  }
}

const create = Command.make(
  "create",
  {
    name: Argument.String("name").pipe(Argument.withDescription("What it is called")),
    agent: text("agent", "Only tasks of this agent"),
    type: text("type", "Only tasks of this type"),
    key: text(
      "key",
      'Limit each value by itself: labels.NAME or payload.POINTER; "*", all tasks together, if not given'
    ),
    fairBy: text("fair-by", "Tasks that wait take turns by this value: labels.NAME or payload.POINTER"),
    ...measureFlags
  },
  Effect.fn("limits.create")(function* ({ agent, fairBy, key, name, type, ...given }) {
    const client = yield* Client
    const output = yield* Output
    const command = { name, ...Record.getSomes({ agent, type, key, fair_by: fairBy }), ...measures(given) }
    const payload = yield* decodeCommand(CreateLimit, command, "The limit")
    yield* output.answer(yield* client.limits.create({ payload }), details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Define a limit; it binds tasks that are accepted from now on"),
  Command.withExamples([
    {
      command: "datamcp limits create per-customer --key labels.customer --concurrency 5",
      description: "Five at a time"
    },
    { command: "datamcp limits create provider --agent llm --rate 100 --per 1m --burst 10", description: "A rate" }
  ])
)

const list = Command.make(
  "list",
  pageFlags,
  Effect.fn("limits.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(PageQuery, Record.getSomes<string, unknown>(given), "The page")
    yield* output.answer(yield* client.limits.list({ query }), showPage("limits", table))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List limits, newest first"))

const get = Command.make(
  "get",
  { limit },
  Effect.fn("limits.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.limits.get({ params: { limit: given.limit } }), details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a limit"))

const update = Command.make(
  "update",
  { limit, ...measureFlags, ifVersion: number("if-version", "Change this version of it only") },
  Effect.fn("limits.update")(function* ({ ifVersion, limit: ref, ...given }) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(UpdateLimit, measures(given), "The change")
    const headers = Option.match(ifVersion, { onNone: () => ({}), onSome: (version) => ({ "if-match": version }) })
    yield* output.answer(yield* client.limits.update({ params: { limit: ref }, headers, payload }), details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Change how much a limit allows"))

const remove = Command.make(
  "delete",
  { limit },
  Effect.fn("limits.delete")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const removed = yield* client.limits.remove({ params: { limit: given.limit } })
    yield* output.answer(removed, ({ name }) => `${name}  deleted; tasks that waited for it alone are queued`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Delete a limit"))

const usage = Command.make(
  "usage",
  { limit, key: text("key", "Only this key") },
  Effect.fn("limits.usage")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = Record.getSomes({ key: given.key })
    yield* output.answer(yield* client.limits.usage({ params: { limit: given.limit }, query }), usageTable)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("What is taken of a limit, by key"))

const measureOf = ({ concurrency, rate }: Limit): string =>
  rate !== null
    ? `${rate.limit} per ${rate.window_ms} ms, burst ${rate.burst}`
    : concurrency !== null
      ? `${concurrency} at a time`
      : "the agent's slots"

const scopeOf = ({ agent_id, type }: Limit): string =>
  [agent_id === null ? undefined : `agent ${agent_id}`, type === null ? undefined : `type ${type}`]
    .filter((part) => part !== undefined)
    .join(", ") || "all tasks"

const table = (limits: ReadonlyArray<Limit>, ink: Ink.Ink) =>
  Ink.table(
    ["NAME", "APPLIES TO", "KEY", "FAIR BY", "ALLOWS"],
    limits.map((each) => [
      each.name,
      scopeOf(each),
      Ink.printable(each.key),
      Ink.printable(each.fair_by ?? "-"),
      measureOf(each)
    ]),
    ink
  )

const details = (each: Limit, ink: Ink.Ink) =>
  Ink.facts(
    [
      ["id", each.id],
      ["name", each.name],
      ...(each.description === null ? [] : [["description", Ink.printable(each.description)] as const]),
      ["applies to", scopeOf(each)],
      ["key", Ink.printable(each.key)],
      ...(each.fair_by === null ? [] : [["fair by", Ink.printable(each.fair_by)] as const]),
      ["allows", measureOf(each)],
      ["version", String(each.version)]
    ],
    ink
  )

const usageTable = ({ keys, more_keys, name }: LimitUsage, ink: Ink.Ink) =>
  keys.length === 0
    ? `Nothing is taken of ${name}, and nothing waits for it.`
    : Ink.table(
        ["KEY", "RUNNING", "WAITING", "TOKENS"],
        keys.map(({ key, running, tokens, waiting }) => [
          Ink.printable(key),
          String(running),
          String(waiting),
          tokens === null ? "-" : tokens.toFixed(1)
        ]),
        ink
      ) + (more_keys ? `\n${ink.dim("More keys are not shown: ask with --key.")}` : "")

export const limits = Command.make("limits").pipe(
  Command.withDescription("Bound how many tasks of a key run at a time or start in a time"),
  Command.withSubcommands([list, get, create, update, remove, usage])
)
