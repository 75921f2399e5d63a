/**
 * The part of the ledger that chunks go through: written in batches of their own, numbered there, published after COMMIT.
 */
import type { Effect } from "effect"
import type { StreamName } from "../../protocol/Ids.ts"
import type { RunningTask, Slot } from "./Ledger.ts"

export interface NewChunks {
  readonly stream: StreamName
  /** Number of the event that began the run. */
  readonly run: number
  /** Chunks of this run that went to this stream before. */
  readonly sequence: number
  /** Each as JSON. */
  readonly chunks: ReadonlyArray<string>
  /** What they count towards the bound of the task's streams. */
  readonly bytes: number
}

export interface StreamLedger {
  /**
   * Appends chunks of a running attempt to a stream. A run must not append before its last append was answered. Answers
   * however long Postgres is away. `fenced`: the attempt is over. `full`, `too_many`: a bound of the task's streams is
   * passed, and nothing was written.
   */
  readonly append: (
    slot: Slot,
    task: RunningTask,
    chunks: NewChunks
  ) => Effect.Effect<"written" | "fenced" | "full" | "too_many">
}
