/**
 * `datamcp keys`: make, list and revoke API keys.
 */
import { Effect, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { type ApiKey, CreateApiKey, type CreatedApiKey } from "../../protocol/ApiKey.ts"
import { ApiKeyId } from "../../protocol/Ids.ts"
import { permissions, Role } from "../../protocol/Permission.ts"
import { PageQuery } from "../../protocol/Query.ts"
import { Client } from "./Client.ts"
import * as Ink from "./Ink.ts"
import { decodeCommand } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"

const create = Command.make(
  "create",
  {
    name: Argument.String("name").pipe(Argument.withDescription("What it is for")),
    role: Flag.Literals("role", Role.literals).pipe(Flag.withDescription("What it may do")),
    permission: Flag.Literals("permission", permissions).pipe(
      Flag.withDescription("Only these of the role's permissions; may be repeated"),
      Flag.between(0, permissions.length)
    ),
    namespace: Flag.String("namespace").pipe(
      Flag.withDescription("Another namespace than your own, made if new; needs an admin of default"),
      Flag.optional
    ),
    expiresAt: Flag.String("expires-at").pipe(Flag.withDescription("RFC 3339; never if not given"), Flag.optional)
  },
  Effect.fn("keys.create")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(
      CreateApiKey,
      {
        name: given.name,
        role: given.role,
        ...(given.permission.length === 0 ? {} : { permissions: given.permission }),
        ...Record.getSomes({ namespace: given.namespace, expires_at: given.expiresAt })
      },
      "The key"
    )
    yield* output.answer(yield* client.apiKeys.create({ payload }), showCreated)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Make an API key; it is shown once"),
  Command.withExamples([
    { command: "datamcp keys create nightly-job --role api_user", description: "A key for a program" }
  ])
)

const showCreated = (created: CreatedApiKey, ink: Ink.Ink) =>
  [
    ink.bold(created.key),
    ink.dim("Keep it now: it is not stored and cannot be shown again."),
    facts(created, ink)
  ].join("\n")

const facts = (key: ApiKey, ink: Ink.Ink) =>
  Ink.facts(
    [
      ["id", key.id],
      ["name", Ink.printable(key.name)],
      ["namespace", key.namespace],
      ["role", key.role],
      ["expires", key.expires_at === null ? "never" : Ink.time(key.expires_at)]
    ],
    ink
  )

const list = Command.make(
  "list",
  pageFlags,
  Effect.fn("keys.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(PageQuery, Record.getSomes<string, unknown>(given), "The page")
    yield* output.answer(yield* client.apiKeys.list({ query }), showPage("keys", table))
  })
).pipe(
  Command.provide(Client.layer),
  Command.withAlias("ls"),
  Command.withDescription("List API keys, without their secrets")
)

const table = (keys: ReadonlyArray<ApiKey>, ink: Ink.Ink) =>
  Ink.table(
    ["ID", "NAME", "NAMESPACE", "ROLE", "CREATED", "STATE"],
    keys.map((key) => [
      key.id,
      Ink.printable(key.name),
      key.namespace,
      key.role,
      Ink.time(key.created_at),
      key.revoked_at !== null
        ? ink.red(`revoked ${Ink.time(key.revoked_at)}`)
        : key.expires_at !== null
          ? `until ${Ink.time(key.expires_at)}`
          : ink.green("valid")
    ]),
    ink
  )

const revoke = Command.make(
  "revoke",
  { id: Argument.String("id").pipe(Argument.withSchema(ApiKeyId), Argument.withDescription("Id of the key")) },
  Effect.fn("keys.revoke")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* client.apiKeys.revoke({ params: { id: given.id } })
    yield* output.answer({ id: given.id, revoked: true }, () => `${given.id}  revoked; refused everywhere within 5 s`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Revoke an API key"))

export const keys = Command.make("keys").pipe(
  Command.withDescription("API keys: who may use this platform"),
  Command.withSubcommands([create, list, revoke])
)
