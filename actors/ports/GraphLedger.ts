/**
 * The ledger's part for graphs: steps (tasks with a condition or a map) whose parents have ended, and graphs that end before
 * their tasks do. Every change is one transaction, and repeating one that was made changes nothing: whoever finds a step
 * due may decide it, on any node.
 */
import type { Effect, Queue, Schema } from "effect"
import type { AgentId, GraphId, Namespace, TaskId } from "../../protocol/Ids.ts"
import type { TaskError, TaskStatus } from "../../protocol/Task.ts"
import type { GraphStep } from "../GraphStep.ts"
import type { LedgerUnavailable } from "./Ledger.ts"

/** Something that is to be done for a graph now. */
export type GraphWork =
  | { readonly _tag: "Step"; readonly id: TaskId }
  | { readonly _tag: "Ending"; readonly id: GraphId }
  /** Of a graph, or of the task at the top of a tree. */
  | { readonly _tag: "Pause"; readonly id: GraphId | TaskId }

/** A step that is due, as it stands. */
export interface DueStep {
  readonly id: TaskId
  readonly namespace: Namespace
  readonly status: TaskStatus
  /** Parents, or elements, that have not ended. */
  readonly open: number
  readonly step: GraphStep
  readonly phase: "expanding" | "expanded" | null
  /** Elements that exist. */
  readonly made: number
  /** What is made into the payload of each element. */
  readonly payload: Schema.Json | undefined
}

/** An element of a map: to be made, or taken over from an earlier graph, where it completed. */
export type NewElement =
  | { readonly index: number; readonly id: TaskId; readonly payload: string | undefined }
  | { readonly index: number; readonly id: TaskId; readonly taken: true }

/** What is paused as a whole: a graph, or a task with all below it. */
export type Whole = { readonly _tag: "Graph"; readonly id: GraphId } | { readonly _tag: "Tree"; readonly id: TaskId }

/** A task that was ended from outside, with the agent that runs it. */
export interface Interrupted {
  readonly id: TaskId
  readonly ranOn: AgentId | undefined
}

export interface GraphLedger {
  /** What this node's changes made due. Sliding: what is not taken in time is found by `due`. */
  readonly work: Queue.Dequeue<GraphWork>
  /** What is due, whoever made it so; at most `limit` of each kind. */
  readonly due: (limit: number) => Effect.Effect<ReadonlyArray<GraphWork>, LedgerUnavailable>
  /** Undefined when it is not due any more. */
  readonly step: (id: TaskId) => Effect.Effect<DueStep | undefined, LedgerUnavailable>
  /** Result data of those of these tasks that have any. */
  readonly data: (
    namespace: Namespace,
    ids: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, Schema.Json>, LedgerUnavailable>
  /** Completed elements of a map, by their place. */
  readonly completedElements: (
    namespace: Namespace,
    map: TaskId
  ) => Effect.Effect<ReadonlyMap<number, TaskId>, LedgerUnavailable>
  /** Runs a step, skips it, or fails it. */
  readonly decide: (
    id: TaskId,
    decision:
      | { readonly _tag: "Run" }
      | { readonly _tag: "Skip"; readonly error: TaskError }
      | { readonly _tag: "Fail"; readonly error: TaskError }
  ) => Effect.Effect<void, LedgerUnavailable>
  /** Makes a portion of a map's elements, from place `from` on, of `total` in all; ends a map of none. */
  readonly expand: (
    id: TaskId,
    portion: { readonly from: number; readonly total: number; readonly elements: ReadonlyArray<NewElement> }
  ) => Effect.Effect<void, LedgerUnavailable>
  /** Lets the next elements of a map go, and ends it when all have ended. */
  readonly advance: (id: TaskId) => Effect.Effect<void, LedgerUnavailable>
  /** Cancels elements of a map that has ended, a portion of them; none when there are none left. */
  readonly cancelRest: (id: TaskId, limit: number) => Effect.Effect<ReadonlyArray<Interrupted>, LedgerUnavailable>
  /** Has a graph of a namespace end: recorded, so that it is carried through whatever happens. False when all has ended. */
  readonly end: (
    namespace: Namespace,
    id: GraphId,
    by: { readonly actor: string; readonly reason: string | undefined }
  ) => Effect.Effect<boolean, LedgerUnavailable>
  /** Has a whole set aside: recorded, so that it is carried through whatever happens. */
  readonly pause: (
    namespace: Namespace,
    whole: Whole,
    by: { readonly actor: string; readonly reason: string | undefined }
  ) => Effect.Effect<"begun" | "unknown" | "ended", LedgerUnavailable>
  /** Has a whole resumed: recorded likewise. False when it is not paused. */
  readonly resume: (namespace: Namespace, whole: Whole, actor: string) => Effect.Effect<boolean, LedgerUnavailable>
  /** Carries a pause or its end on by a portion. `changed` 0 with `more`: somebody else was at work on all of it. */
  readonly carryPause: (
    id: GraphId | TaskId,
    limit: number
  ) => Effect.Effect<
    { readonly changed: number; readonly interrupted: ReadonlyArray<Interrupted>; readonly more: boolean },
    LedgerUnavailable
  >
  /** Cancels a portion of what has not ended of a graph that is to end. */
  readonly cancelGraph: (
    id: GraphId,
    limit: number
  ) => Effect.Effect<{ readonly cancelled: ReadonlyArray<Interrupted>; readonly more: boolean }, LedgerUnavailable>
}
