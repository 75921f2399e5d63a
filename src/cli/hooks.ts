/**
 * `datamcp hooks`: define addresses at which other systems submit tasks.
 */
import { Effect, Option, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { CreateHook, HookAuthentication, UpdateHook } from "../../protocol/Hook.ts"
import { HookId } from "../../protocol/Ids.ts"
import { PageQuery } from "../../protocol/Query.ts"
import { Client } from "./Client.ts"
import { decodeCommand, readJson } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"
import * as View from "./WebhookView.ts"

const id = Argument.String("id").pipe(Argument.withSchema(HookId), Argument.withDescription("Id of the hook"))

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const definition = {
  task: text("task", "Template of the task: JSON, @file, or - for standard input").pipe(Flag.withAlias("t")),
  description: text("description", "What it is for"),
  idempotencyHeader: text("idempotency-header", "Requests with the same value of it make one task"),
  perMinute: Flag.Int("per-minute").pipe(Flag.withDescription("Requests a minute that a node takes"), Flag.optional)
}

type Definition = Command.Command.Config.Infer<typeof definition>

const fieldsOf = Effect.fnUntraced(function* (given: Definition) {
  const task = Option.isSome(given.task) ? yield* readJson("task", given.task.value) : undefined
  return Record.getSomes<string, unknown>({
    task: Option.fromUndefinedOr(task),
    description: given.description,
    idempotency_header: given.idempotencyHeader,
    per_minute: given.perMinute
  })
})

const secret = Flag.String("secret").pipe(
  Flag.withDescription("That of the other side, where it chooses one; made if not given"),
  Flag.optional
)

const create = Command.make(
  "create",
  {
    name: Argument.String("name").pipe(Argument.withDescription("What it is called")),
    authentication: Flag.Literals("authentication", HookAuthentication.literals).pipe(
      Flag.withDescription("How requests prove where they come from; secret if not given"),
      Flag.withDefault("secret" as const)
    ),
    secret,
    ...definition
  },
  Effect.fn("hooks.create")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const fields = {
      ...(yield* fieldsOf(given)),
      ...Record.getSomes({ secret: given.secret }),
      name: given.name,
      authentication: given.authentication
    }
    const payload = yield* decodeCommand(CreateHook, fields, "The hook")
    yield* output.answer(yield* client.hooks.create({ payload }), View.createdHook)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Define a hook; its secret is shown once"),
  Command.withExamples([
    {
      command: `datamcp hooks create pushes --authentication github --task '{"type":"echo","payload":{"$body":""}}'`,
      description: "A task for each push that GitHub tells of"
    }
  ])
)

const list = Command.make(
  "list",
  pageFlags,
  Effect.fn("hooks.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(PageQuery, Record.getSomes<string, unknown>(given), "The page")
    yield* output.answer(yield* client.hooks.list({ query }), showPage("hooks", View.hooks))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List hooks, newest first"))

const get = Command.make(
  "get",
  { id },
  Effect.fn("hooks.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.hooks.get({ params: { id: given.id } }), View.hook)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a hook"))

const change = Effect.fnUntraced(function* (hook: HookId, fields: unknown, version: Option.Option<number>) {
  const client = yield* Client
  const output = yield* Output
  const payload = yield* decodeCommand(UpdateHook, fields, "The change")
  const headers = Option.match(version, { onNone: () => ({}), onSome: (known) => ({ "if-match": known }) })
  yield* output.answer(yield* client.hooks.update({ params: { id: hook }, headers, payload }), View.hook)
})

const update = Command.make(
  "update",
  {
    id,
    name: text("name", "What it is called"),
    ifVersion: Flag.Int("if-version").pipe(Flag.withDescription("Only this version of it"), Flag.optional),
    ...definition
  },
  Effect.fn("hooks.update")(function* (given) {
    yield* change(given.id, { ...(yield* fieldsOf(given)), ...Record.getSomes({ name: given.name }) }, given.ifVersion)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Replace the parts of a hook that are given"))

const enable = Command.make(
  "enable",
  { id },
  Effect.fn("hooks.enable")((given) => change(given.id, { enabled: true }, Option.none()))
).pipe(Command.provide(Client.layer), Command.withDescription("Take requests again"))

const disable = Command.make(
  "disable",
  { id },
  Effect.fn("hooks.disable")((given) => change(given.id, { enabled: false }, Option.none()))
).pipe(Command.provide(Client.layer), Command.withDescription("Answer requests as if there were no such hook"))

const remove = Command.make(
  "delete",
  { id },
  Effect.fn("hooks.delete")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* client.hooks.remove({ params: { id: given.id } })
    yield* output.answer({ id: given.id, deleted: true }, () => `${given.id}  deleted`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Delete a hook"))

const rotate = Command.make(
  "rotate",
  { id, secret },
  Effect.fn("hooks.rotate")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ secret: given.secret })
    yield* output.answer(yield* client.hooks.rotate({ params: { id: given.id }, payload }), View.createdHook)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Give a hook a new secret; the old one is refused at once")
)

export const hooks = Command.make("hooks").pipe(
  Command.withDescription("Addresses at which other systems submit tasks"),
  Command.withSubcommands([create, list, get, update, enable, disable, remove, rotate])
)
