/**
 * `datamcp graphs`: run a file of tasks that name each other, look at graphs, wait for, cancel and retry one.
 */
import { Clock, Duration, Effect, Option, Record } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { GraphId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type AcceptedGraph, type Graph, SubmitGraph } from "../../protocol/Task.ts"
import { untilGraphEnds } from "./Await.ts"
import { Client } from "./Client.ts"
import { notCompleted } from "./CliFailure.ts"
import { agentNames, patiently } from "./Follow.ts"
import * as GraphView from "./GraphView.ts"
import * as Ink from "./Ink.ts"
import { decodeCommand, millisFlag, readJsonFile } from "./input.ts"
import { Output } from "./Output.ts"
import { pageFlags, showPage } from "./page.ts"
import { againIfAnswerWasLost } from "./submitTask.ts"

const id = Argument.String("id").pipe(Argument.withSchema(GraphId), Argument.withDescription("Id of the graph"))

const run = Command.make(
  "run",
  {
    file: Argument.String("file").pipe(Argument.withDescription("JSON file with the graph; - for standard input")),
    detach: Flag.Boolean("detach").pipe(
      Flag.withAlias("d"),
      Flag.withDefault(false),
      Flag.withDescription("Come back once it is accepted instead of following it to its end")
    ),
    name: Flag.String("name").pipe(Flag.withDescription("Instead of the name in the file"), Flag.optional),
    idempotencyKey: Flag.String("idempotency-key").pipe(
      Flag.withDescription("The same key gives the same graph; a fresh one if not given"),
      Flag.optional
    )
  },
  Effect.fn("graphs.run")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const file = yield* decodeCommand(SubmitGraph, yield* readJsonFile(given.file), given.file)
    const payload = {
      idempotency_key: crypto.randomUUID(),
      ...file,
      ...Record.getSomes({ name: given.name, idempotency_key: given.idempotencyKey })
    }
    const accepted = yield* againIfAnswerWasLost(client.graphs.submit({ payload, headers: {} }))
    if (given.detach) return yield* output.answer(accepted, showAccepted)
    yield* awaitGraph(accepted.id)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Submit a graph of tasks and follow it to its end; exit code 1 unless every task completed"),
  Command.withExamples([
    { command: "datamcp graphs run examples/graphs/tour.json", description: "Watch a small graph run" },
    { command: "datamcp graphs run graph.json --detach --json", description: "Only its ids, for a script" }
  ])
)

const showAccepted = (graph: AcceptedGraph, ink: Ink.Ink) =>
  [
    `graph ${graph.id}${graph.duplicate ? "  (submitted before with this idempotency key)" : ""}`,
    Ink.table(["TASK", "ID"], Object.entries(graph.tasks), ink)
  ].join("\n")

/** Follows a graph, shows how it ended as the one answer, and fails unless all of it completed. */
const awaitGraph = Effect.fnUntraced(function* (graphId: GraphId) {
  const output = yield* Output
  const seen = yield* untilGraphEnds(graphId)
  yield* output.answer(seen.graph, (_, ink) => `\n${GraphView.outcome(seen, ink)}`)
  yield* failUnlessAllCompleted(seen)
})

/** What was skipped by its condition, or behind such a task, is as it should be. */
const failUnlessAllCompleted = ({ graph }: { readonly graph: Graph }) => {
  const others = graph.tasks.filter((task) => task.status !== "completed" && !GraphView.isSkipped(task))
  return others.length === 0
    ? Effect.void
    : Effect.fail(notCompleted(`${GraphView.sum(graph)}: graph ${graph.id} did not complete.`))
}

