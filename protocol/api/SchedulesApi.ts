/**
 * Owns the HTTP contract of schedules: define, change, steer, look, and ask when they run.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { ScheduleRef } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { Page } from "../Page.ts"
import { Conflict, ScheduleNotFound, SubmitProblem } from "../Problem.ts"
import { ListSchedules, PageQuery } from "../Query.ts"
import {
  CreateSchedule,
  DueTimes,
  PreviewCount,
  PreviewSchedule,
  Schedule,
  ScheduleRun,
  StartedRun,
  UpdateSchedule
} from "../Schedule.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, IfMatch, prefix, SubmitHeaders } from "./Wire.ts"

const params = { schedule: ScheduleRef.annotate({ description: "Id or name of the schedule." }) }
const versioned = { etag: "Version of the schedule, for If-Match." }

const create = HttpApiEndpoint.post("create", "/schedules", {
  payload: CreateSchedule,
  success: Schedule.pipe(HttpApiSchema.status(201)),
  error: [Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Make a schedule",
    description:
      "Submits its task or graph at the moments that `cron` or `every_ms` names. 409 with reason `name-taken` when the " +
      `namespace has one of that name; at most ${Limits.schedulesMax} per namespace.`,
    answers: { 201: { location: "Path of the schedule.", ...versioned } }
  })
)

const list = HttpApiEndpoint.get("list", "/schedules", {
  query: ListSchedules,
  success: Page(Schedule)
}).annotateMerge(documented({ summary: "List schedules", description: "Newest first, by cursor." }))

const preview = HttpApiEndpoint.post("preview", "/schedules/preview", {
  payload: PreviewSchedule,
  success: DueTimes,
  error: BodyProblem
}).annotateMerge(
  documented({
    summary: "When would this run?",
    description: "The next due times of an expression or interval, in UTC and in its zone. Nothing is stored."
  })
)

const get = HttpApiEndpoint.get("get", "/schedules/:schedule", {
  params,
  success: Schedule,
  error: ScheduleNotFound
}).annotateMerge(documented({ summary: "Get a schedule", answers: { 200: versioned } }))

const update = HttpApiEndpoint.put("update", "/schedules/:schedule", {
  params,
  headers: { "if-match": Schema.optionalKey(IfMatch) },
  payload: UpdateSchedule,
  success: Schedule,
  error: [ScheduleNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Change a schedule",
    description:
      "Replaces the parts that are given. Its runs have the rights of whoever changed it last. With `If-Match` only " +
      "that version is changed; otherwise 409 with reason `version` and `current_version`.",
    answers: { 200: versioned }
  })
)

const remove = HttpApiEndpoint.delete("remove", "/schedules/:schedule", {
  params,
  success: Schedule,
  error: ScheduleNotFound
}).annotateMerge(
  documented({ summary: "Delete a schedule", description: "The tasks it made stay. Answers what it was." })
)

const pause = HttpApiEndpoint.post("pause", "/schedules/:schedule/pause", {
  params,
  success: Schedule,
  error: ScheduleNotFound
}).annotateMerge(
  documented({
    summary: "Pause a schedule",
    description: "Nothing is due until it is resumed; what would have been is not made up.",
    answers: { 200: versioned }
  })
)

const resume = HttpApiEndpoint.post("resume", "/schedules/:schedule/resume", {
  params,
  success: Schedule,
  error: ScheduleNotFound
}).annotateMerge(
  documented({
    summary: "Resume a schedule",
    description: "Runs again from its next due time on.",
    answers: { 200: versioned }
  })
)

const run = HttpApiEndpoint.post("run", "/schedules/:schedule/run", {
  params,
  headers: SubmitHeaders,
  success: StartedRun.pipe(HttpApiSchema.status(202)),
  error: [...SubmitProblem, ScheduleNotFound]
}).annotateMerge(
  documented({
    summary: "Run a schedule now",
    description:
      "Submits its task or graph at once, with the caller's rights, also while it is paused. Its due times and its " +
      "overlap policy are not concerned.",
    answers: { 202: { location: "Path of the task or graph." } }
  })
)

const next = HttpApiEndpoint.get("next", "/schedules/:schedule/next", {
  params,
  query: { count: Schema.optionalKey(PreviewCount) },
  success: DueTimes,
  error: ScheduleNotFound
}).annotateMerge(
  documented({
    summary: "The next due times of a schedule",
    description: "As if it ran, when it is paused. Jitter is not added."
  })
)

const runs = HttpApiEndpoint.get("runs", "/schedules/:schedule/runs", {
  params,
  query: PageQuery,
  success: Page(ScheduleRun),
  error: ScheduleNotFound
}).annotateMerge(
  documented({
    summary: "Runs of a schedule",
    description: "What became of each due time, with the task or graph it made. Newest first, by cursor."
  })
)

export class SchedulesApi extends HttpApiGroup.make("schedules")
  .add(create, list, preview, get, update, remove, pause, resume, run, next, runs)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Schedules", description: "Work that comes back by the clock." })) {}
