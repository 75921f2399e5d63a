/**
 * The use cases of schedules: make, change, steer and look at them, run one now, and ask when one runs.
 *
 * Its runs have the rights that whoever wrote it last has when they are due. So writing one needs what its runs need, and a
 * change by somebody else makes it theirs: nobody gets work done with rights that are not their own.
 */
import { Context, Effect, Layer, Result } from "effect"
import * as Recurrence from "../../actors/Recurrence.ts"
import * as ScheduledRun from "../../actors/ScheduledRun.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { type GraphId, ScheduleId, type ScheduleRef, type TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { noMoment, utcMoment } from "../../protocol/Moment.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Permission, Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  type Forbidden,
  InvalidInput,
  invalidField,
  ScheduleNotFound,
  type SubmitProblem,
  type TooLarge,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { ListSchedules, PageQuery } from "../../protocol/Query.ts"
import type {
  CreateSchedule,
  DueTimes,
  Overlap,
  PreviewSchedule,
  Schedule,
  ScheduleRun,
  StartedRun,
  UpdateSchedule
} from "../../protocol/Schedule.ts"
import { currentTraceparent, traceIdOf } from "../../protocol/TraceContext.ts"
import { isAgentId as isId } from "../ledger/AgentRows.ts"
import { decodeCursor, encodeCursor } from "../ledger/Cursor.ts"
import { ScheduleRegistry } from "../ledger/ScheduleRegistry.ts"
import { type ScheduleRow, scheduleOfRow } from "../ledger/ScheduleRows.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"
import * as ScheduleChanges from "./ScheduleChanges.ts"

type Asked<A> = Effect.Effect<A, ScheduleNotFound | Forbidden | Unavailable, Principal>

