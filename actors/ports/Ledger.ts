/**
 * Port to the ledger: every change of a task's state goes through here, is committed with its events in one
 * transaction, and is answered after COMMIT.
 *
 * Claims and ends come in singly from many instances; the ledger groups what arrives while a transaction is in flight. Fences are its
 * business too: a change that carries an outdated attempt or epoch changes nothing and says so.
 */
import { Context, type Duration, type Effect, type Queue, Schema } from "effect"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type {
  AgentId,
  GraphId,
  GraphKey,
  LimitId,
  Namespace,
  OperationId,
  TaskId,
  TaskType
} from "../../protocol/Ids.ts"
import type {
  Dependency,
  GraphOnFailure,
  TaskError,
  TaskPriority,
  TaskProgress,
  TaskStatus,
  WaitingFor
} from "../../protocol/Task.ts"
import type { Keep, OnConflict } from "../../protocol/TaskKeys.ts"
import type { ChildLedger } from "./ChildLedger.ts"
import type { GraphLedger } from "./GraphLedger.ts"
import type { SignalLedger } from "./SignalLedger.ts"
import type { StreamLedger } from "./StreamLedger.ts"

/** Postgres could not be reached, or the outcome of a commit could not be learned in time. */
export class LedgerUnavailable extends Schema.TaggedError<LedgerUnavailable>()("LedgerUnavailable", {
  operation: Schema.String,
  message: Schema.String
}) {}

/** A task as the scheduler hands it in: routed, checked, with its id. JSON parts are text already. */
export interface NewTask {
  readonly id: TaskId
  readonly namespace: Namespace
  readonly name: string
  readonly type: TaskType
  readonly description: string | undefined
  readonly agentId: AgentId | undefined
  readonly lane: TaskPriority
  readonly payload: string | undefined
  readonly configuration: string | undefined
  readonly maxAttempts: number
  readonly atMostOnce: boolean
  readonly labels: string | undefined
  readonly metadata: string | undefined
  readonly parentId: TaskId | undefined
  readonly graphId: GraphId | undefined
  readonly graphKey: string | undefined
  readonly retryOf: TaskId | undefined
  readonly runAt: string | undefined
  readonly deadline: string | undefined
  readonly actor: string
  readonly trace: string | undefined
  readonly dependencies: ReadonlyArray<Dependency>
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | undefined
  /** Limits that apply to it; none when absent. */
  readonly limits?: ReadonlyArray<TaskLimit>
  /** A `GraphStep` as JSON: what is to be decided when the dependencies are satisfied. */
  readonly step: string | undefined
  /** Its failure ends its graph. */
  readonly failsGraph: boolean
  /** Under which conditions it is accepted or started; none when absent. */
  readonly conditions?: Conditions
}

/** What is asked of few tasks beyond being stored. */
export interface Conditions {
  /** Only if no live task of its namespace has this key. */
  readonly unique?: { readonly key: string; readonly onConflict: OnConflict } | undefined
  /** Join the task that waits under this key, or wait for others to join. Its payload is one item of what is kept. */
  readonly coalesce?:
    | {
        readonly key: string
        readonly keep: Keep
        readonly quietMillis: number | undefined
        readonly waitMillisMax: number
        readonly itemsMax: number
        /** The agent that was named: those who join must name the same, or none like it. */
        readonly agentId: AgentId | undefined
      }
    | undefined
  /** It ends as timeout unless its first attempt starts in this time. */
  readonly queueTimeoutMillis?: number | undefined
}

/** A limit that applies to a task: the task's key, and its group among those that share the key. */
export interface TaskLimit {
  readonly limitId: LimitId
  readonly key: string
  readonly fair: string
}

/** A task that answers for another submission. */
interface AsItStands {
  readonly status: TaskStatus
  readonly waitingFor: WaitingFor | undefined
  readonly createdAt: string
  readonly routed: { readonly name: string; readonly type: TaskType; readonly agentId: AgentId | undefined } | undefined
}

