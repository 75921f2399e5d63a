/**
 * The part of the ledger that talking to tasks goes through: signals, the awaits that take them, and setting aside.
 *
 * Whatever comes first, a signal and the await that it is for find each other: both lock the task. A parked task is queued
 * by exactly one of what it waits for.
 */
import type { Effect, Schema } from "effect"
import type { AgentId, Namespace, SignalName, TaskId } from "../../protocol/Ids.ts"
import type { JsonShape } from "../../protocol/JsonShape.ts"
import type { Senders, SignalReceipt } from "../../protocol/Signal.ts"
import type { LedgerUnavailable, RunningTask, Slot } from "./Ledger.ts"

/** What an await asks for. */
export interface AwaitTerms {
  /** What people are told who look at what waits. */
  readonly message?: string
  /** What the payload must look like. */
  readonly shape?: JsonShape
  /** Who may send it. Such an await takes nothing that was sent before it began. */
  readonly from?: Senders
}

/** What an await comes to when it looks. */
export type AwaitAnswer =
  | { readonly _tag: "Signal"; readonly signal: TakenSignal }
  | { readonly _tag: "TimedOut" }
  /** Nothing yet; `leftMillis` until it times out, if it does. */
  | { readonly _tag: "Waiting"; readonly leftMillis: number | undefined }
  /** An earlier attempt awaited another signal at this place: the behaviour does not do the same again. */
  | { readonly _tag: "Diverged"; readonly awaited: string }
  | { readonly _tag: "Fenced" }

export interface TakenSignal {
  /** Counts the task's signals from 1. */
  readonly number: number
  readonly name: SignalName
  readonly payload: Schema.Json
  /** Who sent it, as events name them. */
  readonly actor: string
  /** RFC 3339, Postgres's clock. */
  readonly at: string
}

export interface NewSignal {
  readonly namespace: Namespace
  readonly taskId: TaskId
  readonly name: SignalName
  readonly payload: Schema.Json
  readonly actor: string
  /** The same request again gives the same answer. */
  readonly request: string
  readonly fingerprint: string
  /** Position of the open await whose terms it was held against; undefined when there was none. */
  readonly checked: number | undefined
  /** It must be awaited, and the only one of its name that is kept. */
  readonly isAnswer: boolean
}

export type SignalOutcome =
  | { readonly _tag: "Stored"; readonly receipt: SignalReceipt; readonly runsOn: AgentId | undefined }
  | { readonly _tag: "Existing"; readonly receipt: SignalReceipt; readonly same: boolean }
  | {
      readonly _tag: "Refused"
      /** `changed`: what it was held against is not what is awaited by now. */
      readonly why: "unknown" | "ended" | "changed" | "not_awaited" | "expired" | "answered" | "full"
      readonly version: number | undefined
    }

export interface SignalLedger {
  /** Stores a signal and queues a task that was parked for it. */
  readonly send: (signal: NewSignal) => Effect.Effect<SignalOutcome, LedgerUnavailable>
  /**
   * What the await at `position` of a running attempt comes to; the first look opens it. The same position of any attempt
   * gets the same answer. Answers however long Postgres is away.
   */
  readonly take: (
    slot: Slot,
    task: RunningTask,
    wanted: {
      readonly position: number
      readonly name: SignalName
      readonly timeoutMillis: number | undefined
      readonly terms: AwaitTerms
    }
  ) => Effect.Effect<AwaitAnswer>
  /**
   * Ends an attempt that waits, for a signal or for children: it does not count, and the task is queued again when what it
   * awaits has come or timed out.
   */
  readonly park: (slot: Slot, task: RunningTask, position: number) => Effect.Effect<void>
  /** Closes awaits whose time is over and queues what was parked for them. Returns how many tasks it queued. */
  readonly expire: (limit: number) => Effect.Effect<number, LedgerUnavailable>
  /** Sets a task aside, whatever it is doing. `ranOn`: its agent, when it was running and must be interrupted. */
  readonly pause: (
    namespace: Namespace,
    id: TaskId,
    by: { readonly actor: string; readonly reason: string | undefined }
  ) => Effect.Effect<
    {
      readonly outcome: "paused" | "already" | "unknown" | "ended" | "at_most_once"
      readonly ranOn: AgentId | undefined
    },
    LedgerUnavailable
  >
  /** Puts a task that was set aside back to what it would be now. */
  readonly resume: (
    namespace: Namespace,
    id: TaskId,
    actor: string
  ) => Effect.Effect<"resumed" | "unknown" | "not_paused" | "waits" | "held", LedgerUnavailable>
}
