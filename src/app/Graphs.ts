/**
 * The use cases of whole graphs, and of tasks with all below them: lists, waiting for the end, cancelling, pausing, retrying. A
 * graph is submitted and read by `Tasks`.
 *
 * Each method checks the principal's permission first and then sees its namespace only.
 */
import { Clock, Context, DateTime, Duration, Effect, Layer } from "effect"
import { carryPause } from "../../actors/CarryPause.ts"
import { AgentStore } from "../../actors/ports/AgentStore.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { GraphId, type Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  type Forbidden,
  GraphNotFound,
  type InvalidInput,
  type SubmitProblem,
  TaskNotFound,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import { type AcceptedGraph, type Graph, type GraphSummary, isTerminal, type Task } from "../../protocol/Task.ts"
import { GraphReader } from "../ledger/GraphReader.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { authorize } from "./authorize.ts"
import { EventFeed } from "./EventFeed.ts"
import { graphAgain } from "./GraphRetry.ts"
import { orUnavailable } from "./outage.ts"
import { TaskWatch } from "./TaskWatch.ts"

/** Tasks that are cancelled, or paused, at a time. */
const portion = 500
/** Longest that a caller waits for a pause, or the end of one, to be carried through. */
const carriedWithin = Duration.seconds(10)

export class Graphs extends Context.Service<
  Graphs,
  {
    /** Newest first; the cursor stays valid while graphs are added. */
    readonly list: (
      query: PageQuery
    ) => Effect.Effect<Page<GraphSummary>, InvalidInput | Forbidden | Unavailable, Principal>
    /** The graph once every task of it has ended, elements of maps too, or as it stands after `atMost`. */
    readonly wait: (
      id: GraphId,
      atMost: Duration.Duration
    ) => Effect.Effect<Graph, GraphNotFound | Forbidden | Unavailable, Principal>
    /**
     * Cancels all that has not ended of a graph. The answer means that this is recorded and will be carried through; it
     * shows the graph as it stands. `Conflict` when all of it has ended.
     */
    readonly cancel: (
      id: GraphId,
      reason: string | undefined
    ) => Effect.Effect<Graph, GraphNotFound | Conflict | Forbidden | Unavailable, Principal>
    /**
     * Sets all of a graph aside that has not ended, and whatever becomes of it until it is resumed. Repeating it finishes
     * what was not answered. `Conflict` when all of it has ended, or is being cancelled.
     */
    readonly pause: (
      id: GraphId,
      reason: string | undefined
    ) => Effect.Effect<Graph, GraphNotFound | Conflict | Forbidden | Unavailable, Principal>
    /** Back to what each task would be now. `Conflict` when the graph is not paused. */
    readonly resume: (
      id: GraphId
    ) => Effect.Effect<Graph, GraphNotFound | Conflict | Forbidden | Unavailable, Principal>
    /** As `pause`, of a task and all below it (`parent_id`), and of what is submitted below it meanwhile. */
    readonly pauseTree: (
      id: TaskId,
      reason: string | undefined
    ) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
    readonly resumeTree: (
      id: TaskId
    ) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
    /**
     * Runs what did not complete once more, as a graph of its own that links back by `retry_of`. Completed tasks are taken
     * over. The same idempotency key gives the same answer. `Conflict` when all completed, or some still live.
     */
    readonly retry: (
      id: GraphId,
      idempotencyKey?: string
    ) => Effect.Effect<AcceptedGraph, SubmitProblem | GraphNotFound | Conflict, Principal>
    /** A task once it and all below it (`parent_id`) have ended, or as it stands after `atMost`. */
    readonly waitTree: (
      id: TaskId,
      atMost: Duration.Duration
    ) => Effect.Effect<Task, TaskNotFound | Forbidden | Unavailable, Principal>
    /**
     * Cancels a task and all below it, first itself, so that it makes no more of them. In portions: who gets no answer asks
     * again. `Conflict` when all have ended.
     */
    readonly cancelTree: (
      id: TaskId,
      reason: string | undefined
    ) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Graphs") {
  static readonly layerNoDeps = Layer.effect(
    Graphs,
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const graphs = yield* GraphReader
      const watch = yield* TaskWatch
      const scheduler = yield* Scheduler
      const ledger = yield* Ledger
      const agents = yield* AgentStore
      const ids = yield* UuidV7
      const bus = yield* Bus

      const get = Effect.fnUntraced(function* (namespace: Namespace, id: GraphId) {
        return (yield* reader.graph(namespace, id)) ?? (yield* graphNotFound(id))
      })

      const list: Graphs["Service"]["list"] = Effect.fn("Graphs.list")(function* (query) {
        const { namespace } = yield* authorize("task:read")
        return yield* graphs.list(namespace, query)
      }, orUnavailable)

      const wait: Graphs["Service"]["wait"] = Effect.fn("Graphs.wait")(function* (id, atMost) {
        const { namespace } = yield* authorize("task:read")
        const open = Effect.gen(function* () {
          const found = (yield* graphs.openTask(namespace, id)) ?? (yield* graphNotFound(id))
          return found.open ?? undefined
        })
        yield* untilNoneIsOpen(namespace, open, atMost)
        return yield* get(namespace, id)
      }, orUnavailable)

      /** Waits for a task that has not ended, as `open` finds one, then for the next, until it finds none. */
      const untilNoneIsOpen = Effect.fnUntraced(function* <E>(
        namespace: Namespace,
        open: Effect.Effect<TaskId | undefined, E>,
        atMost: Duration.Duration
      ) {
        const until =
          (yield* Clock.monotonicTimeNanos) +
          Duration.toNanosUnsafe(Duration.min(atMost, Duration.millis(Limits.waitMillisMax)))
        while (true) {
          const next = yield* open
          const left = Duration.nanos(until - (yield* Clock.monotonicTimeNanos))
          if (next === undefined || Duration.isLessThanOrEqualTo(left, Duration.zero)) return
          yield* watch.wait(namespace, next, left)
        }
      })

      const cancel: Graphs["Service"]["cancel"] = Effect.fn("Graphs.cancel")(function* (id, reason) {
        const { actor, namespace } = yield* authorize("task:cancel")
        if ((yield* graphs.openTask(namespace, id)) === undefined) return yield* graphNotFound(id)
        if (!(yield* ledger.graphs.end(namespace, id, { actor, reason }))) return yield* conflict(id, "has ended")
        return yield* get(namespace, id)
      }, orUnavailable)

      /** Within the time that a caller waits; what is left then is carried on with by the sweep. */
      const carried = (id: GraphId | TaskId) =>
        carryPause({ graphs: ledger.graphs, bus, portionTasks: portion }, id).pipe(Effect.timeoutOption(carriedWithin))

      const pause: Graphs["Service"]["pause"] = Effect.fn("Graphs.pause")(function* (id, reason) {
        const { actor, namespace } = yield* authorize("task:pause")
        const outcome = yield* ledger.graphs.pause(namespace, { _tag: "Graph", id }, { actor, reason })
        if (outcome === "unknown") return yield* graphNotFound(id)
        if (outcome === "ended") return yield* conflict(id, "has ended, or is being cancelled")
        yield* carried(id)
        return yield* get(namespace, id)
      }, orUnavailable)

      const resume: Graphs["Service"]["resume"] = Effect.fn("Graphs.resume")(function* (id) {
        const { actor, namespace } = yield* authorize("task:pause")
        if ((yield* graphs.openTask(namespace, id)) === undefined) return yield* graphNotFound(id)
        if (!(yield* ledger.graphs.resume(namespace, { _tag: "Graph", id }, actor))) {
          return yield* conflict(id, "is not paused")
        }
        yield* carried(id)
        return yield* get(namespace, id)
      }, orUnavailable)

      const pauseTree: Graphs["Service"]["pauseTree"] = Effect.fn("Graphs.pauseTree")(function* (id, reason) {
        const { actor, namespace } = yield* authorize("task:pause")
        const outcome = yield* ledger.graphs.pause(namespace, { _tag: "Tree", id }, { actor, reason })
        if (outcome === "unknown") return yield* taskNotFound(id)
        if (outcome === "ended") {
          return yield* taskConflict(yield* getTask(namespace, id), "has ended, and all below it")
        }
        yield* carried(id)
        return yield* getTask(namespace, id)
      }, orUnavailable)

      const resumeTree: Graphs["Service"]["resumeTree"] = Effect.fn("Graphs.resumeTree")(function* (id) {
        const { actor, namespace } = yield* authorize("task:pause")
        const task = yield* getTask(namespace, id)
        if (!(yield* ledger.graphs.resume(namespace, { _tag: "Tree", id }, actor))) {
          return yield* taskConflict(task, "is not paused with all below it")
        }
        yield* carried(id)
        return yield* getTask(namespace, id)
      }, orUnavailable)

      /** The first answer again, with the tasks that were taken over. */
      const withTasks = Effect.fnUntraced(function* (namespace: Namespace, accepted: AcceptedGraph) {
        const graph = yield* get(namespace, accepted.id)
        return { ...accepted, tasks: Object.fromEntries(graph.tasks.map(({ id, key }) => [key, id])) }
      })

      const retry: Graphs["Service"]["retry"] = Effect.fn("Graphs.retry")(function* (id, idempotencyKey) {
        const { namespace } = yield* authorize("task:retry")
        const graph = (yield* graphs.stored(namespace, id)) ?? (yield* graphNotFound(id))
        const earlier = yield* scheduler.earlierRetry({ retryOf: id, name: graph.name ?? undefined, idempotencyKey })
        if (earlier !== undefined) return yield* withTasks(namespace, earlier)
        if (graph.ending || graph.tasks.some(({ task }) => !isTerminal(task.status))) {
          return yield* conflict(id, "has not ended; cancel it first")
        }
        if (graph.tasks.every(({ task }) => task.status === "completed")) {
          return yield* conflict(id, "completed; submit it again to repeat it")
        }
        const agentIds = new Set(graph.tasks.flatMap(({ task }) => task.agent_id ?? []))
        const known = yield* Effect.forEach(agentIds, agents.byId)
        const again = graphAgain(graph, {
          at: DateTime.formatIso(yield* DateTime.now),
          agents: new Map(known.flatMap((agent) => (agent === undefined ? [] : [[agent.id, agent] as const]))),
          id: GraphId.make(ids.next()),
          nextTaskId: () => TaskId.make(ids.next(), { disableChecks: true }),
          idempotencyKey
        })
        const accepted = yield* scheduler.retryGraph(again)
        return accepted.duplicate ? yield* withTasks(namespace, accepted) : accepted
      }, orUnavailable)

      const getTask = Effect.fnUntraced(function* (namespace: Namespace, id: TaskId) {
        return (yield* reader.get(namespace, id)) ?? (yield* taskNotFound(id))
      })

      const waitTree: Graphs["Service"]["waitTree"] = Effect.fn("Graphs.waitTree")(function* (id, atMost) {
        const { namespace } = yield* authorize("task:read")
        yield* getTask(namespace, id)
        yield* untilNoneIsOpen(
          namespace,
          Effect.map(graphs.openTree(namespace, id, 1), ([open]) => open),
          atMost
        )
        return yield* getTask(namespace, id)
      }, orUnavailable)

      const cancelTree: Graphs["Service"]["cancelTree"] = Effect.fn("Graphs.cancelTree")(function* (id, reason) {
        const { actor, namespace } = yield* authorize("task:cancel")
        const task = yield* getTask(namespace, id)
        let next: ReadonlyArray<TaskId> = isTerminal(task.status)
          ? yield* graphs.openTree(namespace, id, portion)
          : [id]
        if (next.length === 0) return yield* taskConflict(task, "has ended, and all below it")
        while (next.length > 0) {
          const ended = yield* ledger.cancel(namespace, next, { actor, reason })
          for (const { id, ranOn } of ended) {
            if (ranOn !== undefined) yield* bus.notify({ _tag: "Interrupt", agent: ranOn, tasks: [id] })
          }
          next = yield* graphs.openTree(namespace, id, portion)
        }
        return yield* getTask(namespace, id)
      }, orUnavailable)

      return Graphs.of({ list, wait, cancel, pause, resume, pauseTree, resumeTree, retry, waitTree, cancelTree })
    })
  )

  /** On the ports of the actors, Postgres and the bus. */
  static readonly layer = Graphs.layerNoDeps.pipe(Layer.provide(TaskWatch.layer), Layer.provide(EventFeed.layer))
}

const graphNotFound = (id: GraphId) =>
  Effect.fail(new GraphNotFound({ graph_id: id, detail: `There is no graph ${id} in this namespace.` }))

const taskNotFound = (id: TaskId) =>
  Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id} in this namespace.` }))

const taskConflict = (task: Task, why: string) =>
  Effect.fail(new Conflict({ reason: "state", current_version: task.version, detail: `Task ${task.id} ${why}.` }))

const conflict = (id: GraphId, why: string) =>
  Effect.fail(new Conflict({ reason: "state", detail: `Graph ${id} ${why}.` }))
