/**
 * `datamcp schedules`: work that comes back by the clock.
 */
import { Effect, Option, Predicate, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { ScheduleRef } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { ListSchedules, PageQuery } from "../../protocol/Query.ts"
import {
  CatchUp,
  CreateSchedule,
  Overlap,
  PreviewCount,
  PreviewSchedule,
  ScheduleStatus,
  UpdateSchedule
} from "../../protocol/Schedule.ts"
import { priorities } from "../../protocol/Task.ts"
import { Client } from "./Client.ts"
import { decodeCommand, millisFlag, readJson, readObject } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"
import * as ScheduleView from "./ScheduleView.ts"
import { againIfAnswerWasLost } from "./submitTask.ts"

const schedule = Argument.String("schedule").pipe(
  Argument.withSchema(ScheduleRef),
  Argument.withDescription("Name or id of the schedule")
)

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

/** When it runs. */
const times = {
  cron: text("cron", "Five fields (minute hour day month weekday), six with seconds first, or a word such as @daily"),
  every: millisFlag("every", Limits.scheduleAheadMillisMax).pipe(
    Flag.withDescription("Instead of --cron: an interval"),
    Flag.optional
  ),
  timeZone: text("time-zone", "What --cron is meant in, such as Europe/Berlin; UTC if not given"),
  startsAt: text("starts-at", "Nothing is due before, RFC 3339"),
  endsAt: text("ends-at", "Nothing is due after, RFC 3339")
}

const timesOf = (given: Command.Command.Config.Infer<typeof times>) =>
  Record.getSomes<string, unknown>({
    cron: given.cron,
    every_ms: given.every,
    time_zone: given.timeZone,
    starts_at: given.startsAt,
    ends_at: given.endsAt
  })

const definition = {
  file: text("file", "The whole schedule as JSON (- for standard input); other flags replace its fields").pipe(
    Flag.withAlias("f")
  ),
  description: text("description", "What it is for"),
  ...times,
  jitter: millisFlag("jitter", Limits.scheduleJitterMillisMax).pipe(
    Flag.withDescription("Start each run up to so much later"),
    Flag.optional
  ),
  catchUp: Flag.Literals("catch-up", CatchUp.literals).pipe(
    Flag.withDescription("Runs that were missed: none (skip), the latest (one), or all"),
    Flag.optional
  ),
  overlap: Flag.Literals("overlap", Overlap.literals).pipe(
    Flag.withDescription("When the run before has not ended"),
    Flag.optional
  ),
  type: text("type", "Task: kind of work, such as echo or http.fetch").pipe(Flag.withAlias("t")),
  agent: text("agent", "Task: agent that shall do it, by name or id").pipe(Flag.withAlias("a")),
  payload: text("payload", "Task: JSON, @file, or - for standard input").pipe(Flag.withAlias("p")),
  priority: Flag.Literals("priority", priorities).pipe(Flag.withDescription("Task: lane"), Flag.optional),
  graph: text("graph", "Instead of a task: a JSON file with a graph"),
  label: Flag.KeyValuePair("label").pipe(Flag.withDescription("key=value; may be repeated"), Flag.optional)
}

type Definition = Command.Command.Config.Infer<typeof definition>

/** The fields that the flags say, on top of those of the file; those of a task on top of the task before. */
const definitionFrom = Effect.fnUntraced(function* (given: Definition, before: { readonly task?: object }) {
  const file = Option.isSome(given.file) ? yield* readObject(given.file.value) : {}
  const payload = Option.isSome(given.payload) ? yield* readJson("payload", given.payload.value) : undefined
  const graph = Option.isSome(given.graph) ? yield* readObject(given.graph.value) : undefined
  const task = Record.getSomes<string, unknown>({
    type: given.type,
    agent: given.agent,
    priority: given.priority,
    payload: Option.fromUndefinedOr(payload)
  })
  const base = { ...before.task, ...(Predicate.isObject(file["task"]) ? file["task"] : {}) }
  return {
    ...file,
    ...timesOf(given),
    ...Record.getSomes<string, unknown>({
      description: given.description,
      jitter_ms: given.jitter,
      catch_up: given.catchUp,
      overlap: given.overlap,
      labels: given.label,
      graph: Option.fromUndefinedOr(graph)
    }),
    ...(Record.isEmptyRecord(task) ? {} : { task: { ...base, ...task } })
  }
})

const create = Command.make(
  "create",
  {
    name: Argument.String("name").pipe(Argument.withDescription("Unique in its namespace"), Argument.optional),
    paused: Flag.Boolean("paused").pipe(Flag.withDefault(false), Flag.withDescription("Do not start it yet")),
    ...definition
  },
  Effect.fn("schedules.create")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const fields = yield* definitionFrom(given, {})
    const payload = yield* decodeCommand(
      CreateSchedule,
      { ...fields, ...Record.getSomes({ name: given.name }), ...(given.paused && { paused: true }) },
      "The schedule"
    )
    yield* output.answer(yield* client.schedules.create({ payload }), ScheduleView.details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Make a schedule"),
  Command.withExamples([
    {
      command: `datamcp schedules create report --cron "0 9 * * mon-fri" --time-zone Europe/Berlin --agent echo`,
      description: "A task on each working day at nine"
    },
    { command: "datamcp schedules create --file schedule.json", description: "From a file" }
  ])
)

const list = Command.make(
  "list",
  {
    status: Flag.Literals("status", ScheduleStatus.literals).pipe(Flag.withDescription("In this state"), Flag.optional),
    ...pageFlags
  },
  Effect.fn("schedules.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(ListSchedules, Record.getSomes<string, unknown>(given), "The filter")
    yield* output.answer(yield* client.schedules.list({ query }), showPage("schedules", ScheduleView.list))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List schedules, newest first"))

const get = Command.make(
  "get",
  { schedule },
  Effect.fn("schedules.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.schedules.get({ params: { schedule: given.schedule } }), ScheduleView.details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a schedule"))

const update = Command.make(
  "update",
  {
    schedule,
    ...definition,
    ifVersion: Flag.Int("if-version").pipe(
      Flag.withDescription("Only if it still has this version; the one just read if not given"),
      Flag.optional
    )
  },
  Effect.fn("schedules.update")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const params = { schedule: given.schedule }
    const before = yield* client.schedules.get({ params })
    const payload = yield* decodeCommand(UpdateSchedule, yield* definitionFrom(given, before), "The change")
    const version = Option.getOrElse(given.ifVersion, () => before.version)
    const after = yield* client.schedules.update({ params, payload, headers: { "if-match": version } })
    yield* output.answer(after, ScheduleView.details)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Change what is given of a schedule; its runs have your rights from then on")
)

const remove = Command.make(
  "delete",
  { schedule },
  Effect.fn("schedules.delete")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const gone = yield* client.schedules.remove({ params: { schedule: given.schedule } })
    yield* output.answer(gone, ({ name }) => `${name}  deleted`)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Delete a schedule; the tasks it made stay"))

const pause = Command.make(
  "pause",
  { schedule },
  Effect.fn("schedules.pause")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.schedules.pause({ params: { schedule: given.schedule } }), ScheduleView.line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Nothing is due until it is resumed"))

const resume = Command.make(
  "resume",
  { schedule },
  Effect.fn("schedules.resume")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(yield* client.schedules.resume({ params: { schedule: given.schedule } }), ScheduleView.line)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Run again, from its next due time on"))

const run = Command.make(
  "run",
  {
    schedule,
    idempotencyKey: text("idempotency-key", "The same key gives the same task or graph; a fresh one if not given")
  },
  Effect.fn("schedules.run")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const fresh = yield* Effect.sync(() => crypto.randomUUID())
    const headers = { "idempotency-key": Option.getOrElse(given.idempotencyKey, () => fresh) }
    const started = yield* againIfAnswerWasLost(client.schedules.run({ params: { schedule: given.schedule }, headers }))
    yield* output.answer(started, ScheduleView.started)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Submit its task or graph now"))

const count = Flag.Int("count").pipe(
  Flag.withAlias("n"),
  Flag.withSchema(PreviewCount),
  Flag.withDescription(
    `Due times wanted, 1 to ${Limits.schedulePreviewMax}; ${Limits.schedulePreviewDefault} if not given`
  ),
  Flag.optional
)

const next = Command.make(
  "next",
  { schedule, count },
  Effect.fn("schedules.next")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = Record.getSomes({ count: given.count })
    const due = yield* client.schedules.next({ params: { schedule: given.schedule }, query })
    yield* output.answer(due, ScheduleView.dueTimes)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("When a schedule runs next"))

const preview = Command.make(
  "preview",
  {
    expression: Argument.String("cron").pipe(
      Argument.withDescription("A cron expression, in quotes; or --every"),
      Argument.optional
    ),
    every: times.every,
    timeZone: times.timeZone,
    startsAt: times.startsAt,
    endsAt: times.endsAt,
    after: text("after", "Due times after this moment, RFC 3339; now if not given"),
    count
  },
  Effect.fn("schedules.preview")(function* ({ after, count, expression, ...given }) {
    const client = yield* Client
    const output = yield* Output
    const payload = yield* decodeCommand(
      PreviewSchedule,
      { ...timesOf({ ...given, cron: expression }), ...Record.getSomes<string, unknown>({ after, count }) },
      "The question"
    )
    yield* output.answer(yield* client.schedules.preview({ payload }), ScheduleView.dueTimes)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("When something would run; nothing is stored"),
  Command.withExamples([
    {
      command: `datamcp schedules preview "30 2 * * *" --time-zone Europe/Berlin --after 2026-03-28T12:00:00Z`,
      description: "What happens when the clocks go forward"
    }
  ])
)

const runs = Command.make(
  "runs",
  { schedule, ...pageFlags },
  Effect.fn("schedules.runs")(function* ({ schedule: ref, ...given }) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(PageQuery, Record.getSomes<string, unknown>(given), "The page")
    const page = yield* client.schedules.runs({ params: { schedule: ref }, query })
    yield* output.answer(page, showPage("runs", ScheduleView.runs))
  })
).pipe(Command.provide(Client.layer), Command.withDescription("What became of each due time, newest first"))

export const schedules = Command.make("schedules").pipe(
  Command.withDescription("Work that comes back by the clock"),
  Command.withSubcommands([create, list, get, update, remove, pause, resume, run, next, preview, runs])
)
