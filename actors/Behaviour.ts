/**
 * The contract of a behaviour: the code that an agent runs for one task.
 *
 * A behaviour is opened once per instance activation, in a scope that closes when the instance stops, and then run
 * once per attempt in a fiber of its own. Interruption of that fiber is cancellation, deadline or hand-over: whatever
 * it holds (sockets, cursors) must be released by finalizers. It must not write to the ledger: what it returns is
 * recorded by the instance, and refused there if the attempt has been fenced in the meantime.
 */
import { Context, type Duration, type Effect, type FileSystem, type Path, Schema, type Scope } from "effect"
import type { Capability, Isolation } from "../protocol/Agent.ts"
import type { GraphId, Namespace, TaskId, TaskType } from "../protocol/Ids.ts"
import type { JsonShape } from "../protocol/JsonShape.ts"
import type { Senders } from "../protocol/Signal.ts"
import type { SubmitTask, TaskProgress } from "../protocol/Task.ts"
import type { ArtifactStore } from "./ports/ArtifactStore.ts"
import type { ChildEnd } from "./ports/ChildLedger.ts"
import type { TakenSignal } from "./ports/SignalLedger.ts"

/** An expected failure of one attempt. Anything else that escapes a behaviour counts as a crash. */
export class BehaviourFailure extends Schema.TaggedError<BehaviourFailure>()("BehaviourFailure", {
  /** Stable and meant for programs, e.g. `http_status`, `sql_error`. */
  code: Schema.String,
  message: Schema.String,
  /** False when another attempt cannot help; the task then fails at once. */
  retryable: Schema.Boolean,
  /** Earliest next attempt, in milliseconds from now; overrides the retry policy's delay. */
  retryAfterMillis: Schema.optionalKey(Schema.Int),
  details: Schema.optionalKey(Schema.Json)
}) {}

/**
 * What an isolated attempt dies of (`Effect.die`) when its process did not live to tell how it ended: killed for a limit
 * that it broke, or gone by itself. It uses up an attempt, and says nothing against the agent: the next one has a process
 * of its own.
 */
export class AttemptLost extends Schema.TaggedError<AttemptLost>()("AttemptLost", {
  /** `crashed`, `process_exited`, `memory_limit`, `message_limit` or `unresponsive`. */
  code: Schema.String,
  message: Schema.String,
  details: Schema.optionalKey(Schema.Json)
}) {}

/** The agent's `configuration.settings` break the behaviour's schema. */
export class SettingsInvalid extends Schema.TaggedError<SettingsInvalid>()("SettingsInvalid", {
  message: Schema.String
}) {}

/** How a signal is awaited. */
export interface AwaitOptions {
  /** Longest wait, from when the first attempt came to this await; without end when absent. */
  readonly timeout?: Duration.Input
  /** What the payload must look like. What does not is refused at the door while it is awaited. */
  readonly shape?: JsonShape
  /** Who may send it. Such an await takes nothing that was sent before it began. */
  readonly from?: Senders
  /** What people are told who look at what waits. */
  readonly message?: string
  /**
   * How long the await keeps its slot: 10 s when absent. After that the run is interrupted and the task is `paused`, for
   * days if need be; when the signal comes, or the timeout, it runs again from the beginning and finds the same answers to
   * the same awaits, in their order. Tasks that may run at most once keep their slot.
   */
  readonly hold?: Duration.Input
}

