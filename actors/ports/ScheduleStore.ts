/**
 * Port to stored schedules, as whoever fires them sees them. Time is Postgres's.
 *
 * Due times of a schedule are settled in their order and each once: a settlement of one that was settled before changes
 * nothing and says so, whoever comes second.
 */
import { Context, type Effect, Schema } from "effect"
import type { GraphId, Namespace, ScheduleId, TaskId } from "../../protocol/Ids.ts"
import type { CatchUp, GraphTemplate, Overlap, TaskTemplate } from "../../protocol/Schedule.ts"

/** Postgres could not be asked. */
export class ScheduleStoreUnavailable extends Schema.TaggedError<ScheduleStoreUnavailable>()(
  "ScheduleStoreUnavailable",
  { operation: Schema.String, message: Schema.String }
) {}

/** One of both. */
export interface Template {
  readonly task: TaskTemplate | undefined
  readonly graph: GraphTemplate | undefined
}

/** What a run made: one of both. */
export interface Made {
  readonly taskId: TaskId | undefined
  readonly graphId: GraphId | undefined
}

/** A schedule whose due time has come, and what its next one is decided by. */
export interface DueSchedule extends Template {
  readonly id: ScheduleId
  readonly namespace: Namespace
  readonly owner: string
  /** Makes the keys of its runs its own: nobody else knows it. */
  readonly runSecret: string
  readonly cron: string | null
  readonly every_ms: number | null
  readonly time_zone: string
  readonly starts_at: string | null
  readonly ends_at: string | null
  readonly anchorMillis: number
  readonly jitterMillis: number
  readonly catchUp: CatchUp
  readonly overlap: Overlap
  readonly dueMillis: number
  readonly nowMillis: number
  /** Set when somebody worked on this due time before: for how long it may have been submitted. */
  readonly attemptedForMillis: number | undefined
  readonly last: Made
}

/** What became of a due time. */
export type Settlement =
  | ({ readonly _tag: "Fired" } & Made)
  | { readonly _tag: "Skipped" | "Refused"; readonly reason: string }

/** The due time that follows, and when it starts. */
export interface Next {
  readonly dueMillis: number
  readonly startMillis: number
}

export class ScheduleStore extends Context.Service<
  ScheduleStore,
  {
    /** Schedules whose time has come, at most `limit`; notes that they are worked on. */
    readonly take: (limit: number) => Effect.Effect<ReadonlyArray<DueSchedule>, ScheduleStoreUnavailable>
    /**
     * Records what became of a due time, with its event, and goes on to the next one if the schedule still stands at this
     * one. False: it was settled before, or the schedule is gone; nothing changed.
     */
    readonly settle: (
      of: { readonly id: ScheduleId; readonly dueMillis: number },
      settlement: Settlement,
      next: Next | undefined
    ) => Effect.Effect<boolean, ScheduleStoreUnavailable>
    /** Leaves out all due times from one to before another, with one event for all of them. */
    readonly leaveOut: (
      of: { readonly id: ScheduleId; readonly dueMillis: number },
      next: Next | undefined
    ) => Effect.Effect<void, ScheduleStoreUnavailable>
    /** Tasks of an earlier run that have not ended, at most `limit`. */
    readonly openTasks: (
      namespace: Namespace,
      made: Made,
      limit: number
    ) => Effect.Effect<ReadonlyArray<TaskId>, ScheduleStoreUnavailable>
  }
>()("datamcp/actors/ScheduleStore") {}