/** What became of a new task. */
export type AcceptOutcome =
  | {
      readonly _tag: "Accepted"
      readonly status: TaskStatus
      readonly waitingFor: WaitingFor | undefined
      /** RFC 3339, Postgres's clock. */
      readonly createdAt: string
    }
  /**
   * The idempotency key was used before: the task or graph it made, as it stands; `same` tells whether the fingerprint
   * matches.
   */
  | {
      readonly _tag: "Existing"
      readonly id: string
      readonly same: boolean
      readonly status: TaskStatus
      readonly waitingFor: WaitingFor | undefined
      readonly createdAt: string
      /** Of a task, as it was routed then; undefined for a graph. */
      readonly routed:
        | { readonly name: string; readonly type: TaskType; readonly agentId: AgentId | undefined }
        | undefined
    }
  /** A live task has its unique key; undefined when that one ended in the same moment. Not an answer to `refuse`. */
  | ({ readonly _tag: "Held"; readonly id: string | undefined } & AsItStands)
  /** It joined a task that waits. */
  | ({ readonly _tag: "Coalesced"; readonly id: string } & AsItStands)
  /** A task waits under its key that is of another kind, as `field` says. */
  | { readonly _tag: "Unlike"; readonly id: string; readonly field: string }
  /** Postgres will not store it: a mistake that no check before it found. Its neighbours are not concerned. */
  | { readonly _tag: "Refused"; readonly message: string }
  /** Nothing is wrong with it: the call was all or none, and what is wrong with another row undid it. */
  | { readonly _tag: "Undone" }
  /** A parent or dependency that is not in this namespace. */
  | { readonly _tag: "UnknownTask"; readonly field: "parent_id" | "dependencies"; readonly id: string }

/** A graph's own row; its tasks are accepted with it, all or none. */
export interface NewGraph {
  readonly id: GraphId
  readonly namespace: Namespace
  readonly name: string | undefined
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | undefined
  readonly onFailure?: GraphOnFailure | undefined
  readonly retryOf?: GraphId | undefined
  /** Tasks of an earlier graph that stand for tasks of this one. */
  readonly references?: ReadonlyArray<{ readonly key: GraphKey; readonly id: TaskId }>
}

/** The instance that acts: its lease as it knows it. */
export interface Slot {
  readonly namespace: Namespace
  readonly agentId: AgentId
  readonly index: number
  readonly epoch: number
}

/** A task in the hands of an instance. */
export interface RunningTask {
  readonly id: TaskId
  readonly namespace: Namespace
  readonly attempt: number
  readonly trace: string | undefined
  /** The version of its agent's definition that it runs under; undefined for the first one. */
  readonly agentVersion?: number | undefined
  /** Whether its end gives something back to a limit. */
  readonly limited?: boolean
}

export interface Claimed {
  readonly id: TaskId
  readonly attempt: number
  /** Number of the event that began this run of the attempt; no two runs of a task share it. */
  readonly startedBy: number
  /** When it began, by Postgres's clock, in milliseconds: wall clocks of nodes may be wrong. */
  readonly startedAtMillis: number
  /** Present when the order's payload had stayed behind. */
  readonly payload: Schema.Json | undefined
}

/** What an instance wants recorded of an attempt's end. Decided by `TaskLifecycle`. */
export type Settlement =
  | {
      readonly _tag: "Completed"
      readonly data: Schema.Json
      /** Size of `data` as JSON. */
      readonly dataBytes: number
      readonly executionMillis: number
    }
  | {
      readonly _tag: "Failed" | "TimedOut"
      readonly error: TaskError
      readonly executionMillis: number
    }
  | {
      readonly _tag: "Retry"
      readonly error: TaskError
      readonly delayMillis: number
      readonly executionMillis: number
    }
  /** Given back unharmed: the node stops in order. The attempt does not count. */
  | { readonly _tag: "Released" }

/** A task that became ready for dispatch by somebody else's change. */
export interface Ready {
  readonly agentId: AgentId
  readonly order: TaskOrder
}

export interface Settled {
  /** False: fenced. Nothing was changed; drop the result. */
  readonly recorded: boolean
}

export interface TakenOver {
  readonly epoch: number
  /** Tasks that ran under the old epoch and are queued again. */
  readonly requeued: number
  /** Tasks that had no attempt left, or were `at_most_once`: failed. */
  readonly failed: number
}

/** What is done to tasks from outside, one or many. */
export type Control =
  | { readonly _tag: "Cancel"; readonly reason: string | undefined }
  /** To another lane, or another agent: tasks that wait. */
  | { readonly _tag: "Move"; readonly priority: TaskPriority | undefined; readonly agentId: AgentId | undefined }
  /** Ended ones that no living task depends on; `keepKeyed`: not while their idempotency key is remembered. */
  | { readonly _tag: "Delete"; readonly keepKeyed: boolean }
  /** Ended ones that did not complete: somebody has dealt with them. */
  | { readonly _tag: "Acknowledge"; readonly note: string | undefined }
  /** Nothing is done here: a step only records what was done elsewhere. */
  | { readonly _tag: "Record" }

/** One step of an operation on many tasks, recorded with what it does. */
export interface OperationStep {
  readonly operation: OperationId
  /** Where the operation must stand; otherwise this step was taken before, and nothing happens. */
  readonly from: string
  /** Where it stands then; undefined: it has ended. */
  readonly next: string | undefined
  readonly matched: number
  /** Done elsewhere, beside what this step does. */
  readonly done: number
  readonly failed: number
  readonly errors: ReadonlyArray<{ readonly task_id: TaskId; readonly detail: string }>
}

