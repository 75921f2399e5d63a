/**
 * Commands that find and change many tasks: `tasks counts|attempts|actions|prioritise|reroute|delete`, `dead-letters`,
 * `operations`, `retention`.
 */
import { Effect, Option, Record, Schedule } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { ListDeadLetters } from "../../protocol/api/ControlApi.ts"
import { OperationId, TaskId } from "../../protocol/Ids.ts"
import { SetRetention } from "../../protocol/Retention.ts"
import { priorities } from "../../protocol/Task.ts"
import {
  ActOnTasks,
  actions as actionNames,
  CountTasks,
  type Operation,
  ReplayTask
} from "../../protocol/TaskAction.ts"
import { Client } from "./Client.ts"
import { notCompleted, usage } from "./CliFailure.ts"
import * as ControlView from "./ControlView.ts"
import { decodeCommand, readJson } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"
import { acceptedLine } from "./submitTask.ts"
import { filterFlag, filterFlags, filterFrom, filterOf } from "./taskFilter.ts"

const id = Argument.String("id").pipe(Argument.withSchema(TaskId), Argument.withDescription("Id of the task"))
const operationId = Argument.String("id").pipe(
  Argument.withSchema(OperationId),
  Argument.withDescription("Id of the operation")
)
const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)
const wait = Flag.Boolean("wait").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Stay until it has ended; exit code 1 unless it completed")
)

