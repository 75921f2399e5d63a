/**
 * `datamcp tasks`: submit, get, list, watch, cancel, retry; what changes many stands in `control.ts`, what talks to
 * running ones in `signals.ts` and `logs.ts`.
 */
import { Duration, Effect, Option, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { ListTasks } from "../../protocol/Query.ts"
import { awaitAndShow, failUnlessCompleted, untilTaskEnds } from "./Await.ts"
import { Client } from "./Client.ts"
import { actions, attempts, counts, prioritise, remove, reroute } from "./control.ts"
import { decodeCommand, millisFlag } from "./input.ts"
import { logs } from "./logs.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"
import { approve, pause, reject, resume, signal, signals } from "./signals.ts"
import { acceptedLine, submit, wait } from "./submitTask.ts"
import * as TaskView from "./TaskView.ts"
import { filterFlags, filterFrom } from "./taskFilter.ts"

const id = Argument.String("id").pipe(Argument.withSchema(TaskId), Argument.withDescription("Id of the task"))

const tree = Flag.Boolean("tree").pipe(Flag.withDefault(false))

const get = Command.make(
  "get",
  {
    id,
    wait: millisFlag("wait", Limits.waitMillisMax).pipe(
      Flag.withDescription(`Wait for its end, at most ${Limits.waitMillisMax / 1000}s`),
      Flag.optional
    ),
    tree: tree.pipe(Flag.withDescription("With --wait: for the end of all tasks below it too"))
  },
  Effect.fn("tasks.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = Option.isSome(given.wait)
      ? { wait: Duration.millis(given.wait.value), ...(given.tree && { tree: true }) }
      : {}
    yield* output.answer(yield* client.tasks.get({ params: { id: given.id }, query }), TaskView.details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a task"))

const filter = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const list = Command.make(
  "list",
  {
    ...filterFlags,
    sort: Flag.Literals("sort", ["created", "completed", "priority"]).pipe(
      Flag.withDescription("created if not given; the others need a filter that has an index"),
      Flag.optional
    ),
    order: Flag.Literals("order", ["desc", "asc"]).pipe(Flag.withDescription("desc if not given"), Flag.optional),
    ...pageFlags
  },
  Effect.fn("tasks.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = yield* decodeCommand(ListTasks, filterFrom(given), "The filter")
    yield* output.answer(yield* client.tasks.list({ query }), showPage("tasks", TaskView.list))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List tasks, newest first"))

const watch = Command.make(
  "watch",
  { id },
  Effect.fn("tasks.watch")(function* (given) {
    const client = yield* Client
    const task = yield* client.tasks.get({ params: { id: given.id }, query: {} })
    const ended = yield* untilTaskEnds(task, { events: true })
    yield* failUnlessCompleted(ended)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription(
    "Follow a task's events to its end; goes on when the server restarts. Ctrl-C leaves the task be"
  )
)

const cancel = Command.make(
  "cancel",
  {
    id,
    reason: filter("reason", "Kept with the task for whoever asks why"),
    tree: tree.pipe(Flag.withDescription("All tasks below it too"))
  },
  Effect.fn("tasks.cancel")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ reason: given.reason })
    yield* output.answer(
      yield* client.tasks.cancel({ params: { id: given.id }, query: given.tree ? { tree: true } : {}, payload }),
      (task) => `${task.id}  ${task.status}`
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("End a task as cancelled, whatever it is doing"))

const retry = Command.make(
  "retry",
  { id, wait },
  Effect.fn("tasks.retry")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const accepted = yield* client.tasks.retry({ params: { id: given.id } })
    yield* given.wait ? awaitAndShow(accepted.id) : output.answer(accepted, acceptedLine)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Start a task that failed anew, as a task of its own that links back")
)

export const tasks = Command.make("tasks").pipe(
  Command.withDescription("Submit tasks and see what becomes of them"),
  Command.withSubcommands([
    submit,
    get,
    list,
    counts,
    watch,
    attempts,
    logs,
    signal,
    signals,
    approve,
    reject,
    pause,
    resume,
    cancel,
    retry,
    prioritise,
    reroute,
    remove,
    actions
  ])
)
