/**
 * The use cases of tasks. Every door ends here: HTTP, NATS, and whatever comes later say the same things to the same
 * methods, so that a rule stands once.
 *
 * Each method checks the principal's permission first and then sees its namespace only. Input is decoded already;
 * what still can be wrong with it is refused with `InvalidInput` naming the field.
 */
import { Context, type Duration, type Effect, type Schema, type Stream } from "effect"
import type { Event } from "../../protocol/Event.ts"
import type { GraphId, TaskId } from "../../protocol/Ids.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import type {
  Conflict,
  Forbidden,
  GraphNotFound,
  InvalidInput,
  Overloaded,
  SubmitProblem,
  TaskNotFound,
  Unavailable
} from "../../protocol/Problem.ts"
import type { BatchItem, ListTasks } from "../../protocol/Query.ts"
import type { AcceptedGraph, AcceptedTask, Graph, SubmitGraph, SubmitTask, Task } from "../../protocol/Task.ts"

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
    /** Newest first; the cursor stays valid while tasks are added. Payload and result are left out. */
    readonly list: (query: ListTasks) => Effect.Effect<Page<Task>, InvalidInput | Forbidden | Unavailable, Principal>
    /** A task's events with a number above `after`, oldest first. */
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
    /** Starts a terminal task anew as a task of its own that links back. `Conflict` when it completed or still lives. */
    readonly retry: (id: TaskId) => Effect.Effect<AcceptedTask, SubmitProblem | TaskNotFound | Conflict, Principal>
  }
>()("datamcp/app/Tasks") {}