export const counts = Command.make(
  "counts",
  {
    agent: text("agent", "Of this agent only, by name or id"),
    byAgent: Flag.Boolean("by-agent").pipe(Flag.withDefault(false), Flag.withDescription("Also for each agent"))
  },
  Effect.fn("tasks.counts")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(
      CountTasks,
      { ...Record.getSomes({ agent: given.agent }), ...(given.byAgent && { by: "agent" }) },
      "The filter"
    )
    yield* output.answer(yield* client.control.counts({ query }), ControlView.counts)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Count tasks by status"))

export const attempts = Command.make(
  "attempts",
  { id },
  Effect.fn("tasks.attempts")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const { data } = yield* client.control.attempts({ params: { id: given.id } })
    yield* output.answer(data, ControlView.attempts)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show the attempts of a task, with their errors"))

const editFlags = {
  agent: text("agent", "Another agent, by name or id"),
  payload: text("payload", "Another payload: JSON, @file, or - for standard input"),
  configuration: text("configuration", "Parts of the configuration to change: JSON, @file or -")
}

/** What a replay shall change. */
const editFrom = Effect.fnUntraced(function* (given: {
  readonly agent: Option.Option<string>
  readonly payload: Option.Option<string>
  readonly configuration: Option.Option<string>
}) {
  const payload = Option.isSome(given.payload) ? yield* readJson("payload", given.payload.value) : undefined
  const configuration = Option.isSome(given.configuration)
    ? yield* readJson("configuration", given.configuration.value)
    : undefined
  return Record.getSomes<string, unknown>({
    agent: given.agent,
    payload: Option.fromUndefinedOr(payload),
    configuration: Option.fromUndefinedOr(configuration)
  })
})

export const actions = Command.make(
  "actions",
  {
    action: Flag.Literals("action", actionNames).pipe(Flag.withDescription("What to do to each of them")),
    filter: filterFlag,
    dryRun: Flag.Boolean("dry-run").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Change nothing: say how many it would be")
    ),
    priority: Flag.Literals("priority", priorities).pipe(
      Flag.withDescription("Of prioritise: the new lane"),
      Flag.optional
    ),
    reason: text("reason", "Of cancel: kept with each task"),
    note: text("note", "Of acknowledge: kept with each task"),
    ...editFlags,
    wait
  },
  Effect.fn("tasks.actions")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(
      ActOnTasks,
      {
        action: given.action,
        filter: yield* filterOf(given.filter),
        ...(given.dryRun && { dry_run: true }),
        ...Record.getSomes({ priority: given.priority, reason: given.reason, note: given.note }),
        ...(yield* editFrom(given))
      },
      "The action"
    )
    const answer = yield* client.control.act({ payload })
    if ("dry_run" in answer || !given.wait) return yield* output.answer(answer, ControlView.operationOrDryRun)
    yield* awaited(answer)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Cancel, retry, delete, prioritise, reroute or acknowledge every task that a filter finds"),
  Command.withExamples([
    {
      command: "datamcp tasks actions --action cancel --filter status=queued --filter label=team=blue --dry-run",
      description: "How many would it be"
    }
  ])
)

/** The operation once it has ended, as the one answer. */
const awaited = Effect.fnUntraced(function* (operation: Operation) {
  const client = yield* Client
  const output = yield* Output
  const look = client.control.operation({ params: { id: operation.id } })
  const ended = yield* Effect.repeat(look, {
    schedule: Schedule.spaced("250 millis"),
    while: ({ status }) => status === "running"
  })
  yield* output.answer(ended, ControlView.operation)
  if (ended.status !== "completed") return yield* notCompleted(`Operation ${ended.id} ended as ${ended.status}.`)
})

export const prioritise = Command.make(
  "prioritise",
  { id, priority: Argument.String("priority").pipe(Argument.withDescription(`One of ${priorities.join(", ")}`)) },
  Effect.fn("tasks.prioritise")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const priority = priorities.find((one) => one === given.priority)
    if (priority === undefined) return yield* usage(`priority: expected one of ${priorities.join(", ")}`)
    const task = yield* client.control.prioritise({ params: { id: given.id }, payload: { priority } })
    yield* output.answer(task, ({ id, priority, status }) => `${id}  ${status}  ${priority}`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Move a waiting task to another lane"))

export const reroute = Command.make(
  "reroute",
  { id, agent: Argument.String("agent").pipe(Argument.withDescription("Name or id of the agent")) },
  Effect.fn("tasks.reroute")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const task = yield* client.control.reroute({ params: { id: given.id }, payload: { agent: given.agent } })
    yield* output.answer(task, ({ agent_id, id, status }) => `${id}  ${status}  agent ${agent_id}`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Give a waiting task to another agent"))

export const remove = Command.make(
  "delete",
  { id },
  Effect.fn("tasks.delete")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.control.remove({ params: { id: given.id } }), ({ id }) => `${id}  deleted`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Delete a task that has ended, with its events"))

// --- dead letters

const list = Command.make(
  "list",
  {
    type: filterFlags.type,
    agent: filterFlags.agent,
    label: filterFlags.label,
    error: filterFlags.error,
    completedAfter: filterFlags.completedAfter,
    completedBefore: filterFlags.completedBefore,
    ...pageFlags
  },
  Effect.fn("dead-letters.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(ListDeadLetters, filterFrom(given), "The filter")
    const page = yield* client.control.deadLetters({ query })
    yield* output.answer(page, showPage("dead letters", ControlView.deadLetters))
  })
).pipe(
  Command.provide(Client.layer),
  Command.withAlias("ls"),
  Command.withDescription("Tasks that failed or timed out and that nobody has dealt with")
)

const get = Command.make(
  "get",
  { id },
  Effect.fn("dead-letters.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.control.deadLetter({ params: { id: given.id } }), ControlView.deadLetter)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Why it failed, each attempt, and what was done about it")
)

const ack = Command.make(
  "ack",
  { id, note: text("note", "What was done about it") },
  Effect.fn("dead-letters.ack")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ note: given.note })
    yield* output.answer(
      yield* client.control.acknowledge({ params: { id: given.id }, payload }),
      ControlView.deadLetter
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Mark one as dealt with"))

const replay = Command.make(
  "replay",
  {
    id: Argument.String("id").pipe(
      Argument.withSchema(TaskId),
      Argument.withDescription("Id of the task; without it those of --filter"),
      Argument.optional
    ),
    filter: filterFlag,
    all: Flag.Boolean("all").pipe(Flag.withDefault(false), Flag.withDescription("All of them, without a filter")),
    ...editFlags,
    wait
  },
  Effect.fn("dead-letters.replay")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const edit = yield* decodeCommand(ReplayTask, yield* editFrom(given), "The change")
    if (Option.isSome(given.id)) {
      if (given.filter.length > 0 || given.all) return yield* usage("Give an id, or --filter, or --all; not several.")
      const accepted = yield* client.control.replay({ params: { id: given.id.value }, payload: edit })
      return yield* output.answer(accepted, acceptedLine)
    }
    if (given.all === given.filter.length > 0) return yield* usage("Give an id, or --filter, or --all.")
    const filter = yield* filterOf(given.filter)
    const operation = yield* client.control.replayMany({ payload: { filter, ...edit } })
    yield* given.wait ? awaited(operation) : output.answer(operation, ControlView.operationOrDryRun)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Start one, or many, anew: as they are, or with another payload, configuration or agent"),
  Command.withExamples([
    { command: "datamcp dead-letters replay --filter error=http_status --wait", description: "All with one cause" }
  ])
)

export const deadLetters = Command.make("dead-letters").pipe(
  Command.withDescription("Tasks that failed or timed out, and what to do about them"),
  Command.withSubcommands([list, get, ack, replay])
)

// --- operations

const operation = Command.make(
  "get",
  { id: operationId, wait },
  Effect.fn("operations.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const found = yield* client.control.operation({ params: { id: given.id } })
    yield* given.wait ? awaited(found) : output.answer(found, ControlView.operation)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("How far an action on many tasks is"))

const stop = Command.make(
  "cancel",
  { id: operationId },
  Effect.fn("operations.cancel")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.control.stopOperation({ params: { id: given.id } }), ControlView.operation)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Stop one; what it has done stays done"))

export const operations = Command.make("operations").pipe(
  Command.withDescription("Actions on many tasks"),
  Command.withSubcommands([operation, stop])
)

// --- retention

const getRetention = Command.make(
  "get",
  {},
  Effect.fn("retention.get")(function* () {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.retention.get(), ControlView.retention)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("After how long ended tasks are deleted, and what was"))

const setRetention = Command.make(
  "set",
  {
    rules: Argument.String("rules").pipe(
      Argument.withDescription('JSON, @file or -: {"rules": [{"status": ["completed"], "delete_after_ms": 604800000}]}')
    ),
    ifVersion: Flag.Int("if-version").pipe(Flag.withDescription("Only over this version"), Flag.optional)
  },
  Effect.fn("retention.set")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(SetRetention, yield* readJson("rules", given.rules), "The rules")
    const headers = Option.isSome(given.ifVersion) ? { "if-match": given.ifVersion.value } : {}
    yield* output.answer(yield* client.retention.set({ payload, headers }), ControlView.retention)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Set the rules; the first that fits an ended task decides, and what none fits is kept")
)

export const retention = Command.make("retention").pipe(
  Command.withDescription("How long ended tasks are kept"),
  Command.withSubcommands([getRetention, setRetention])
)