export class Schedules extends Context.Service<
  Schedules,
  {
    /**
     * `Conflict` (`name-taken`) when the namespace has a schedule of that name; `InvalidInput` when it has as many as it
     * may, or when what would refuse every run is wrong with the template.
     */
    readonly create: (
      command: CreateSchedule
    ) => Effect.Effect<Schedule, Conflict | InvalidInput | TooLarge | Forbidden | Unavailable, Principal>
    readonly get: (ref: ScheduleRef) => Asked<Schedule>
    readonly list: (
      query: ListSchedules
    ) => Effect.Effect<Page<Schedule>, InvalidInput | Forbidden | Unavailable, Principal>
    /** `ifVersion`: change only this version of it, else `Conflict` (`version`). Whoever changes it owns its runs. */
    readonly update: (
      ref: ScheduleRef,
      command: UpdateSchedule,
      ifVersion: number | undefined
    ) => Effect.Effect<
      Schedule,
      ScheduleNotFound | Conflict | InvalidInput | TooLarge | Forbidden | Unavailable,
      Principal
    >
    /** The tasks it made stay. Answers what it was. */
    readonly remove: (ref: ScheduleRef) => Asked<Schedule>
    /** Nothing is due until it is resumed. */
    readonly pause: (ref: ScheduleRef) => Asked<Schedule>
    /** Runs again from its next due time on; `InvalidInput` when its time zone is not known any more. */
    readonly resume: (
      ref: ScheduleRef
    ) => Effect.Effect<Schedule, ScheduleNotFound | InvalidInput | Forbidden | Unavailable, Principal>
    /** Submits its template now, with the caller's rights. The same `key` gives the same answer. */
    readonly run: (
      ref: ScheduleRef,
      key: string | undefined
    ) => Effect.Effect<StartedRun, ScheduleNotFound | SubmitProblem, Principal>
    readonly next: (ref: ScheduleRef, count: number | undefined) => Asked<DueTimes>
    readonly preview: (
      question: PreviewSchedule
    ) => Effect.Effect<DueTimes, InvalidInput | Forbidden | Unavailable, Principal>
    readonly runs: (
      ref: ScheduleRef,
      query: PageQuery
    ) => Effect.Effect<Page<ScheduleRun>, ScheduleNotFound | InvalidInput | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Schedules") {
  static readonly layer = Layer.effect(
    Schedules,
    Effect.gen(function* () {
      const registry = yield* ScheduleRegistry
      const scheduler = yield* Scheduler
      const tasks = yield* TaskReader
      const ids = yield* UuidV7

      const changedBy = Effect.fnUntraced(function* (principal: Principal["Service"]) {
        return { actor: principal.actor, trace: traceIdOf(yield* currentTraceparent) }
      })

      const find = Effect.fnUntraced(function* (principal: Principal["Service"], ref: ScheduleRef) {
        return (yield* registry.get(principal.namespace, ref)) ?? (yield* notFound(ref))
      })

      const create: Schedules["Service"]["create"] = Effect.fn("Schedules.create")(function* (command) {
        const principal = yield* authorize(...toWrite(command.overlap))
        if (isId(command.name)) return yield* invalidField("name", "must not look like the id of a schedule")
        const id = ScheduleId.make(ids.next())
        const nowMillis = yield* registry.now
        const state = yield* Effect.fromResult(
          ScheduleChanges.created(command, { id, owner: principal.actor, nowMillis })
        )
        const { namespace } = principal
        const made = yield* registry.create({ id, namespace, name: command.name, state }, yield* changedBy(principal))
        if (made === "full") return yield* full
        return made === "name-taken" ? yield* nameTaken(command.name) : made
      }, orUnavailable)

      const get: Schedules["Service"]["get"] = Effect.fn("Schedules.get")(function* (ref) {
        return scheduleOfRow(yield* find(yield* authorize("schedule:read"), ref))
      }, orUnavailable)

      const list: Schedules["Service"]["list"] = Effect.fn("Schedules.list")(function* (query) {
        const { namespace } = yield* authorize("schedule:read")
        const { cursor, limit = Limits.pageEntriesDefault, status } = query
        const scope = { list: "schedules", namespace, filters: { status } }
        const before =
          cursor === undefined
            ? undefined
            : ScheduleId.make(yield* Effect.fromResult(decodeCursor(scope, cursor, idPattern)))
        const found = yield* registry.list(namespace, { status, before }, limit + 1)
        const last = found.length > limit ? found[limit - 1] : undefined
        return { data: found.slice(0, limit), next_cursor: last === undefined ? null : encodeCursor(scope, last.id) }
      }, orUnavailable)

      /** Every change goes this way: permission, decision on the locked row, commit. */
      const change = Effect.fnUntraced(function* <E>(
        ref: ScheduleRef,
        needed: ReadonlyArray<Permission>,
        decide: (
          principal: Principal["Service"]
        ) => (row: ScheduleRow, nowMillis: number) => Result.Result<ScheduleChanges.Change, E>
      ) {
        const principal = yield* authorize(...needed)
        const by = yield* changedBy(principal)
        return (yield* registry.change(principal.namespace, ref, by, decide(principal))) ?? (yield* notFound(ref))
      })

      const update: Schedules["Service"]["update"] = Effect.fn("Schedules.update")(function* (ref, command, ifVersion) {
        // Whoever changes it runs it: with the overlap policy that it keeps, if the command gives none.
        const { overlap } = yield* find(yield* authorize(...toWrite(command.overlap)), ref)
        return yield* change(ref, toWrite(command.overlap ?? overlap), ({ actor }) =>
          ScheduleChanges.update(command, { owner: actor, ifVersion })
        )
      }, orUnavailable)

      const pause: Schedules["Service"]["pause"] = Effect.fn("Schedules.pause")(
        (ref) => change(ref, ["schedule:write"], () => ScheduleChanges.pause),
        orUnavailable
      )

      const resume: Schedules["Service"]["resume"] = Effect.fn("Schedules.resume")(
        (ref) => change(ref, ["schedule:write"], () => ScheduleChanges.resume),
        orUnavailable
      )

      const remove: Schedules["Service"]["remove"] = Effect.fn("Schedules.remove")(function* (ref) {
        const principal = yield* authorize("schedule:write")
        const by = yield* changedBy(principal)
        return (yield* registry.remove(principal.namespace, ref, by)) ?? (yield* notFound(ref))
      }, orUnavailable)

      const run: Schedules["Service"]["run"] = Effect.fn("Schedules.run")(function* (ref, key) {
        const principal = yield* authorize("schedule:write", "task:create")
        const { graph, id, task } = yield* find(principal, ref)
        const command = ScheduledRun.askedFor({ id, task: task ?? undefined, graph: graph ?? undefined }, key)
        if (command.task === undefined) {
          const accepted = yield* scheduler.submitGraph(command.graph)
          if (!accepted.duplicate) yield* record(id, { taskId: undefined, graphId: accepted.id }, principal)
          // The first answer again, tasks and all.
          const all = accepted.duplicate ? yield* tasks.graphTasks(principal.namespace, accepted.id) : accepted.tasks
          return { graph: { ...accepted, tasks: all } }
        }
        const [outcome] = yield* scheduler.submit([command.task])
        if (outcome === undefined) return yield* Effect.die(new Error("the scheduler left a command unanswered"))
        const accepted = yield* Effect.fromResult(outcome)
        if (!accepted.duplicate) yield* record(id, { taskId: accepted.id, graphId: undefined }, principal)
        return { task: accepted }
      }, orUnavailable)

      /** The work is accepted already: an outage now must not tell its caller otherwise. */
      const record = Effect.fnUntraced(function* (
        id: ScheduleId,
        made: { readonly taskId: TaskId | undefined; readonly graphId: GraphId | undefined },
        principal: Principal["Service"]
      ) {
        yield* Effect.catch(registry.recordRun(id, made, yield* changedBy(principal)), (error) =>
          Effect.logWarning("a run of a schedule that was asked for is missing in its list", error)
        )
      })

      const next: Schedules["Service"]["next"] = Effect.fn("Schedules.next")(function* (ref, count) {
        const row = yield* find(yield* authorize("schedule:read"), ref)
        const recurrence = Recurrence.compile(row, row.anchor_millis)
        if (Result.isFailure(recurrence)) return { time_zone: row.time_zone, data: [] }
        // A due time that has come and is not settled is still ahead.
        const after = row.due_millis === null ? yield* registry.now : row.due_millis - 1
        return dueTimes(recurrence.success, after, count)
      }, orUnavailable)

      const preview: Schedules["Service"]["preview"] = Effect.fn("Schedules.preview")(function* (question) {
        yield* authorize("schedule:read")
        const nowMillis = yield* registry.now
        const after = question.after === undefined ? undefined : utcMoment(question.after)
        if (question.after !== undefined && after === undefined) return yield* invalidField("after", noMoment)
        const recurrence = yield* Effect.mapError(
          Effect.fromResult(Recurrence.compile(question, nowMillis)),
          (errors) =>
            new InvalidInput({ detail: errors.map(({ field, message }) => `${field}: ${message}`).join("; "), errors })
        )
        return dueTimes(recurrence, after === undefined ? nowMillis : Date.parse(after), question.count)
      }, orUnavailable)

      const runs: Schedules["Service"]["runs"] = Effect.fn("Schedules.runs")(function* (ref, query) {
        const principal = yield* authorize("schedule:read", "task:read")
        const { id } = yield* find(principal, ref)
        const { cursor, limit = Limits.pageEntriesDefault } = query
        const scope = { list: "runs", namespace: principal.namespace, filters: { schedule: id } }
        const before =
          cursor === undefined ? undefined : yield* Effect.fromResult(decodeCursor(scope, cursor, numberPattern))
        const found = yield* registry.runs(id, before === undefined ? undefined : Number(before), limit + 1)
        const last = found.length > limit ? found[limit - 1] : undefined
        return {
          data: found.slice(0, limit).map(({ number: _number, ...shown }) => shown),
          next_cursor: last === undefined ? null : encodeCursor(scope, String(last.number))
        }
      }, orUnavailable)

      return Schedules.of({ create, get, list, update, remove, pause, resume, run, next, preview, runs })
    })
  )
}

/** What writing a schedule needs: what its runs need. */
const toWrite = (overlap: Overlap | undefined): ReadonlyArray<Permission> =>
  overlap === "cancel_previous" ? ["schedule:write", "task:create", "task:cancel"] : ["schedule:write", "task:create"]

const dueTimes = (recurrence: Recurrence.Recurrence, afterMillis: number, count: number | undefined): DueTimes => ({
  time_zone: recurrence.timeZone,
  data: Recurrence.upcoming(recurrence, afterMillis, count ?? Limits.schedulePreviewDefault).map((due) => ({
    due: Recurrence.momentOf(due),
    local: Recurrence.localTime(recurrence, due)
  }))
})

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u
const numberPattern = /^[0-9]{1,9}$/u

const notFound = (ref: ScheduleRef) =>
  Effect.fail(new ScheduleNotFound({ schedule: ref, detail: `There is no schedule "${ref}" in this namespace.` }))

const nameTaken = (name: string) =>
  Effect.fail(new Conflict({ detail: `This namespace has a schedule "${name}" already.`, reason: "name-taken" }))

const full = Effect.fail(
  invalidField(
    "",
    `this namespace has ${Limits.schedulesMax} schedules, which is the most it may have`,
    Limits.schedulesMax
  )
)
