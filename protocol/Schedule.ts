/**
 * Owns what is said about schedules: commands that define and steer one, the view that shows one, its runs, and the
 * question when it runs next.
 *
 * A schedule submits its template, one task or one graph, at the moments that its cron expression or its interval names.
 * Such a moment is a `due` time; a run is what became of one.
 */
import { Schema } from "effect"
import { GraphId, Namespace, ScheduleId, ScheduleName, TaskId } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import {
  AcceptedGraph,
  AcceptedTask,
  GraphTask,
  Labels,
  SubmitGraph,
  SubmitTask,
  TaskStatus,
  Timestamp
} from "./Task.ts"

/** Runs that were missed while nothing could start them: none is made up, the latest one, or all (the latest of them). */
export const CatchUp = Schema.Literals(["skip", "one", "all"])
export type CatchUp = typeof CatchUp.Type

/** What becomes of a run that is due while the one before it has not ended. */
export const Overlap = Schema.Literals(["allow", "skip", "cancel_previous"])
export type Overlap = typeof Overlap.Type

const { idempotency_key: _taskKey, run_at: _runAt, deadline: _deadline, ...taskFields } = SubmitTask.fields
const { run_at: _graphRunAt, deadline: _graphDeadline, ...graphTaskFields } = GraphTask.fields

/** The task of each run: `SubmitTask` without what can hold for one run only. */
export const TaskTemplate = Schema.Struct(taskFields).annotate({ identifier: "TaskTemplate" })
export type TaskTemplate = typeof TaskTemplate.Type

/** The graph of each run: `SubmitGraph` without what can hold for one run only. */
export const GraphTemplate = Schema.Struct({
  name: SubmitGraph.fields.name,
  tasks: Schema.Record(
    SubmitGraph.fields.tasks.key,
    Schema.Struct(graphTaskFields).annotate({ identifier: "GraphTaskTemplate" })
  ),
  on_failure: SubmitGraph.fields.on_failure,
  labels: SubmitGraph.fields.labels
}).annotate({ identifier: "GraphTemplate" })
export type GraphTemplate = typeof GraphTemplate.Type

/** A name such as `Europe/Berlin`; whether there is such a zone is for whoever knows the zones. */
const TimeZone = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/u, { expected: "an IANA time zone such as Europe/Berlin" })
)

const cron = Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, Limits.cronCharactersMax))).annotateKey({
  description:
    "Five fields (minute, hour, day, month, weekday), six with seconds first, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`."
})
const everyMillis = Schema.optionalKey(
  Schema.Int.check(
    Schema.isBetween({ minimum: Limits.scheduleIntervalMillisMin, maximum: Limits.scheduleAheadMillisMax })
  )
).annotateKey({ description: "Instead of `cron`: an interval in milliseconds, counted from `starts_at` or from now." })
const timeZone = Schema.optionalKey(TimeZone).annotateKey({
  description: "IANA name of the zone that `cron` is meant in; UTC when absent."
})

const policyFields = {
  description: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
  jitter_ms: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.scheduleJitterMillisMax }))
  ).annotateKey({ description: "Each run starts up to so much later, by a share that is fixed for the run." }),
  catch_up: Schema.optionalKey(CatchUp).annotateKey({
    description: `Runs missed by more than ${Limits.scheduleGraceMillis} ms: \`skip\` (default), \`one\` (the latest), or \`all\` (the latest ${Limits.scheduleCatchUpRunsMax}).`
  }),
  overlap: Schema.optionalKey(Overlap).annotateKey({
    description:
      "When the run before has not ended: `allow` (default), `skip` this one, or `cancel_previous` and start this one."
  }),
  task: Schema.optionalKey(TaskTemplate).annotateKey({ description: "The task to submit; or `graph`." }),
  graph: Schema.optionalKey(GraphTemplate).annotateKey({ description: "The graph to submit; or `task`." }),
  labels: Schema.optionalKey(Labels)
}

/** Command: make a schedule. One of `cron` and `every_ms`, and one of `task` and `graph`, must be given. */
export const CreateSchedule = Schema.Struct({
  name: ScheduleName,
  cron,
  every_ms: everyMillis,
  time_zone: timeZone,
  starts_at: Schema.optionalKey(Timestamp).annotateKey({ description: "No run is due before." }),
  ends_at: Schema.optionalKey(Timestamp).annotateKey({ description: "No run is due after." }),
  paused: Schema.optionalKey(Schema.Boolean).annotateKey({ description: "Made, but not started: resume starts it." }),
  ...policyFields
}).annotate({ identifier: "CreateSchedule" })
export type CreateSchedule = typeof CreateSchedule.Type

/**
 * Command: replace the parts that are given. `cron` takes the place of `every_ms` and the other way round, as `task` and
 * `graph` do; null takes a bound away. The name never changes.
 */
