/**
 * Decides, as pure functions, what a schedule is when it is made and what a command makes of a stored one: its new state
 * and the event, nothing when it is so already, or the refusal.
 *
 *   active <--> paused     by pause and resume
 *   active  --> ended      when no due time is left; --> active by an update that gives it one
 *
 * A change of when it runs begins a new rhythm from now; any other leaves the next due time where it is, also one that
 * has come already.
 */
import { Result } from "effect"
import * as Recurrence from "../../actors/Recurrence.ts"
import { problemsOf } from "../../actors/Routing.ts"
import { problemsOf as graphProblemsOf, toSubmitTask } from "../../actors/TaskGraph.ts"
import type { ScheduleId } from "../../protocol/Ids.ts"
import { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { utcMoment } from "../../protocol/Moment.ts"
import { Conflict, type InvalidField, InvalidInput, TooLarge } from "../../protocol/Problem.ts"
import type { CreateSchedule, GraphTemplate, UpdateSchedule } from "../../protocol/Schedule.ts"
import type { SubmitTask } from "../../protocol/Task.ts"
import type { ScheduleChange, ScheduleState } from "../ledger/ScheduleRegistry.ts"
import type { ScheduleRow } from "../ledger/ScheduleRows.ts"

type Refusal = InvalidInput | TooLarge
/** What becomes of a schedule; undefined: nothing. */
export type Change = ScheduleChange | undefined

/** The state of a schedule that is made now. */
export const created = (
  command: CreateSchedule,
  by: { readonly id: ScheduleId; readonly owner: string; readonly nowMillis: number }
): Result.Result<ScheduleState, Refusal> =>
  checked(
    {
      description: command.description ?? null,
      cron: command.cron?.trim() ?? null,
      every_ms: command.every_ms ?? null,
      time_zone: command.time_zone ?? "UTC",
      starts_at: command.starts_at ?? null,
      ends_at: command.ends_at ?? null,
      jitter_ms: command.jitter_ms ?? 0,
      catch_up: command.catch_up ?? "skip",
      overlap: command.overlap ?? "allow",
      task: command.task ?? null,
      graph: command.graph ?? null,
      labels: command.labels ?? {},
      owner: by.owner,
      paused: command.paused ?? false
    },
    { id: by.id, nowMillis: by.nowMillis, anchorMillis: by.nowMillis, goesOn: false }
  )

type Definition = Omit<ScheduleState, "anchor_at" | "next" | "sameNext">

const checked = (
  definition: Definition,
  at: {
    readonly id: ScheduleId
    readonly nowMillis: number
    readonly anchorMillis: number
    /** It runs when it did before: it may have ended. */
    readonly goesOn: boolean
  }
): Result.Result<ScheduleState, Refusal> => {
  const tooLarge = templateTooLarge(definition)
  if (tooLarge !== undefined) return Result.fail(tooLarge)
  const recurrence = Recurrence.compile(definition, at.anchorMillis)
  const problems = [...(Result.isFailure(recurrence) ? recurrence.failure : []), ...templateProblems(definition)]
  if (Result.isFailure(recurrence) || problems.length > 0) return Result.fail(refused(problems))
  const due = Recurrence.following(recurrence.success, at.nowMillis)
  if (due === undefined && !definition.paused && !at.goesOn) {
    return Result.fail(refused([{ field: "ends_at", message: "leaves no time at which it would run" }]))
  }
  return Result.succeed({
    ...definition,
    starts_at: inUtc(definition.starts_at),
    ends_at: inUtc(definition.ends_at),
    anchor_at: Recurrence.momentOf(at.anchorMillis),
    next: definition.paused ? null : nextOf(at.id, due, definition.jitter_ms),
    sameNext: false
  })
}

const inUtc = (text: string | null) => (text === null ? null : (utcMoment(text) ?? null))

const nextOf = (id: ScheduleId, due: number | undefined, jitterMillis: number) =>
  due === undefined
    ? null
    : {
        due_at: Recurrence.momentOf(due),
        starts_next_at: Recurrence.momentOf(Recurrence.startOf(id, due, jitterMillis))
      }

const refused = (errors: ReadonlyArray<InvalidField>) =>
  new InvalidInput({ detail: errors.map(({ field, message }) => `${field}: ${message}`).join("; "), errors })

/** Changes what a command gives. `owner` is whoever changes it. */
export const update =
  (command: UpdateSchedule, by: { readonly owner: string; readonly ifVersion: number | undefined }) =>
  (row: ScheduleRow, nowMillis: number): Result.Result<Change, Refusal | Conflict> => {
    if (by.ifVersion !== undefined && by.ifVersion !== row.version) {
      return Result.fail(
        new Conflict({
          detail: `Schedule "${row.name}" is at version ${row.version}, not ${by.ifVersion}: read it again.`,
          reason: "version",
          current_version: row.version
        })
      )
    }
    const changed = Object.entries(command).flatMap(([field, value]) => (value === undefined ? [] : [field]))
    if (changed.length === 0) return unchanged
    const definition = { ...definitionOf(row), ...partsOf(command), owner: by.owner }
    const goesOn = saysTheSameTime(definition, row)
    const anchorMillis = goesOn ? row.anchor_millis : nowMillis
    return Result.map(checked(definition, { id: row.id, nowMillis, anchorMillis, goesOn }), (state) => ({
      event: "ScheduleUpdated",
      data: { changed },
      state: goesOn ? { ...state, ...standing(row, definition.jitter_ms) } : state
    }))
  }

const saysTheSameTime = (definition: Definition, row: ScheduleRow) =>
  definition.cron === row.cron &&
  definition.every_ms === row.every_ms &&
  definition.time_zone === row.time_zone &&
  inUtc(definition.starts_at) === row.starts_at &&
  inUtc(definition.ends_at) === row.ends_at

/** What a command replaces; one way of saying when takes the place of the other, and one template that of the other. */
const partsOf = (command: UpdateSchedule): Partial<Definition> => {
  const {
    cron,
    description,
    ends_at,
    every_ms,
    graph,
    jitter_ms,
    catch_up,
    labels,
    overlap,
    starts_at,
    task,
    time_zone
  } = command
  return {
    ...(description !== undefined && { description }),
    ...((cron !== undefined || every_ms !== undefined) && { cron: cron?.trim() ?? null, every_ms: every_ms ?? null }),
    ...(time_zone !== undefined && { time_zone }),
    ...(starts_at !== undefined && { starts_at }),
    ...(ends_at !== undefined && { ends_at }),
    ...(jitter_ms !== undefined && { jitter_ms }),
    ...(catch_up !== undefined && { catch_up }),
    ...(overlap !== undefined && { overlap }),
    ...((task !== undefined || graph !== undefined) && { task: task ?? null, graph: graph ?? null }),
    ...(labels !== undefined && { labels })
  }
}

const definitionOf = (row: ScheduleRow): Definition => ({
  description: row.description,
  cron: row.cron,
  every_ms: row.every_ms,
  time_zone: row.time_zone,
  starts_at: row.starts_at,
  ends_at: row.ends_at,
  jitter_ms: row.jitter_ms,
  catch_up: row.catch_up,
  overlap: row.overlap,
  task: row.task,
  graph: row.graph,
  labels: row.labels,
  owner: row.owner,
  paused: row.paused
})

/** Where a schedule stands: its rhythm and its next due time, unchanged; when that starts may change with the jitter. */
const standing = (row: ScheduleRow, jitterMillis: number) => ({
  anchor_at: Recurrence.momentOf(row.anchor_millis),
  next: nextOf(row.id, row.due_millis ?? undefined, jitterMillis),
  sameNext: true
})

export const pause = (row: ScheduleRow): Result.Result<Change> =>
  row.paused
    ? unchanged
    : Result.succeed({
        event: "SchedulePaused",
        data: {},
        state: { ...definitionOf(row), ...standing(row, row.jitter_ms), paused: true, next: null, sameNext: false }
      })

/** From its next due time on: what would have been due meanwhile is not made up. */
export const resume = (row: ScheduleRow, nowMillis: number): Result.Result<Change, InvalidInput> => {
  if (!row.paused) return unchanged
  const recurrence = Recurrence.compile(row, row.anchor_millis)
  if (Result.isFailure(recurrence)) return Result.fail(refused(recurrence.failure))
  const next = nextOf(row.id, Recurrence.following(recurrence.success, nowMillis), row.jitter_ms)
  const state = { ...definitionOf(row), ...standing(row, row.jitter_ms), paused: false, next, sameNext: false }
  return Result.succeed({ event: "ScheduleResumed", data: {}, state })
}

const unchanged: Result.Result<Change> = Result.succeed(undefined)

// --- templates

const templateTooLarge = ({ graph, task }: Definition): TooLarge | undefined => {
  const template = task ?? graph
  const bytes = template === null ? 0 : new TextEncoder().encode(JSON.stringify(template)).length
  const limit = Limits.scheduleTemplateBytesMax
  const field = task === null ? "graph" : "task"
  return bytes <= limit
    ? undefined
    : new TooLarge({
        detail: `${field}: has ${bytes} bytes as JSON; the limit is ${limit}`,
        field,
        limit,
        unit: "bytes"
      })
}

/** What would refuse every run: told when the schedule is made, rather than run by run. */
const templateProblems = ({ graph, task }: Definition): ReadonlyArray<InvalidField> => {
  if (task !== null && graph !== null) return [{ field: "graph", message: "must not be given beside task" }]
  if (task !== null) return taskProblems(task, "task")
  return graph === null ? [{ field: "task", message: "is missing; or give graph" }] : graphProblems(graph)
}

const taskProblems = (task: SubmitTask, at: string): ReadonlyArray<InvalidField> => {
  const problems = problemsOf(task, { nowMillis: 0, id: placeholder(0) })
  const nobody = task.type === undefined && task.agent === undefined
  return [...problems, ...(nobody ? [{ field: "type", message: "is missing; or name an agent" }] : [])].map(
    (problem) => ({ ...problem, field: `${at}.${problem.field}` })
  )
}

const graphProblems = (graph: GraphTemplate): ReadonlyArray<InvalidField> => {
  const keys = Object.keys(graph.tasks)
  if (keys.length === 0) return [{ field: "graph.tasks", message: "must name at least one task" }]
  const shape = graphProblemsOf(graph)
  if (shape.length > 0) return shape.map((problem) => ({ ...problem, field: `graph.${problem.field}` }))
  const taskIds = new Map(keys.map((key, index) => [key, placeholder(index + 1)] as const))
  return Object.entries(graph.tasks).flatMap(([key, each]) => {
    const named = toSubmitTask(each, { key, taskIds, labels: graph.labels })
    return Result.isFailure(named)
      ? named.failure.map((problem) => ({ ...problem, field: `graph.${problem.field}` }))
      : taskProblems(named.success, `graph.tasks.${key}`)
  })
}

/** Stands for the id that a task of a template gets when it is submitted. */
const placeholder = (number: number) => TaskId.make(`00000000-0000-7000-8000-${String(number).padStart(12, "0")}`)
