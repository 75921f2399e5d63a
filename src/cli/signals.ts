/**
 * Commands that talk to tasks: `datamcp tasks signal`, `signals`, `approve`, `reject`, `pause`, `resume`.
 */
import { Effect, Option, Record, type Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { SignalName, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { approvalSignal, type SignalReceipt, type TaskSignals } from "../../protocol/Signal.ts"
import type { Task } from "../../protocol/Task.ts"
import { Client } from "./Client.ts"
import * as Ink from "./Ink.ts"
import { readJson } from "./input.ts"
import { Output } from "./Output.ts"
import { againIfAnswerWasLost } from "./submitTask.ts"

const id = Argument.String("id").pipe(Argument.withSchema(TaskId), Argument.withDescription("Id of the task"))

const idempotencyKey = Flag.String("idempotency-key").pipe(
  Flag.withDescription("The same key sends it once; a fresh one if not given"),
  Flag.optional
)

const send = Effect.fnUntraced(function* (given: {
  readonly id: TaskId
  readonly name: SignalName
  readonly payload: Schema.Json
  readonly idempotencyKey: Option.Option<string>
}) {
  const client = yield* Client
  const output = yield* Output
  const headers = { "idempotency-key": Option.getOrElse(given.idempotencyKey, () => crypto.randomUUID()) }
  const { id: task, name, payload } = given
  const sent = client.signals.send({ params: { id: task, name }, headers, payload })
  yield* output.answer(yield* againIfAnswerWasLost(sent), receiptLine)
})

const receiptLine = (receipt: SignalReceipt) =>
  `${receipt.task_id}  signal ${receipt.number} (${receipt.name})  ${receipt.duplicate ? "sent before" : receipt.status}`

export const signal = Command.make(
  "signal",
  {
    id,
    name: Argument.String("name").pipe(Argument.withSchema(SignalName), Argument.withDescription("Name of the signal")),
    payload: Flag.String("payload").pipe(
      Flag.withDescription("JSON, @file, or - for standard input; null if not given"),
      Flag.withDefault("null")
    ),
    idempotencyKey
  },
  Effect.fn("tasks.signal")(function* (given) {
    yield* send({ ...given, payload: yield* readJson("payload", given.payload) })
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Send a signal to a task that has not ended; it is kept until the task awaits it")
)

const decide = (name: "approve" | "reject", description: string) =>
  Command.make(
    name,
    {
      id,
      comment: Flag.String("comment").pipe(Flag.withDescription("Kept with the decision"), Flag.optional),
      idempotencyKey
    },
    Effect.fn(`tasks.${name}`)(function* (given) {
      const payload = { decision: name, ...Record.getSomes({ comment: given.comment }) }
      yield* send({ id: given.id, name: approvalSignal, payload, idempotencyKey: given.idempotencyKey })
    })
  ).pipe(Command.provide(Client.layer), Command.withDescription(description))

export const approve = decide(
  "approve",
  "Approve what a task waits for; `tasks list --awaits approval` shows what does"
)
export const reject = decide("reject", "Reject what a task waits for")

export const signals = Command.make(
  "signals",
  {
    id,
    after: Flag.Int("after").pipe(Flag.withDefault(0), Flag.withDescription("Signals with a greater number only"))
  },
  Effect.fn("tasks.signals")(function* ({ after, id: task }) {
    const client = yield* Client
    const output = yield* Output
    const query = { after, limit: Limits.pageEntriesMax }
    yield* output.answer(yield* client.signals.list({ params: { id: task }, query }), show)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show what a task waits for and what it was sent"))

const show = ({ awaiting, data, next_after: next }: TaskSignals, ink: Ink.Ink) =>
  [
    ...awaiting.map(({ message, name, until }) =>
      Ink.printable(
        `waits for ${name}${until === null ? "" : ` until ${Ink.time(until)}`}${message === null ? "" : `: ${message}`}`
      )
    ),
    data.length === 0
      ? "no signals"
      : Ink.table(
          ["#", "NAME", "FROM", "AT", "TAKEN", "PAYLOAD"],
          data.map(({ actor, at, name, number, payload, taken }) => [
            ...[String(number), name, Ink.printable(actor), Ink.time(at), taken ? "yes" : "no"],
            Ink.printable(JSON.stringify(payload).slice(0, 80))
          ]),
          ink
        ),
    ...(next === null ? [] : [`more with --after ${next}`])
  ].join("\n")

const stateLine = (task: Task) =>
  `${task.id}  ${task.status}${task.waiting_for === null ? "" : ` (waits for ${task.waiting_for})`}`

const tree = Flag.Boolean("tree").pipe(Flag.withDefault(false), Flag.withDescription("All tasks below it too"))

const ofTree = (isTree: boolean) => (isTree ? { tree: true } : {})

export const pause = Command.make(
  "pause",
  { id, tree, reason: Flag.String("reason").pipe(Flag.withDescription("Kept for whoever asks why"), Flag.optional) },
  Effect.fn("tasks.pause")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ reason: given.reason })
    yield* output.answer(
      yield* client.signals.pause({ params: { id: given.id }, query: ofTree(given.tree), payload }),
      stateLine
    )
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Set a task aside; one that runs is interrupted, and the attempt does not count")
)

export const resume = Command.make(
  "resume",
  { id, tree },
  Effect.fn("tasks.resume")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(
      yield* client.signals.resume({ params: { id: given.id }, query: ofTree(given.tree) }),
      stateLine
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Back to work with a task that was set aside"))
