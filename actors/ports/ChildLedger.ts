/**
 * The part of the ledger that tasks wait for their children through.
 *
 * Whatever comes first, the await or the last end, the parent hears of it: both lock the parent. Parking is that of signals
 * (`SignalLedger.park`): both kinds of awaits are numbered together.
 */
import type { Effect, Schema } from "effect"
import type { TaskId } from "../../protocol/Ids.ts"
import type { TaskError, TerminalStatus } from "../../protocol/Task.ts"
import type { LedgerUnavailable, RunningTask, Slot } from "./Ledger.ts"

/** How a child ended. */
export interface ChildEnd {
  readonly id: TaskId
  readonly status: TerminalStatus
  /**
   * What it returned, when it completed; of a large result the reference to its artifact. Absent when `left_out` is true, and
   * when the result's time to live was over before it was awaited.
   */
  readonly data?: Schema.Json
  /** Why it did not complete. */
  readonly error?: TaskError
  /**
   * True when the results before it, and its own, have more than `Limits.awaitedResultBytesMax` together: its data is read by
   * who refers to it in a payload, `{"$result": "<id>"}`.
   */
  readonly left_out?: true
}

export type ChildrenAnswer =
  /** In the order in which they were asked for. */
  | { readonly _tag: "Ended"; readonly children: ReadonlyArray<ChildEnd> }
  | { readonly _tag: "Waiting"; readonly open: number }
  /** An earlier attempt awaited something else at this place. */
  | { readonly _tag: "Diverged" }
  /** `unknown`: it is not one of the task's children. `circular`: it waits for the task. `gone`: it was deleted. */
  | { readonly _tag: "Refused"; readonly why: "unknown" | "circular" | "gone"; readonly child: TaskId }
  | { readonly _tag: "Refused"; readonly why: "too_many" }
  | { readonly _tag: "Fenced" }

export interface ChildLedger {
  /**
   * What the await at `position` of a running attempt comes to; the first look opens it, for these children or for all that
   * the task has by then. The same position of any attempt gets the same answer. Answers however long Postgres is away.
   */
  readonly take: (
    slot: Slot,
    task: RunningTask,
    wanted: { readonly position: number; readonly children: ReadonlyArray<TaskId> | undefined }
  ) => Effect.Effect<ChildrenAnswer>
  /** Looks at some open awaits and queues parked parents that nobody told of an end. Returns how many. */
  readonly heal: (limit: number) => Effect.Effect<number, LedgerUnavailable>
}