export const UpdateSchedule = Schema.Struct({
  cron,
  every_ms: everyMillis,
  time_zone: timeZone,
  starts_at: Schema.optionalKey(Schema.NullOr(Timestamp)),
  ends_at: Schema.optionalKey(Schema.NullOr(Timestamp)),
  ...policyFields
}).annotate({ identifier: "UpdateSchedule" })
export type UpdateSchedule = typeof UpdateSchedule.Type

/** `ended`: no run is due any more, as `ends_at` has passed. */
export const ScheduleStatus = Schema.Literals(["active", "paused", "ended"])
export type ScheduleStatus = typeof ScheduleStatus.Type

/** What became of a due time: submitted, left out, or not accepted. */
export const RunOutcome = Schema.Literals(["fired", "skipped", "refused"])
export type RunOutcome = typeof RunOutcome.Type

/** View: a schedule, when it runs next, and how it ran last. */
export const Schedule = Schema.Struct({
  id: ScheduleId,
  namespace: Namespace,
  name: ScheduleName,
  description: Schema.optionalKey(Schema.String),
  status: ScheduleStatus,
  cron: Schema.NullOr(Schema.String),
  every_ms: Schema.NullOr(Schema.Int),
  time_zone: Schema.String,
  starts_at: Schema.NullOr(Timestamp),
  ends_at: Schema.NullOr(Timestamp),
  jitter_ms: Schema.Int,
  catch_up: CatchUp,
  overlap: Overlap,
  task: Schema.optionalKey(TaskTemplate),
  graph: Schema.optionalKey(GraphTemplate),
  labels: Labels,
  owner: Schema.String.annotateKey({
    description: "Whose rights its runs have: `key:<id>` of whoever made it or changed it last."
  }),
  next_run_at: Schema.NullOr(Timestamp).annotateKey({ description: "The next due time, without its jitter." }),
  last_run_at: Schema.NullOr(Timestamp).annotateKey({ description: "The due time that was settled last." }),
  last_outcome: Schema.NullOr(RunOutcome),
  last_reason: Schema.NullOr(Schema.String).annotateKey({ description: "Why the last run was skipped or refused." }),
  last_task_id: Schema.NullOr(TaskId),
  last_graph_id: Schema.NullOr(GraphId),
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Schema.Int.annotateKey({ description: "Grows with each change of the definition; runs leave it alone." })
}).annotate({ identifier: "Schedule" })
export type Schedule = typeof Schedule.Type

/** View: what became of one due time, or of a run that somebody asked for. */
export const ScheduleRun = Schema.Struct({
  at: Timestamp.annotate({ description: "When it was settled." }),
  due: Schema.NullOr(Timestamp).annotateKey({ description: "Null when somebody asked for it." }),
  outcome: RunOutcome,
  reason: Schema.NullOr(Schema.String),
  task_id: Schema.NullOr(TaskId),
  graph_id: Schema.NullOr(GraphId),
  task_status: Schema.NullOr(TaskStatus).annotateKey({ description: "Of `task_id`, as it is now." })
}).annotate({ identifier: "ScheduleRun" })
export type ScheduleRun = typeof ScheduleRun.Type

/** What asking for a run answers: the task or the graph it made. */
export const StartedRun = Schema.Struct({
  task: Schema.optionalKey(AcceptedTask),
  graph: Schema.optionalKey(AcceptedGraph)
}).annotate({ identifier: "StartedRun" })
export type StartedRun = typeof StartedRun.Type

/** How many due times are wanted. */
export const PreviewCount = Schema.Int.check(
  Schema.isBetween({ minimum: 1, maximum: Limits.schedulePreviewMax })
).annotate({
  description: `Due times wanted, 1 to ${Limits.schedulePreviewMax}; ${Limits.schedulePreviewDefault} when absent.`
})

/** Question: when would this run? Nothing is stored. */
export const PreviewSchedule = Schema.Struct({
  cron,
  every_ms: everyMillis,
  time_zone: timeZone,
  starts_at: Schema.optionalKey(Timestamp),
  ends_at: Schema.optionalKey(Timestamp),
  after: Schema.optionalKey(Timestamp).annotateKey({ description: "Due times after this moment; now when absent." }),
  count: Schema.optionalKey(PreviewCount)
}).annotate({ identifier: "PreviewSchedule" })
export type PreviewSchedule = typeof PreviewSchedule.Type

/** The next due times, ascending, in UTC and as the clocks of the zone show them. Fewer when the schedule ends. */
export const DueTimes = Schema.Struct({
  time_zone: Schema.String,
  data: Schema.Array(Schema.Struct({ due: Timestamp, local: Timestamp }))
}).annotate({ identifier: "DueTimes" })
export type DueTimes = typeof DueTimes.Type
