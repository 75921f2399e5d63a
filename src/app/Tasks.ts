/**
 * The use cases of tasks. Every door ends here: HTTP, NATS, and whatever comes later say the same things to the same
 * methods, so that a rule stands once.
 *
 * Each method checks the principal's permission first and then sees its namespace only. Input is decoded already;
 * what still can be wrong with it is refused with `InvalidInput` naming the field.
 */
import { Context, type Duration, Effect, Layer, Result, type Schema, Stream } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import type { Event } from "../../protocol/Event.ts"
import type { GraphId, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  type Forbidden,
  GraphNotFound,
  type InvalidInput,
  invalidField,
  type Overloaded,
  type SubmitProblem,
  TaskNotFound,
  TooLarge,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { BatchItem, ListTasks } from "../../protocol/Query.ts"
import {
  type AcceptedGraph,
  type AcceptedTask,
  type Graph,
  type SubmitGraph,
  type SubmitTask,
  type Task
} from "../../protocol/Task.ts"
import { missingFor } from "../ledger/TaskFilter.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { authorize } from "./authorize.ts"
import { EventFeed } from "./EventFeed.ts"
import * as OpenStreams from "./OpenStreams.ts"
import { orUnavailable, unavailable } from "./outage.ts"
import { Replays } from "./Replays.ts"
import { decodeItems, merged, outcomesOf, refuseAll } from "./TaskBatch.ts"
import { checkedFilter } from "./TaskFilters.ts"
import { TaskWatch } from "./TaskWatch.ts"

export class Tasks extends Context.Service<
  Tasks,
  {
    /** Accepts a task. The answer means it is committed (G1). The same idempotency key gives the same answer (G2). */
    readonly submit: (command: SubmitTask) => Effect.Effect<AcceptedTask, SubmitProblem, Principal>
    /** Accepts each item on its own, or all or none with `atomic`. Outcomes in the order of the items. */
    readonly submitBatch: (
      items: ReadonlyArray<Schema.Json>,
      options: { readonly atomic: boolean }
    ) => Effect.Effect<ReadonlyArray<BatchItem>, SubmitProblem, Principal>
    /** Accepts tasks that name each other, all or none. */
    readonly submitGraph: (command: SubmitGraph) => Effect.Effect<AcceptedGraph, SubmitProblem, Principal>
    readonly get: (id: TaskId) => Effect.Effect<Task, TaskNotFound | Forbidden | Unavailable, Principal>
    /** The task once it has ended, or as it stands after `atMost`. */
    readonly wait: (
      id: TaskId,
      atMost: Duration.Duration
    ) => Effect.Effect<Task, TaskNotFound | Forbidden | Unavailable, Principal>
    /**
     * Newest first; the cursor stays valid while tasks are added. Payload and result are left out. Filters that no index
     * serves look at a bounded number of tasks per call: such a page may be short, even empty, while its cursor goes on.
     */
    readonly list: (query: ListTasks) => Effect.Effect<Page<Task>, InvalidInput | Forbidden | Unavailable, Principal>
    /** A task's events with a number above `after`, oldest first, at most `Limits.pageEntriesMax`. */
    readonly events: (
      id: TaskId,
      options: { readonly after: number; readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<Event>, TaskNotFound | Forbidden | Unavailable, Principal>
    /**
     * A task's events from `after` on, then live, without gap or double; ends after the task's end. A principal holds
     * at most `Limits.openStreamsMax` of them open on one node; one more is `Overloaded`.
     */
    readonly follow: (
      id: TaskId,
      after: number
    ) => Stream.Stream<Event, TaskNotFound | Overloaded | Forbidden | Unavailable, Principal>
    readonly graph: (id: GraphId) => Effect.Effect<Graph, GraphNotFound | Forbidden | Unavailable, Principal>
    /** The graph that a task belongs to. */
    readonly graphOf: (
      id: TaskId
    ) => Effect.Effect<Graph, TaskNotFound | GraphNotFound | Forbidden | Unavailable, Principal>
    /** Ends a task as `cancelled` whatever it is doing; running code is interrupted. `Conflict` when it has ended. */
    readonly cancel: (
      id: TaskId,
      reason: string | undefined
    ) => Effect.Effect<Task, TaskNotFound | Conflict | Forbidden | Unavailable, Principal>
    /**
     * Starts a terminal task anew as a task of its own that links back. `Conflict` when it completed or still lives.
     * Dependencies are not repeated, but for those that have not ended and those whose result the payload refers to.
     */
    readonly retry: (id: TaskId) => Effect.Effect<AcceptedTask, SubmitProblem | TaskNotFound | Conflict, Principal>
  }
>()("datamcp/app/Tasks") {
  static readonly layerNoDeps = Layer.effect(
    Tasks,
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const watch = yield* TaskWatch
      const scheduler = yield* Scheduler
      const ledger = yield* Ledger
      const bus = yield* Bus
      const replays = yield* Replays
      const openStream = yield* OpenStreams.make

      // The hottest of all are no `Effect.fn`, which would build a stack trace for each call.
      const submit: Tasks["Service"]["submit"] = (command) =>
        Effect.flatMap(authorize("task:create"), () => scheduler.submitOne(command))

      const submitBatch: Tasks["Service"]["submitBatch"] = Effect.fn("Tasks.submitBatch")(function* (
        items,
        { atomic }
      ) {
        yield* authorize("task:create")
        if (items.length > Limits.batchTasksMax) return yield* batchTooLarge(items.length)
        const decoded = yield* decodeItems(items)
        const refused = atomic ? refuseAll(decoded) : undefined
        if (refused !== undefined) return outcomesOf(refused)
        const commands = decoded.filter(Result.isSuccess).map(({ success }) => success)
        return outcomesOf(merged(decoded, yield* scheduler.submit(commands, { atomic })))
      })

      const submitGraph: Tasks["Service"]["submitGraph"] = Effect.fn("Tasks.submitGraph")(function* (command) {
        const { namespace } = yield* authorize("task:create")
        const accepted = yield* scheduler.submitGraph(command)
        // The first answer again, tasks and all.
        return accepted.duplicate ? { ...accepted, tasks: yield* reader.graphTasks(namespace, accepted.id) } : accepted
      }, orUnavailable)

      const get: Tasks["Service"]["get"] = (id) =>
        orUnavailable(
          Effect.flatMap(authorize("task:read"), ({ namespace }) =>
            Effect.flatMap(reader.get(namespace, id), (task) =>
              task === undefined ? taskNotFound(id) : Effect.succeed(task)
            )
          )
        )

      const wait: Tasks["Service"]["wait"] = Effect.fnUntraced(function* (id, atMost) {
        const { namespace } = yield* authorize("task:read")
        return (yield* watch.wait(namespace, id, atMost)) ?? (yield* taskNotFound(id))
      }, orUnavailable)

      const list: Tasks["Service"]["list"] = Effect.fn("Tasks.list")(function* (query) {
        const { namespace } = yield* authorize("task:read")
        const checked = yield* checkedFilter(query)
        const missing = missingFor(checked.sort, checked)
        if (missing !== undefined) return yield* invalidField("sort", missing)
        return yield* reader.list(namespace, checked)
      }, orUnavailable)

      const events: Tasks["Service"]["events"] = Effect.fn("Tasks.events")(function* (id, options) {
        const { namespace } = yield* authorize("event:read")
        const limit = Math.min(options.limit, Limits.pageEntriesMax)
        const found = yield* reader.events(namespace, id, { after: options.after, limit })
        if (found.length === 0 && (yield* reader.head(namespace, id)) === undefined) return yield* taskNotFound(id)
        return found
      }, orUnavailable)

      const follow: Tasks["Service"]["follow"] = (id, after) =>
        Effect.gen(function* () {
          const { actor, namespace } = yield* authorize("event:read")
          yield* openStream(actor)
          if ((yield* reader.head(namespace, id)) === undefined) return yield* taskNotFound(id)
          return Stream.mapError(watch.follow(namespace, id, after), unavailable)
        }).pipe(orUnavailable, Stream.unwrap)

      const graph: Tasks["Service"]["graph"] = Effect.fn("Tasks.graph")(function* (id) {
        const { namespace } = yield* authorize("task:read")
        return (yield* reader.graph(namespace, id)) ?? (yield* graphNotFound(id))
      }, orUnavailable)

      const graphOf: Tasks["Service"]["graphOf"] = Effect.fn("Tasks.graphOf")(function* (id) {
        const { namespace } = yield* authorize("task:read")
        const head = yield* reader.head(namespace, id)
        if (head === undefined) return yield* taskNotFound(id)
        if (head.graph_id === null) {
          return yield* new GraphNotFound({ graph_id: "", detail: `Task ${id} was not accepted as part of a graph.` })
        }
        return (yield* reader.graph(namespace, head.graph_id)) ?? (yield* graphNotFound(head.graph_id))
      }, orUnavailable)

      const cancel: Tasks["Service"]["cancel"] = Effect.fn("Tasks.cancel")(function* (id, reason) {
        const { actor, namespace } = yield* authorize("task:cancel")
        const ended = yield* ledger.cancel(namespace, [id], { actor, reason })
        const ranOn = ended.find((task) => task.id === id)?.ranOn
        if (ranOn !== undefined) yield* bus.notify({ _tag: "Interrupt", agent: ranOn, tasks: [id] })
        const task = (yield* reader.get(namespace, id)) ?? (yield* taskNotFound(id))
        return ended.some((change) => change.id === id) ? task : yield* alreadyEnded(task)
      }, orUnavailable)

      const retry: Tasks["Service"]["retry"] = Effect.fn("Tasks.retry")(function* (id) {
        yield* authorize("task:retry")
        return yield* replays.replay(id, {})
      })

      return Tasks.of({
        submit,
        submitBatch,
        submitGraph,
        get,
        wait,
        list,
        events,
        follow,
        graph,
        graphOf,
        cancel,
        retry
      })
    })
  )

  /** On the ports of the actors, Postgres and the bus. */
  static readonly layer = Tasks.layerNoDeps.pipe(
    Layer.provide([TaskWatch.layer, Replays.layer]),
    Layer.provide(EventFeed.layer)
  )
}

const taskNotFound = (id: TaskId) =>
  Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id} in this namespace.` }))

const graphNotFound = (id: GraphId) =>
  Effect.fail(new GraphNotFound({ graph_id: id, detail: `There is no graph ${id} in this namespace.` }))

const alreadyEnded = (task: Task) =>
  Effect.fail(new Conflict({ detail: `Task ${task.id} has ended as ${task.status}.`, ...inState(task) }))

const inState = (task: Task) => ({ reason: "state", current_version: task.version }) as const

const batchTooLarge = (items: number) =>
  Effect.fail(
    new TooLarge({
      detail: `The batch has ${items} tasks; the limit is ${Limits.batchTasksMax}.`,
      field: "",
      limit: Limits.batchTasksMax,
      unit: "tasks"
    })
  )