/** One attempt, as a behaviour sees it. */
export interface Attempt {
  readonly taskId: TaskId
  readonly namespace: Namespace
  readonly graphId: GraphId | undefined
  readonly name: string
  readonly type: TaskType
  /** Counted from 1. */
  readonly number: number
  /** Input with every `$result` reference replaced. `null` when the task has none. */
  readonly payload: Schema.Json
  /** The same for all attempts of the task: give it to external services as their idempotency key (G4). */
  readonly idempotencyKey: string
  /** When this attempt will be interrupted, from its start. */
  readonly timeout: Duration.Duration
  /** Reports progress. Never fails; reports that come faster than they can be recorded replace each other. */
  readonly progress: (progress: TaskProgress) => Effect.Effect<void>
  /**
   * The next signal of a name that no await of this task has taken. Awaits must come in the same order in every attempt:
   * each gets the answer that it got before. Fails with code `signal_timeout`, `signal_rejected` (the payload breaks the
   * shape; `details` has the evidence) or `replay_diverged`.
   */
  readonly signal: (name: string, options?: AwaitOptions) => Effect.Effect<TakenSignal, BehaviourFailure>
  /**
   * Appends a chunk to a stream of the task; returns once it is taken, and waits while chunks come faster than they can be
   * written. All that were taken are written before the attempt's end is. Fails with code `chunk_refused` or
   * `streams_full`.
   */
  readonly emit: (stream: string, chunk: Schema.Json) => Effect.Effect<void, BehaviourFailure>
  /**
   * Submits tasks that belong to this one (`parent_id`), all or none, in its namespace. `step` names the place in the work
   * from which it does: every attempt that submits at the same step gets the same tasks, for as long as idempotency keys are
   * remembered. Fails, not to be retried, when one is refused, or when the step submitted other tasks before.
   */
  readonly submit: (
    step: string,
    commands: ReadonlyArray<ChildTask>
  ) => Effect.Effect<ReadonlyArray<TaskId>, BehaviourFailure>
  /**
   * How these children ended, in their order, once all have; all children that the task has by then when none are named. Until
   * then the run is interrupted and the task is `paused` without a slot, for as long as it takes; then it runs again from the
   * beginning and finds the same answer. Counts among the awaits: they must come in the same order in every attempt. A child
   * that failed fails nothing: the answer says so. Children are not deleted before the task has ended. Fails with code
   * `children_unknown` (not a child of this task, or deleted), `children_circular` (it depends on this task),
   * `children_too_many` (more than 1,000) or `replay_diverged`.
   */
  readonly awaitChildren: (
    children?: ReadonlyArray<TaskId>,
    options?: {
      /** How long it keeps its slot before it parks: not at all when absent. Tasks that may run at most once never park. */
      readonly hold?: Duration.Input
    }
  ) => Effect.Effect<ReadonlyArray<ChildEnd>, BehaviourFailure>
}

/** A task that another one submits while it runs. */
export type ChildTask = Omit<SubmitTask, "parent_id" | "idempotency_key">

/** What every behaviour may use. Network and database drivers are its own business. */
export type BehaviourServices = ArtifactStore | FileSystem.FileSystem | Path.Path

export type RunAttempt = (
  attempt: Attempt
) => Effect.Effect<Schema.Json, BehaviourFailure, BehaviourServices | Scope.Scope>

export interface Behaviour {
  /** Equal to the `type` of the agents it serves: letters, digits, `_`, `-`. */
  readonly type: string
  readonly description: string
  /** What an agent of this type can do unless its definition says otherwise. */
  readonly capabilities: ReadonlyArray<Capability>
  /**
   * True when running a task twice does no harm: nothing outside is changed but what the result says. Its attempts may
   * begin before their claim is written, which halves the ledger's work for short tasks; in return a message that is
   * delivered twice may run twice, of which one is recorded. Never counts for tasks that may run at most once.
   */
  readonly idempotent?: boolean
  /**
   * Whether its code stays out of the node's process. True for a module of one's own unless it says false; then whatever
   * it does to its process it does to the node.
   */
  readonly isolated?: boolean
  /**
   * Checks an agent's settings without opening anything: run when an agent is created or changed, so that a mistake
   * is refused at the door.
   */
  readonly check: (settings: Schema.Json) => Effect.Effect<void, SettingsInvalid>
  /**
   * Opens the behaviour for one instance; of an isolated one, for each process of it. A failure counts as a crash of the instance.
   */
  readonly open: (
    settings: Schema.Json,
    /** Bounds of the processes of an isolated behaviour; such a behaviour's own code does not see them. */
    isolation?: Isolation
  ) => Effect.Effect<RunAttempt, SettingsInvalid | BehaviourFailure, BehaviourServices | Scope.Scope>
}

/** The behaviours that this node can run, by type. */
export class Behaviours extends Context.Service<
  Behaviours,
  {
    readonly get: (type: string) => Behaviour | undefined
    readonly types: ReadonlyArray<string>
    /** Types of those that are part of datamcp. */
    readonly builtIn: ReadonlySet<string>
  }
>()("datamcp/actors/Behaviours") {}
