/**
 * Waiting in front of a person: bars on a terminal, plain lines elsewhere, until a task or graph has ended.
 *
 * Ctrl-C ends the waiting and nothing else: the work goes on, and the last line says how to come back to it.
 */
import { Clock, Duration, Effect, Ref, Schedule, Stream } from "effect"
import type { Event } from "../../protocol/Event.ts"
import { type Graph, isTerminal, type Task } from "../../protocol/Task.ts"
import { Client } from "./Client.ts"
import { noAnswer, notCompleted } from "./CliFailure.ts"
import { type Connected, graphStates, patiently, taskEvents } from "./Follow.ts"
import * as GraphView from "./GraphView.ts"
import * as LiveArea from "./LiveArea.ts"
import { Output } from "./Output.ts"
import * as TaskView from "./TaskView.ts"

/** How often what moves is drawn, besides when something happens. */
const redrawEvery = "200 millis"

const awayWords = "The server is away; trying again ..."
const backWords = "The server is back."

/** Tells once that the server is lost, and once that it is back. */
export const connection = (tell: (words: string) => Effect.Effect<void>) =>
  Effect.map(Ref.make(false), (away): Connected & { readonly isAway: Effect.Effect<boolean> } => ({
    lost: Effect.flatMap(Ref.getAndSet(away, true), (was) => (was ? Effect.void : tell(awayWords))),
    back: Effect.flatMap(Ref.getAndSet(away, false), (was) => (was ? tell(backWords) : Effect.void)),
    isAway: Ref.get(away)
  }))

const goesOn = (what: string, command: string) =>
  Effect.flatMap(Output, (output) => output.note(`\nStopped watching; ${what} goes on. Come back with: ${command}`))

/** Where the events of a task go while it is awaited. */
export interface TaskWatch {
  /** Every event as a line, or as a JSON document of its own; otherwise only bars on a terminal. */
  readonly events: boolean
}

/** The task once it has ended. Shows its progress on the way. */
export const untilTaskEnds = Effect.fnUntraced(
  function* (task: Task, watch: TaskWatch) {
    const client = yield* Client
    const output = yield* Output
    const tell = (event: Event) =>
      watch.events ? output.item(event, (shown, ink) => TaskView.eventLine(shown, ink)) : Effect.void
    if (isTerminal(task.status) && !watch.events) return task
    yield* output.animated
      ? animateTask(task, watch)
      : Effect.flatMap(connection(output.note), (connected) =>
          Stream.runForEach(taskEvents(task.id, 0, connected), tell)
        )
    const last = client.tasks.get({ params: { id: task.id }, query: { wait: Duration.seconds(1) } })
    const ended = yield* patiently(last, { lost: Effect.void, back: Effect.void })
    return isTerminal(ended.status)
      ? ended
      : yield* noAnswer("unexpected-answer", `Task ${task.id} was told as ended and is ${ended.status}.`, "Ask again.")
  },
  (effect, task) => Effect.onInterrupt(effect, () => goesOn(`task ${task.id}`, `datamcp tasks watch ${task.id}`))
)

const animateTask = Effect.fnUntraced(function* (task: Task, watch: TaskWatch) {
  const { ink } = yield* Output
  const area = yield* LiveArea.make
  const connected = yield* connection((words) => area.print(ink.yellow(words)))
  const seen = yield* Ref.make<TaskView.TaskSeen>({
    name: task.name,
    status: "pending",
    attempt: 0,
    percentage: 0,
    step: "",
    since: task.created_at
  })
  const draw = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const state = yield* Ref.get(seen)
    yield* area.draw((size) => [TaskView.progressLine(state, now, size, ink)])
  })
  yield* Effect.forkScoped(Effect.repeat(draw, Schedule.spaced(redrawEvery)))
  yield* Stream.runForEach(taskEvents(task.id, 0, connected), (event) =>
    Ref.update(seen, (state) => TaskView.afterEvent(state, event)).pipe(
      Effect.andThen(
        watch.events && event.type !== "TaskProgressed" ? area.print(TaskView.eventLine(event, ink)) : Effect.void
      ),
      Effect.andThen(draw)
    )
  )
}, Effect.scoped)

/** Called with each state of a graph that is seen; what it tells appears among what is shown. */
export type OnGraph = (seen: GraphView.GraphSeen, tell: (words: string) => Effect.Effect<void>) => Effect.Effect<void>

/** The graph once it has ended, with the names of its agents. Shows its tasks on the way. */
export const followGraph = Effect.fnUntraced(function* (id: Graph["id"], onGraph: OnGraph = () => Effect.void) {
  const output = yield* Output
  return yield* output.animated ? animateGraph(id, onGraph) : narrateGraph(id, onGraph)
})

/** As `followGraph`, in front of a person who may stop watching. */
export const untilGraphEnds = (id: Graph["id"]) =>
  Effect.onInterrupt(followGraph(id), () => goesOn(`graph ${id}`, `datamcp graphs get ${id} --watch`))

const narrateGraph = Effect.fnUntraced(function* (id: Graph["id"], onGraph: OnGraph) {
  const output = yield* Output
  const connected = yield* connection(output.note)
  return yield* graphStates(id, connected).pipe(
    Stream.tap((seen) => onGraph(seen, output.note)),
    Stream.mapAccumEffect(
      (): Graph | undefined => undefined,
      (before, seen) =>
        Effect.as(
          Effect.forEach(GraphView.changes(before, seen), (line) => output.line(line), { discard: true }),
          [seen.graph, [seen]] as const
        )
    ),
    lastOf
  )
})

const animateGraph = Effect.fnUntraced(function* (id: Graph["id"], onGraph: OnGraph) {
  const { ink } = yield* Output
  const area = yield* LiveArea.make
  const tell = (words: string) => area.print(ink.yellow(words))
  const connected = yield* connection(tell)
  return yield* graphStates(id, connected).pipe(
    Stream.tap((seen) => area.draw((size) => GraphView.frame(seen, size, ink))),
    Stream.tap((seen) => onGraph(seen, tell)),
    lastOf
  )
}, Effect.scoped)

const lastOf = <E, R>(states: Stream.Stream<GraphView.GraphSeen, E, R>) =>
  Effect.flatMap(Stream.runLast(states), Effect.fromOption).pipe(
    Effect.catchTag("NoSuchElementError", () =>
      Effect.fail(
        noAnswer("unexpected-answer", "The graph's end was not told.", "Ask again with `datamcp graphs get`.")
      )
    )
  )

/** Waits for the end of a task, shows it as the one answer, and fails unless it completed. */
export const awaitAndShow = Effect.fnUntraced(function* (id: Task["id"]) {
  const client = yield* Client
  const output = yield* Output
  const ended = yield* untilTaskEnds(yield* client.tasks.get({ params: { id }, query: {} }), { events: false })
  yield* output.answer(ended, TaskView.details)
  yield* failUnlessCompleted(ended)
})

export const failUnlessCompleted = (task: Task) =>
  task.status === "completed" ? Effect.void : Effect.fail(notCompleted(`Task ${task.id} ended as ${task.status}.`))
