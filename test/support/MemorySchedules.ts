/**
 * The use cases of schedules in memory: enough of their promises for a door to be tested without servers. Permissions are
 * checked as the real ones do, by `authorize`; what is due is computed by the real rules.
 */
import { Effect, Result } from "effect"
import * as Recurrence from "../../actors/Recurrence.ts"
import { ScheduleId, TaskId } from "../../protocol/Ids.ts"
import { Conflict, InvalidInput, ScheduleNotFound } from "../../protocol/Problem.ts"
import type { DueTimes, Schedule } from "../../protocol/Schedule.ts"
import { authorize } from "../../src/app/authorize.ts"
import { Schedules } from "../../src/app/Schedules.ts"

const at = "2026-11-23T10:00:00.000Z"
const uuid = (n: number) => `01900000-0000-7000-9000-${String(n).padStart(12, "0")}`

export const make = () => {
  const known = new Map<string, Schedule>()
  let count = 0

  const find = (ref: string) => {
    const schedule = [...known.values()].find(({ id, name }) => id === ref || name === ref)
    return schedule === undefined ? Effect.fail(new ScheduleNotFound({ schedule: ref })) : Effect.succeed(schedule)
  }
  const change = (ref: string, part: Partial<Schedule>) =>
    Effect.map(find(ref), (schedule) => {
      const changed = { ...schedule, ...part, version: schedule.version + 1 }
      known.set(schedule.id, changed)
      return changed
    })
  const dueTimes = (
    spec: Recurrence.Spec,
    wanted: number | undefined,
    after = Date.parse(at)
  ): Effect.Effect<DueTimes, InvalidInput> => {
    const recurrence = Recurrence.compile(spec, Date.parse(at))
    if (Result.isFailure(recurrence)) {
      const errors = recurrence.failure
      return Effect.fail(new InvalidInput({ detail: errors.map(({ message }) => message).join("; "), errors }))
    }
    const data = Recurrence.upcoming(recurrence.success, after, wanted ?? 5).map((due) => ({
      due: Recurrence.momentOf(due),
      local: Recurrence.localTime(recurrence.success, due)
    }))
    return Effect.succeed({ time_zone: spec.time_zone ?? "UTC", data })
  }

  return Schedules.of({
    create: Effect.fnUntraced(function* ({ paused, ...command }) {
      const { actor, namespace } = yield* authorize("schedule:write", "task:create")
      yield* dueTimes(command, 1)
      if ([...known.values()].some(({ name }) => name === command.name)) {
        return yield* new Conflict({ reason: "name-taken" })
      }
      count += 1
      const schedule: Schedule = {
        cron: null,
        every_ms: null,
        time_zone: "UTC",
        starts_at: null,
        ends_at: null,
        jitter_ms: 0,
        catch_up: "skip",
        overlap: "allow",
        labels: {},
        ...command,
        id: ScheduleId.make(uuid(count)),
        namespace,
        status: paused === true ? "paused" : "active",
        owner: actor,
        next_run_at: paused === true ? null : at,
        last_run_at: null,
        last_outcome: null,
        last_reason: null,
        last_task_id: null,
        last_graph_id: null,
        created_at: at,
        updated_at: at,
        version: 1
      }
      known.set(schedule.id, schedule)
      return schedule
    }),
    get: (ref) => Effect.andThen(authorize("schedule:read"), find(ref)),
    list: () => Effect.as(authorize("schedule:read"), { data: [...known.values()].toReversed(), next_cursor: null }),
    update: Effect.fnUntraced(function* (ref, command, ifVersion) {
      yield* authorize("schedule:write", "task:create")
      const { version } = yield* find(ref)
      if (ifVersion !== undefined && ifVersion !== version) {
        return yield* new Conflict({ reason: "version", current_version: version })
      }
      return yield* change(ref, command)
    }),
    remove: Effect.fnUntraced(function* (ref) {
      yield* authorize("schedule:write")
      const schedule = yield* find(ref)
      known.delete(schedule.id)
      return schedule
    }),
    pause: (ref) => Effect.andThen(authorize("schedule:write"), change(ref, { status: "paused", next_run_at: null })),
    resume: (ref) => Effect.andThen(authorize("schedule:write"), change(ref, { status: "active", next_run_at: at })),
    run: Effect.fnUntraced(function* (ref, key) {
      const { namespace } = yield* authorize("schedule:write", "task:create")
      const { task } = yield* find(ref)
      return {
        task: {
          id: TaskId.make(uuid(9)),
          namespace,
          name: key ?? "no key",
          type: task?.type ?? "echo",
          agent_id: null,
          status: "queued",
          waiting_for: null,
          priority: "normal",
          duplicate: false,
          created_at: at
        }
      }
    }),
    next: Effect.fnUntraced(function* (ref, wanted) {
      yield* authorize("schedule:read")
      return yield* Effect.orDie(dueTimes(yield* find(ref), wanted))
    }),
    preview: ({ after, count: wanted, ...spec }) =>
      Effect.andThen(
        authorize("schedule:read"),
        dueTimes(spec, wanted, after === undefined ? undefined : Date.parse(after))
      ),
    runs: (ref) =>
      Effect.as(Effect.andThen(authorize("schedule:read", "task:read"), find(ref)), { data: [], next_cursor: null })
  })
}
