/**
 * `datamcp webhooks`: define who is told of events, and see and repeat what they were told.
 */
import { Effect, Option, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { EventType } from "../../protocol/Event.ts"
import { DeliveryId, WebhookId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { PageQuery } from "../../protocol/Query.ts"
import {
  CreateWebhook,
  DeliveryStatus,
  ListDeliveries,
  ReplayDeliveries,
  UpdateWebhook,
  type Webhook
} from "../../protocol/Webhook.ts"
import { Client } from "./Client.ts"
import { decodeCommand, millisFlag, readObject } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"
import * as View from "./WebhookView.ts"

const id = Argument.String("id").pipe(Argument.withSchema(WebhookId), Argument.withDescription("Id of the webhook"))

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const definition = {
  file: text("file", "The whole definition as JSON (- for standard input); other flags replace its fields").pipe(
    Flag.withAlias("f")
  ),
  description: text("description", "What it is for"),
  event: Flag.Literals("event", EventType.literals).pipe(
    Flag.withDescription("Type of event to be told of, all if not given; may be repeated"),
    Flag.between(0, EventType.literals.length)
  ),
  agent: text("agent", "Only events of this agent and its tasks, by name or id"),
  type: text("type", "Only events of tasks of this type"),
  label: Flag.KeyValuePair("label").pipe(
    Flag.withDescription("Only events of tasks with this label, key=value; may be repeated"),
    Flag.optional
  ),
  includeResult: Flag.Boolean("include-result").pipe(
    Flag.withDescription("Send the result with the event of a task's end"),
    Flag.optional
  ),
  attempts: Flag.Int("attempts").pipe(Flag.withDescription("Most attempts of a delivery"), Flag.optional),
  timeout: millisFlag("timeout", Limits.webhookTimeoutMillisMax).pipe(
    Flag.withDescription("Longest time to an answer"),
    Flag.optional
  ),
  concurrency: Flag.Int("concurrency").pipe(Flag.withDescription("Deliveries in flight at a time"), Flag.optional),
  disableAfter: Flag.Int("disable-after").pipe(
    Flag.withDescription("Failed deliveries in a row that disable it"),
    Flag.optional
  )
}

type Definition = Command.Command.Config.Infer<typeof definition>

const fieldsOf = Effect.fnUntraced(function* (given: Definition) {
  const file = Option.isSome(given.file) ? yield* readObject(given.file.value) : {}
  const filter = Record.getSomes<string, unknown>({
    events: given.event.length === 0 ? Option.none() : Option.some(given.event),
    agent: given.agent,
    type: given.type,
    labels: given.label
  })
  return {
    ...file,
    ...(Object.keys(filter).length === 0 ? {} : { filter }),
    ...Record.getSomes<string, unknown>({
      description: given.description,
      include_result: given.includeResult,
      retry: Option.map(given.attempts, (max_attempts) => ({ max_attempts })),
      timeout_ms: given.timeout,
      concurrency: given.concurrency,
      disable_after: given.disableAfter
    })
  }
})

const create = Command.make(
  "create",
  {
    name: Argument.String("name").pipe(Argument.withDescription("What it is called")),
    url: Argument.String("url").pipe(Argument.withDescription("Where events are sent"), Argument.optional),
    ...definition
  },
  Effect.fn("webhooks.create")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const fields = { ...(yield* fieldsOf(given)), ...Record.getSomes({ url: given.url }), name: given.name }
    const payload = yield* decodeCommand(CreateWebhook, fields, "The webhook")
    yield* output.answer(yield* client.webhooks.create({ payload }), View.createdWebhook)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Define a webhook; its secret is shown once"),
  Command.withExamples([
    {
      command: "datamcp webhooks create ends https://example.com/datamcp --event TaskCompleted --event TaskFailed",
      description: "Be told of tasks that ended"
    }
  ])
)

const list = Command.make(
  "list",
  pageFlags,
  Effect.fn("webhooks.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(PageQuery, Record.getSomes<string, unknown>(given), "The page")
    yield* output.answer(yield* client.webhooks.list({ query }), showPage("webhooks", View.webhooks))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List webhooks, newest first"))

const get = Command.make(
  "get",
  { id },
  Effect.fn("webhooks.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.webhooks.get({ params: { id: given.id } }), View.webhook)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a webhook"))

const update = Command.make(
  "update",
  {
    id,
    name: text("name", "What it is called"),
    url: text("to", "Where events are sent"),
    ifVersion: Flag.Int("if-version").pipe(Flag.withDescription("Only this version of it"), Flag.optional),
    ...definition
  },
  Effect.fn("webhooks.update")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const fields = { ...(yield* fieldsOf(given)), ...Record.getSomes({ name: given.name, url: given.url }) }
    const payload = yield* decodeCommand(UpdateWebhook, fields, "The change")
    const headers = Option.match(given.ifVersion, {
      onNone: () => ({}),
      onSome: (version) => ({ "if-match": version })
    })
    yield* output.answer(yield* client.webhooks.update({ params: { id: given.id }, headers, payload }), View.webhook)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Replace the parts of a webhook that are given"))

const remove = Command.make(
  "delete",
  { id },
  Effect.fn("webhooks.delete")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* client.webhooks.remove({ params: { id: given.id } })
    yield* output.answer({ id: given.id, deleted: true }, () => `${given.id}  deleted, with its deliveries`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Delete a webhook with its deliveries"))

const rotate = Command.make(
  "rotate",
  {
    id,
    overlap: millisFlag("overlap", Limits.webhookOverlapMillisMax).pipe(
      Flag.withDescription("How long the old secret signs too; 24h if not given"),
      Flag.optional
    )
  },
  Effect.fn("webhooks.rotate")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ overlap_ms: given.overlap })
    yield* output.answer(yield* client.webhooks.rotate({ params: { id: given.id }, payload }), View.createdWebhook)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Give a webhook a new secret; it is shown once"))

const test = Command.make(
  "test",
  { id },
  Effect.fn("webhooks.test")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.webhooks.test({ params: { id: given.id } }), View.delivery)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Send a ping now and see what comes of it"))

const line = (webhook: Webhook) => `${webhook.name}  ${webhook.enabled ? "enabled" : "disabled"}`

const enable = Command.make(
  "enable",
  { id },
  Effect.fn("webhooks.enable")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.webhooks.enable({ params: { id: given.id } }), line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Tell it of events again"))

const disable = Command.make(
  "disable",
  { id },
  Effect.fn("webhooks.disable")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.webhooks.disable({ params: { id: given.id } }), line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Tell it of nothing until it is enabled"))

const deliveries = Command.make(
  "deliveries",
  {
    id,
    status: Flag.Literals("status", DeliveryStatus.literals).pipe(
      Flag.withDescription("Only those with this status"),
      Flag.optional
    ),
    ...pageFlags
  },
  Effect.fn("webhooks.deliveries")(function* ({ id, ...given }) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(ListDeliveries, Record.getSomes<string, unknown>(given), "The filter")
    const page = yield* client.webhooks.deliveries({ params: { id }, query })
    yield* output.answer(page, showPage("deliveries", View.deliveries))
  })
).pipe(Command.provide(Client.layer), Command.withDescription("What a webhook was sent, newest first"))

const replay = Command.make(
  "replay",
  {
    id,
    delivery: Argument.String("delivery").pipe(
      Argument.withSchema(DeliveryId),
      Argument.withDescription("One delivery; else give --since"),
      Argument.optional
    ),
    since: text("since", "Those made from then on, RFC 3339"),
    until: text("until", "Those made before, RFC 3339; now if not given"),
    status: Flag.Literals("status", ["delivered", "failed"]).pipe(
      Flag.withDescription("Those that ended so; failed if not given"),
      Flag.optional
    )
  },
  Effect.fn("webhooks.replay")(function* ({ delivery, id, ...range }) {
    const client = yield* Client
    const output = yield* Output
    if (Option.isSome(delivery)) {
      const again = yield* client.webhooks.replayOne({ params: { id, delivery: delivery.value } })
      return yield* output.answer(again, View.delivery)
    }
    const payload = yield* decodeCommand(ReplayDeliveries, Record.getSomes<string, unknown>(range), "The range")
    const replayed = yield* client.webhooks.replay({ params: { id }, payload })
    yield* output.answer(
      replayed,
      (shown) => `${shown.replayed} deliveries are sent again${shown.more ? "; there are more, ask again" : ""}`
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Send ended deliveries again, one or those of a time"))

export const webhooks = Command.make("webhooks").pipe(
  Command.withDescription("Who is told of events, and what they were told"),
  Command.withSubcommands([create, list, get, update, remove, rotate, test, enable, disable, deliveries, replay])
)