export class Ledger extends Context.Service<
  Ledger,
  {
    /**
     * Tasks that somebody's change made ready: released children, due retries, what a takeover gave back. Sliding: what
     * is not taken in time is found by the reconciler.
     */
    readonly ready: Queue.Dequeue<Ready>
    /** What is said to tasks. */
    readonly signals: SignalLedger
    /** What tasks wait for that have submitted others. */
    readonly children: ChildLedger
    /** What tasks say while they run. */
    readonly streams: StreamLedger
    readonly graphs: GraphLedger
    /**
     * Accepts tasks in one transaction (those with conditions in another), so callers hand in what has gathered. Each has its own outcome, in order, unless `atomic`: then the first outcome other than
     * `Accepted`, `Existing`, `Coalesced`, or `Held` that was not to be refused, undoes all: those at fault have their own, the others are `Undone`. Order of dependencies within one call
     * does not matter. The caller dispatches those whose outcome says `queued`.
     */
    readonly accept: (
      tasks: ReadonlyArray<NewTask>,
      options?: { readonly atomic?: boolean; readonly graph?: NewGraph }
    ) => Effect.Effect<ReadonlyArray<AcceptOutcome>, LedgerUnavailable>
    /** What an idempotency key made, as it stands, when it was used within its time. */
    readonly earlier: (
      namespace: Namespace,
      idempotency: { readonly key: string; readonly fingerprint: string }
    ) => Effect.Effect<Extract<AcceptOutcome, { readonly _tag: "Existing" }> | undefined, LedgerUnavailable>
    /**
     * Claims queued tasks for an instance: `queued` to `running`, attempt + 1, if the slot's epoch is the present one and the
     * task has had as many attempts as its order says. Ids that are missing from the answer were not won. `fenced`: the slot's epoch is outdated; the instance must stop.
     * Answers however long Postgres is away: a claim of unknown outcome may have won what nobody would run. One slot must
     * not claim a task while an earlier claim for it is under way.
     */
    readonly claim: (
      slot: Slot,
      orders: ReadonlyArray<TaskOrder>,
      /** Asked of each order when its transaction begins; those that answer no are left out. All when absent. */
      stillWanted?: (order: TaskOrder) => boolean,
      /** The version of the agent's definition that each runs under, as in `RunningTask`; the first one when absent. */
      agentVersionOf?: (order: TaskOrder) => number | undefined
    ) => Effect.Effect<{ readonly fenced: boolean; readonly claimed: ReadonlyArray<Claimed> }>
    /**
     * Records the end of an attempt; resolves dependents in the same transaction. Answers however long Postgres is away.
     * `unclaimed`: the attempt ended before its claim was written; both are recorded at once, if the task is still queued
     * with one attempt less and the slot's epoch is the present one. Never for tasks that may run at most once.
     */
    readonly settle: (
      slot: Slot,
      task: RunningTask,
      settlement: Settlement,
      options?: { readonly unclaimed: boolean }
    ) => Effect.Effect<Settled>
    /**
     * Takes queued tasks from an agent that does not offer the version of a capability that they ask for: they wait for one
     * that does. Nothing changes unless the agent still has the version that was looked at. Returns how many.
     */
    readonly setAside: (
      agent: { readonly id: AgentId; readonly version: number },
      ids: ReadonlyArray<TaskId>
    ) => Effect.Effect<number, LedgerUnavailable>
    /** Records progress of a running attempt. Fenced or late reports change nothing. */
    readonly progress: (slot: Slot, task: RunningTask, progress: TaskProgress) => Effect.Effect<void, LedgerUnavailable>
    /**
     * Cancels tasks of a namespace that have not ended, whatever they are doing. Returns those it ended, with the
     * agent of each that was running.
     */
    readonly cancel: (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>,
      by: { readonly actor: string; readonly reason: string | undefined }
    ) => Effect.Effect<ReadonlyArray<{ readonly id: TaskId; readonly ranOn: AgentId | undefined }>, LedgerUnavailable>
    /**
     * Does one thing to tasks of a namespace, in one transaction, with `step` as a step of an operation. Tasks in another
     * state than it needs are left alone. Returns those that were changed, and the agents of those that ran.
     */
    readonly control: (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>,
      control: Control,
      by: { readonly actor: string; readonly step?: OperationStep }
    ) => Effect.Effect<
      {
        readonly done: ReadonlyArray<TaskId>
        readonly ran: ReadonlyArray<{ readonly id: TaskId; readonly agentId: AgentId }>
      },
      LedgerUnavailable
    >
    /** Of these ended tasks, those that `Delete` would delete, with the bytes of their payload and result. */
    readonly deletable: (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>
    ) => Effect.Effect<ReadonlyArray<{ readonly id: TaskId; readonly bytes: number }>, LedgerUnavailable>
    /** Clears results whose time to live is over. Returns how many. */
    readonly expireResults: (limit: number) => Effect.Effect<number, LedgerUnavailable>
    /** Takes an instance over: epoch + 1, and what ran under the old one goes back to the queue. */
    readonly takeOver: (instance: {
      readonly agentId: AgentId
      readonly index: number
    }) => Effect.Effect<TakenOver, LedgerUnavailable>
    /** Marks a lease as hibernating, so that the supervision view tells the truth. */
    readonly hibernate: (slot: Slot) => Effect.Effect<void, LedgerUnavailable>
    /**
     * Queued tasks of an agent straight from the ledger: the first `limit` of each lane, in lane and routing order. The way
     * round a lost dispatch.
     */
    readonly backlog: (
      agentId: AgentId,
      options: { readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<TaskOrder>, LedgerUnavailable>
    /** Result data of ended tasks of a namespace, for `$result` references. */
    readonly results: (
      namespace: Namespace,
      refs: ReadonlyArray<{ readonly id: string }>
    ) => Effect.Effect<
      ReadonlyArray<{ readonly id: string; readonly status: TaskStatus; readonly data: Schema.Json }>,
      LedgerUnavailable
    >
    /** Tells that these leases are alive, for the supervision view and the directory. */
    readonly heartbeat: (slots: ReadonlyArray<Slot>) => Effect.Effect<void, LedgerUnavailable>
    /** Queues tasks whose `run_at` or retry is due; they come out of `ready`. Returns how many. */
    readonly queueDue: (limit: number) => Effect.Effect<number, LedgerUnavailable>
    /**
     * Carries on where the end of a parent had more to do down the graph than one transaction takes: from at most `limit`
     * ended tasks. Returns how many tasks changed; none when nothing is left.
     */
    readonly resume: (limit: number) => Effect.Effect<number, LedgerUnavailable>
    /** Ends tasks whose deadline has passed. Returns those that were running, to be interrupted, and how many in all. */
    readonly expire: (
      limit: number
    ) => Effect.Effect<
      { readonly ended: number; readonly running: ReadonlyArray<{ readonly id: TaskId; readonly agentId: AgentId }> },
      LedgerUnavailable
    >
    /**
     * Namespaces and types of tasks that wait for an agent that can do them, in a fixed order after `after`; fewer than
     * `limit` when these were the last.
     */
    readonly withoutAgent: (
      after: { readonly namespace: Namespace; readonly type: TaskType } | undefined,
      limit: number
    ) => Effect.Effect<ReadonlyArray<{ readonly namespace: Namespace; readonly type: TaskType }>, LedgerUnavailable>
    /** Gives such tasks an agent; they come out of `ready`. Returns how many. */
    readonly assign: (
      waiting: { readonly namespace: Namespace; readonly type: TaskType; readonly agentId: AgentId },
      limit: number
    ) => Effect.Effect<number, LedgerUnavailable>
    /** Agents that have queued or running tasks. */
    readonly agentsWithWork: (limit: number) => Effect.Effect<ReadonlyArray<AgentId>, LedgerUnavailable>
    /** Leases that have not been heard of for a while though tasks run under them. */
    readonly orphans: (
      silentFor: Duration.Duration,
      limit: number
    ) => Effect.Effect<ReadonlyArray<{ readonly agentId: AgentId; readonly index: number }>, LedgerUnavailable>
    /**
     * Queues tasks of a namespace that wait for capacity, as far as their limits allow, soon and by itself. The ledger does so
     * for what it changes; to be called when a limit has changed.
     */
    readonly admit: (namespace: Namespace) => Effect.Effect<void>
    /** The same wherever something was left to look at: what a node that is gone would have done. Returns for how many namespaces. */
    readonly admitOpen: (limit: number) => Effect.Effect<number, LedgerUnavailable>
    /** Folds tallies, and forgets expired idempotency keys and idle keys of limits, a bounded share per call. Returns how many rows went. */
    readonly tidy: (limit: number) => Effect.Effect<number, LedgerUnavailable>
    /** Ids of those of these running tasks that are no longer running under the slot: to be interrupted. */
    readonly lost: (slot: Slot, ids: ReadonlyArray<TaskId>) => Effect.Effect<ReadonlyArray<TaskId>, LedgerUnavailable>
  }
>()("datamcp/actors/Ledger") {}