const get = Command.make(
  "get",
  {
    id,
    watch: Flag.Boolean("watch").pipe(
      Flag.withAlias("w"),
      Flag.withDefault(false),
      Flag.withDescription("Follow it to its end; exit code 1 unless every task completed")
    )
  },
  Effect.fn("graphs.get")(function* (given) {
    if (given.watch) return yield* awaitGraph(given.id)
    const client = yield* Client
    const output = yield* Output
    const graph = yield* client.graphs.get({ params: { id: given.id }, query: {} })
    const names = yield* (yield* agentNames)(graph)
    const seen: GraphView.GraphSeen = { graph, agentNames: names, runningMillis: new Map() }
    yield* output.answer(graph, (_, ink) =>
      [GraphView.title(graph), GraphView.outcome(seen, ink), GraphView.sum(graph)].join("\n")
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show a graph and the state of its tasks"))

const list = Command.make(
  "list",
  pageFlags,
  Effect.fn("graphs.list")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const query = Record.getSomes<string, string | number>(given)
    yield* output.answer(yield* client.graphs.list({ query }), showPage("graphs", GraphView.list))
  })
).pipe(Command.provide(Client.layer), Command.withAlias("ls"), Command.withDescription("List graphs, newest first"))

const waitMillis = 30_000

const wait = Command.make(
  "wait",
  {
    id,
    timeout: millisFlag("timeout", Limits.timeoutMillisMax).pipe(
      Flag.withDescription("Wait no longer than this; until its end if not given"),
      Flag.optional
    )
  },
  Effect.fn("graphs.wait")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const began = yield* Clock.currentTimeMillis
    const quiet = { lost: Effect.void, back: Effect.void }
    while (true) {
      const passed = (yield* Clock.currentTimeMillis) - began
      const left = Option.isSome(given.timeout) ? given.timeout.value - passed : waitMillis
      const query = { wait: Duration.millis(Math.max(0, Math.min(waitMillis, left))) }
      const graph = yield* patiently(client.graphs.get({ params: { id: given.id }, query }), quiet)
      if (!graph.ended && left > waitMillis) continue
      if (!graph.ended && Option.isNone(given.timeout)) continue
      yield* output.answer(graph, () => `${GraphView.title(graph)}\n${GraphView.sum(graph)}`)
      if (!graph.ended) return yield* notCompleted(`Graph ${graph.id} has not ended yet: ${GraphView.sum(graph)}.`)
      return yield* failUnlessAllCompleted({ graph })
    }
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Wait for the end of a graph; exit code 1 unless every task completed or was skipped")
)

const cancel = Command.make(
  "cancel",
  {
    id,
    reason: Flag.String("reason").pipe(Flag.withDescription("Kept with its tasks for whoever asks why"), Flag.optional)
  },
  Effect.fn("graphs.cancel")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ reason: given.reason })
    yield* output.answer(
      yield* client.graphs.cancel({ params: { id: given.id }, payload }),
      (graph) => `${GraphView.title(graph)} is being cancelled: ${GraphView.sum(graph)}`
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Cancel all of a graph that has not ended"))

const pause = Command.make(
  "pause",
  { id, reason: Flag.String("reason").pipe(Flag.withDescription("Kept for whoever asks why"), Flag.optional) },
  Effect.fn("graphs.pause")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const payload = Record.getSomes({ reason: given.reason })
    yield* output.answer(
      yield* client.graphs.pause({ params: { id: given.id }, payload }),
      (graph) => `${GraphView.title(graph)} is paused: ${GraphView.sum(graph)}`
    )
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Set all of a graph aside that has not ended, until it is resumed")
)

const resume = Command.make(
  "resume",
  { id },
  Effect.fn("graphs.resume")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    yield* output.answer(
      yield* client.graphs.resume({ params: { id: given.id } }),
      (graph) => `${GraphView.title(graph)} goes on: ${GraphView.sum(graph)}`
    )
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Back to work with a paused graph"))

const retry = Command.make(
  "retry",
  {
    id,
    detach: Flag.Boolean("detach").pipe(
      Flag.withAlias("d"),
      Flag.withDefault(false),
      Flag.withDescription("Come back once it is accepted instead of following it to its end")
    ),
    idempotencyKey: Flag.String("idempotency-key").pipe(
      Flag.withDescription("The same key retries it once; a fresh one if not given"),
      Flag.optional
    )
  },
  Effect.fn("graphs.retry")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const key = Option.getOrElse(given.idempotencyKey, () => crypto.randomUUID())
    const accepted = yield* againIfAnswerWasLost(
      client.graphs.retry({ params: { id: given.id }, headers: { "idempotency-key": key } })
    )
    if (given.detach) return yield* output.answer(accepted, showAccepted)
    yield* awaitGraph(accepted.id)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Run what did not complete of a graph once more, as a graph of its own")
)

export const graphs = Command.make("graphs").pipe(
  Command.withDescription("Run tasks that depend on each other"),
  Command.withSubcommands([run, get, list, wait, cancel, pause, resume, retry])
)
