/** Schedules as their owners steer them, and as the timekeeper fires them, on real Postgres with the real ledger. */
import { expect, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { SchedulerLimits } from "../../actors/AcceptQueue.ts"
import { ScheduleStore } from "../../actors/ports/ScheduleStore.ts"
import { Timekeeper } from "../../actors/Timekeeper.ts"
import * as Limits from "../../protocol/Limits.ts"
import { CreateSchedule, Schedule, UpdateSchedule } from "../../protocol/Schedule.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { Schedules } from "../../src/app/Schedules.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { admin, as, principal, stranger } from "./as.ts"
import { layer as cases, echoAgent } from "./Cases.ts"

const definition = Schema.decodeUnknownSync(CreateSchedule)
const change = Schema.decodeUnknownSync(UpdateSchedule)

const task = { type: "echo", payload: { hello: "world" }, metadata: { mine: 1 } }
const yearly = { cron: "@yearly", task }

const create = (name: string, over: object = yearly) =>
  Effect.flatMap(Schedules, (schedules) => schedules.create(definition({ name, ...over })))

/** Somebody with a real key, so that the timekeeper finds the owner again. */
const keyed = Effect.fnUntraced(function* (role: "admin" | "api_user" | "operator" = "operator") {
  const keys = yield* ApiKeys
  const made = yield* keys.create({ name: "owner", role }).pipe(as(admin))
  return principal(role, { actor: `key:${made.id}` })
})

/** Puts the schedule's due time back to `secondsAgo`, as if nobody had looked since. */
const overdue = Effect.fnUntraced(function* (id: string, secondsAgo: number) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly due: Date }>`
    update schedules set due_at = date_trunc('second', now()) - ${secondsAgo} * interval '1 second',
      starts_next_at = date_trunc('second', now()) - ${secondsAgo} * interval '1 second'
    where id = ${id} returning due_at as due
  `
  return row?.due.toISOString() ?? ""
})

const sweep = Effect.flatMap(Timekeeper, (timekeeper) => timekeeper.sweep)

const eventsOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly number: number; readonly type: string; readonly actor: string; readonly data: any }>`
    select number, type, actor, data from events where aggregate = ${id} order by number
  `
})

const tasksOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly id: string; readonly status: string; readonly metadata: any; readonly actor: string }>`
    select id, status, metadata, actor from tasks where metadata ->> 'schedule_id' = ${id} order by id
  `
})

const runsOf = (ref: string) =>
  Effect.flatMap(Schedules, (schedules) => Effect.map(schedules.runs(ref, {}), ({ data }) => data))

const keeping = Timekeeper.layer.pipe(Layer.provideMerge(cases))

layer(keeping, { excludeTestServices: true, timeout: "60 seconds" })("a schedule", (it) => {
  it.effect("is made with what is left unsaid filled in, and found by name and id", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const made = yield* create("first", { ...yearly, time_zone: "Asia/Kolkata", labels: { a: "b" } })
      expect(Schema.decodeUnknownSync(Schedule)(made, { onExcessProperty: "error" })).toEqual(made)
      expect(made).toMatchObject({
        status: "active",
        time_zone: "Asia/Kolkata",
        catch_up: "skip",
        overlap: "allow",
        jitter_ms: 0,
        version: 1,
        owner: admin.actor,
        last_run_at: null
      })
      expect(made.next_run_at).toMatch(/-12-31T18:30:00\.000Z$/u)
      expect(yield* schedules.get("first")).toEqual(made)
      expect(yield* schedules.get(made.id)).toEqual(made)
      expect(yield* eventsOf(made.id)).toMatchObject([{ number: 1, type: "ScheduleCreated", actor: admin.actor }])
    }).pipe(as(admin))
  )

  it.effect.each([
    [{ cron: "61 * * * *", task }, ["cron"]],
    [{ cron: "0 0 31 2 *", task }, ["cron"]],
    [{ cron: "@daily", every_ms: 1000, task }, ["every_ms"]],
    [{ task }, ["cron"]],
    [{ cron: "@daily" }, ["task"]],
    [{ cron: "@daily", task, graph: { tasks: { a: { type: "echo" } } } }, ["graph"]],
    [{ cron: "@daily", time_zone: "Mars/Olympus", task: {} }, ["time_zone", "task.type"]],
    [{ cron: "@daily", task: { type: "echo", payload: { $result: "x" } } }, ["task.payload"]],
    [{ cron: "@daily", graph: { tasks: {} } }, ["graph.tasks"]],
    [
      { cron: "@daily", graph: { tasks: { a: { type: "echo", dependencies: ["b"] } } } },
      ["graph.tasks.a.dependencies"]
    ],
    [{ cron: "@daily", graph: { tasks: { a: { priority: "low" } } } }, ["graph.tasks.a.type"]],
    [{ cron: "@daily", ends_at: "2020-01-01T00:00:00Z", task }, ["ends_at"]]
  ] as const)("is refused when something in it would refuse every run: %j", ([over, fields]) =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip(create("refused", over))
      expect(refused).toMatchObject({ _tag: "InvalidInput", errors: fields.map((field) => ({ field })) })
      expect(yield* Effect.flip(Effect.flatMap(Schedules, (all) => all.get("refused")))).toMatchObject({
        _tag: "ScheduleNotFound"
      })
    }).pipe(as(admin))
  )

  it.effect("is refused when its template is too large, its name taken, or its namespace full", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const payload = "x".repeat(Limits.scheduleTemplateBytesMax)
      expect(yield* Effect.flip(create("large", { cron: "@daily", task: { type: "echo", payload } }))).toMatchObject({
        _tag: "TooLarge",
        field: "task",
        limit: Limits.scheduleTemplateBytesMax
      })
      yield* create("taken")
      expect(yield* Effect.flip(create("taken"))).toMatchObject({ _tag: "Conflict", reason: "name-taken" })
      yield* sql`insert into namespaces (name) values ('full')`
      yield* sql`
        insert into schedules (id, namespace, name, cron, time_zone, anchor_at, jitter_ms, catch_up, overlap, task, owner)
        select gen_random_uuid(), 'full', 's' || n, '@daily', 'UTC', now(), 0, 'skip', 'allow', '{}', 'key:x'
        from generate_series(1, ${Limits.schedulesMax}) n
      `
      const full = principal("admin", { namespace: "full" })
      expect(yield* create("more").pipe(as(full), Effect.flip)).toMatchObject({
        _tag: "InvalidInput",
        errors: [{ limit: Limits.schedulesMax }]
      })
    }).pipe(as(admin))
  )

  it.effect("is seen and steered within its namespace only, and by those who may", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const { id } = yield* create("walled").pipe(as(admin))
      for (const attempt of [
        Effect.asVoid(schedules.get(id)),
        Effect.asVoid(schedules.pause(id)),
        Effect.asVoid(schedules.remove("walled")),
        Effect.asVoid(schedules.run("walled", undefined)),
        Effect.asVoid(schedules.next(id, 1)),
        Effect.asVoid(schedules.runs(id, {}))
      ]) {
        expect(yield* attempt.pipe(as(stranger), Effect.flip)).toMatchObject({ _tag: "ScheduleNotFound" })
      }
      const viewer = principal("viewer")
      expect((yield* schedules.get(id).pipe(as(viewer))).id).toBe(id)
      expect(yield* create("no").pipe(as(viewer), Effect.flip)).toMatchObject({ permission: "schedule:write" })
      expect(yield* schedules.pause(id).pipe(as(viewer), Effect.flip)).toMatchObject({ permission: "schedule:write" })
      expect(yield* schedules.get(id).pipe(as(principal("agent")), Effect.flip)).toMatchObject({
        permission: "schedule:read"
      })
      // Nobody gets work done by a schedule that they could not submit themselves, nor tasks cancelled.
      const writer = principal("operator", { permissions: ["schedule:read", "schedule:write"] })
      expect(yield* create("no").pipe(as(writer), Effect.flip)).toMatchObject({ permission: "task:create" })
      expect(yield* schedules.run(id, undefined).pipe(as(writer), Effect.flip)).toMatchObject({
        permission: "task:create"
      })
      const submitter = principal("operator", { permissions: ["schedule:write", "task:create"] })
      expect(
        yield* create("no", { ...yearly, overlap: "cancel_previous" }).pipe(as(submitter), Effect.flip)
      ).toMatchObject({ permission: "task:cancel" })
    })
  )

  it.effect("changes in the version that was read, belongs to who changed it, and keeps its pace unless told", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const first = yield* create("changing", { every_ms: 3_600_000, task })
      const second = yield* schedules
        .update("changing", change({ description: "two", labels: { x: "y" }, jitter_ms: 1000 }), 1)
        .pipe(as(principal("operator")))
      expect(second).toMatchObject({ version: 2, description: "two", owner: "key:operator", every_ms: 3_600_000 })
      expect(second.next_run_at).toBe(first.next_run_at)
      expect(yield* Effect.flip(schedules.update("changing", change({ description: "no" }), 1))).toMatchObject({
        _tag: "Conflict",
        reason: "version",
        current_version: 2
      })
      const third = yield* schedules.update(
        "changing",
        change({ cron: "@yearly", time_zone: "Asia/Kolkata" }),
        undefined
      )
      expect(third).toMatchObject({ version: 3, cron: "@yearly", every_ms: null, task })
      expect(third.next_run_at).toMatch(/-12-31T18:30:00\.000Z$/u)
      const graph = { tasks: { a: { type: "echo" }, b: { type: "echo", dependencies: ["a"] } } }
      const fourth = yield* schedules.update("changing", change({ graph }), undefined)
      expect(fourth).toMatchObject({ graph })
      expect(fourth.task).toBeUndefined()
      expect(yield* schedules.update("changing", change({}), undefined)).toEqual(fourth)
      expect(
        yield* Effect.flip(schedules.update("changing", change({ time_zone: "No/Where" }), undefined))
      ).toMatchObject({ errors: [{ field: "time_zone" }] })
      expect((yield* eventsOf(first.id)).map(({ type }) => type)).toEqual([
        "ScheduleCreated",
        ...Array.from({ length: 3 }, () => "ScheduleUpdated")
      ])
    }).pipe(as(admin))
  )

  it.effect("pauses and resumes, lists by status, and goes", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const lister = principal("admin", { namespace: "lister" })
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into namespaces (name) values ('lister')`
      const made = yield* Effect.forEach(["a", "b", "c"], (name) => create(name)).pipe(as(lister))
      const paused = yield* schedules.pause("b").pipe(as(lister))
      expect(paused).toMatchObject({ status: "paused", next_run_at: null, version: 2 })
      expect(yield* schedules.pause("b").pipe(as(lister))).toEqual(paused)
      const names = (query: object) =>
        schedules.list(query).pipe(
          as(lister),
          Effect.map(({ data }) => data.map(({ name }) => name))
        )
      expect(yield* names({})).toEqual(["c", "b", "a"])
      expect(yield* names({ status: "paused" })).toEqual(["b"])
      expect(yield* names({ status: "active" })).toEqual(["c", "a"])
      const page = yield* schedules.list({ limit: 2 }).pipe(as(lister))
      expect(yield* names({ limit: 2, cursor: page.next_cursor })).toEqual(["a"])
      expect((yield* schedules.next("b", 2).pipe(as(lister))).data).toHaveLength(2)
      expect(yield* schedules.resume("b").pipe(as(lister))).toMatchObject({
        status: "active",
        next_run_at: made[1]?.next_run_at,
        version: 3
      })
      expect(yield* schedules.remove("b").pipe(as(lister))).toMatchObject({ name: "b" })
      expect(yield* names({})).toEqual(["c", "a"])
      expect((yield* eventsOf(made[1]?.id ?? "")).map(({ number, type }) => [number, type])).toEqual([
        [1, "ScheduleCreated"],
        [2, "SchedulePaused"],
        [3, "ScheduleResumed"],
        [4, "ScheduleDeleted"]
      ])
    })
  )

  it.effect("is previewed without being stored", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const question = { cron: "30 2 * * *", time_zone: "Europe/Berlin", after: "2026-03-28T12:00:00Z", count: 2 }
      expect(yield* schedules.preview(question)).toEqual({
        time_zone: "Europe/Berlin",
        data: [
          { due: "2026-03-29T01:00:00.000Z", local: "2026-03-29T03:00:00.000+02:00" },
          { due: "2026-03-30T00:30:00.000Z", local: "2026-03-30T02:30:00.000+02:00" }
        ]
      })
      expect((yield* schedules.preview({ every_ms: 1000 })).data).toHaveLength(Limits.schedulePreviewDefault)
      expect(yield* Effect.flip(schedules.preview({ cron: "x" }))).toMatchObject({ errors: [{ field: "cron" }] })
      expect(yield* Effect.flip(schedules.preview({ ...question, after: "2026-02-30T00:00:00Z" }))).toMatchObject({
        errors: [{ field: "after" }]
      })
    }).pipe(as(admin))
  )

  it.effect("runs when somebody asks, once per key, with the rights of who asked", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const { id } = yield* create("asked", { ...yearly, paused: true }).pipe(as(admin))
      const user = principal("api_user")
      const one = yield* schedules.run("asked", "k1").pipe(as(user))
      expect(one.task).toMatchObject({ type: "echo", duplicate: false })
      expect((yield* schedules.run("asked", "k1").pipe(as(user))).task).toMatchObject({
        id: one.task?.id,
        duplicate: true
      })
      expect(yield* tasksOf(id)).toMatchObject([
        { id: one.task?.id, actor: user.actor, metadata: { mine: 1, schedule_id: id } }
      ])
      const listed = (filter: object) =>
        Effect.flatMap(Tasks, (tasks) =>
          Effect.map(tasks.list({ limit: 10, ...filter }).pipe(as(user)), ({ data }) => data.map((each) => each.id))
        )
      const two = yield* schedules.run("asked", "k2").pipe(as(user))
      expect(yield* listed({ schedule: "asked" })).toEqual([two.task?.id, one.task?.id])
      expect(yield* listed({ schedule: id, status: ["pending"] })).toEqual([two.task?.id, one.task?.id])
      expect(yield* listed({ schedule: id, status: ["failed"] })).toEqual([])
      expect(yield* listed({ schedule: "another" })).toEqual([])
      const theirs = (yield* Tasks).list({ schedule: id }).pipe(as(stranger))
      expect((yield* theirs).data).toEqual([])
      expect(yield* runsOf("asked").pipe(as(user))).toMatchObject([
        { task_id: two.task?.id },
        { due: null, outcome: "fired", task_id: one.task?.id, task_status: "pending" }
      ])
      expect(yield* schedules.get("asked").pipe(as(user))).toMatchObject({ version: 1, last_task_id: null })
    })
  )
})

layer(keeping, { excludeTestServices: true, timeout: "60 seconds" })("a due time", (it) => {
  it.effect("is submitted for its owner, recorded, and followed by the next", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const owner = yield* keyed()
      const agent = yield* echoAgent("worker").pipe(as(admin))
      const { id } = yield* create("plain", { ...yearly, task: { ...task, agent: "worker" } }).pipe(as(owner))
      const due = yield* overdue(id, 1)
      expect(yield* sweep).toBe(1)
      expect(yield* sweep).toBe(0)
      const [made] = yield* tasksOf(id)
      expect(made).toMatchObject({
        status: "queued",
        actor: owner.actor,
        metadata: { mine: 1, schedule_id: id, scheduled_for: due }
      })
      const submitted = yield* (yield* Tasks).list({ schedule: "plain" }).pipe(as(owner))
      expect(submitted.data.map((each) => each.id)).toEqual([made?.id])
      const after = yield* schedules.get(id).pipe(as(owner))
      expect(after).toMatchObject({
        last_run_at: due,
        last_outcome: "fired",
        last_task_id: made?.id,
        version: 1,
        status: "active"
      })
      expect(after.next_run_at).toMatch(/-01-01T00:00:00\.000Z$/u)
      const tasks = yield* Tasks
      expect(yield* tasks.get(after.last_task_id ?? (agent.id as never)).pipe(as(owner))).toMatchObject({
        agent_id: agent.id,
        payload: task.payload
      })
      expect(yield* runsOf("plain").pipe(as(owner))).toMatchObject([
        { due, outcome: "fired", task_id: made?.id, task_status: "queued" }
      ])
      expect(yield* eventsOf(id)).toMatchObject([
        { number: 1 },
        { number: 2, type: "ScheduleFired", actor: "node:solo", data: { due, task_id: made?.id } }
      ])
    })
  )

  it.effect("of a graph submits all of it, marked", () =>
    Effect.gen(function* () {
      const owner = yield* keyed()
      const graph = { name: "two", tasks: { a: { type: "echo" }, b: { type: "echo", dependencies: ["a"] } } }
      const { id } = yield* create("graphs", { cron: "@yearly", graph }).pipe(as(owner))
      yield* overdue(id, 1)
      yield* sweep
      expect(yield* tasksOf(id)).toHaveLength(2)
      const schedule = yield* Effect.flatMap(Schedules, (all) => all.get(id)).pipe(as(owner))
      const tasks = yield* Tasks
      expect(schedule).toMatchObject({ last_outcome: "fired", last_task_id: null })
      expect(yield* tasks.graph(schedule.last_graph_id as never).pipe(as(owner))).toMatchObject({ name: "two" })
    })
  )

  it.effect("is one task when whoever fired it died before settling, whatever changed since", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const schedules = yield* Schedules
      const store = yield* ScheduleStore
      const owner = yield* keyed()
      const { id } = yield* create("crashed", { ...yearly, catch_up: "all" }).pipe(as(owner))
      const due = yield* overdue(id, 2)
      // Between COMMIT of the submission and here the node dies: it settles nothing.
      yield* sql.unsafe(`create function dies() returns trigger language plpgsql as $$
        begin raise exception 'the node has gone' using errcode = '57P01'; end $$`)
      yield* sql`create trigger dies before update of last_outcome on schedules for each row execute function dies()`
      yield* sweep
      yield* sql`drop trigger dies on schedules`
      expect(yield* tasksOf(id)).toHaveLength(1)
      expect(yield* schedules.get(id).pipe(as(owner))).toMatchObject({ next_run_at: due, last_run_at: null })
      yield* schedules.update(id, change({ task: { type: "other" } }), undefined).pipe(as(owner))
      // Two come to repair it at once.
      yield* Effect.all([sweep, sweep], { concurrency: 2 })
      const [made, ...more] = yield* tasksOf(id)
      expect(more).toEqual([])
      expect(yield* schedules.get(id).pipe(as(owner))).toMatchObject({
        last_run_at: due,
        last_outcome: "fired",
        last_task_id: made?.id
      })
      const fired = (yield* eventsOf(id)).filter(({ type }) => type === "ScheduleFired")
      expect(fired).toMatchObject([{ data: { due, task_id: made?.id } }])
      // Whoever comes late changes nothing.
      const late = { id, dueMillis: Date.parse(due) }
      expect(yield* store.settle(late, { _tag: "Skipped", reason: "late" }, undefined)).toBe(false)
    })
  )

  it.effect("is fired once by several timekeepers at a time, and events have no gaps", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const owner = yield* keyed()
      const made = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => `many-${index}`),
        (name) => create(name).pipe(as(owner))
      )
      yield* Effect.forEach(made, ({ id }) => overdue(id, 1), { discard: true })
      yield* Effect.all([sweep, sweep, sweep, sweep], { concurrency: 4 })
      for (const { id } of made) {
        expect(yield* tasksOf(id)).toHaveLength(1)
        expect((yield* eventsOf(id)).map(({ number }) => number)).toEqual([1, 2])
      }
      const [ids] = yield* sql<{ readonly gaps: number }>`
        select count(*)::int as gaps from schedules s
        where s.event_number <> (select max(e.number) from events e where e.aggregate = s.id)
      `
      expect(ids?.gaps).toBe(0)
    })
  )

  it.effect("that was begun longer ago than its key is remembered is not submitted again", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const schedules = yield* Schedules
      const owner = yield* keyed()
      const { id } = yield* create("forgotten", { ...yearly, catch_up: "all" }).pipe(as(owner))
      yield* overdue(id, 4 * 86_400)
      yield* sql`update schedules set attempted_at = now() - interval '4 days' where id = ${id}`
      yield* sweep
      expect(yield* tasksOf(id)).toEqual([])
      expect(yield* schedules.get(id).pipe(as(owner))).toMatchObject({ last_outcome: "skipped", status: "active" })
    })
  )

  it.effect("that was missed is left out, made up once, or made up with others, as its policy says", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const owner = yield* keyed()
      const made = yield* Effect.forEach(["skip", "one", "all"] as const, (catch_up) =>
        create(`catch-${catch_up}`, { every_ms: 600_000, catch_up, task, starts_at: "2020-01-01T00:00:00Z" }).pipe(
          as(owner)
        )
      )
      const sql = yield* SqlClient.SqlClient
      // Down for the six due times before now, and a second of the seventh.
      yield* sql`
        update schedules set due_at = due_at - interval '60 minutes', starts_next_at = starts_next_at - interval '60 minutes'
        where name like 'catch-%'
      `
      for (let round = 0; round < 10 && (yield* sweep) > 0; round++);
      const counts = yield* Effect.forEach(made, ({ id }) => Effect.map(tasksOf(id), ({ length }) => length))
      // The last of the six may lie within the grace, if the test runs just after a full ten minutes.
      expect(counts[0]).toBeLessThanOrEqual(1)
      expect(counts[1]).toBeGreaterThanOrEqual(1)
      expect(counts[1]).toBeLessThanOrEqual(2)
      expect(counts[2]).toBe(6)
      const runs = yield* runsOf("catch-skip").pipe(as(owner))
      expect(runs.at(-1)).toMatchObject({ outcome: "skipped", reason: "missed by more than the grace", task_id: null })
      for (const { id, next_run_at } of made) {
        expect(yield* schedules.get(id).pipe(as(owner))).toMatchObject({ next_run_at })
      }
    })
  )

  it.effect("that meets an unfinished run starts beside it, is skipped, or takes its place", () =>
    Effect.gen(function* () {
      const owner = yield* keyed()
      const outcomes: Array<unknown> = []
      for (const overlap of ["allow", "skip", "cancel_previous"] as const) {
        const { id } = yield* create(`overlap-${overlap}`, {
          every_ms: 1000,
          task: { type: "nobody.does" },
          overlap,
          catch_up: "all"
        }).pipe(as(owner))
        yield* overdue(id, 30)
        yield* sweep
        yield* Effect.flatMap(Schedules, (all) => all.pause(id)).pipe(as(owner))
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          update schedules set paused = false, due_at = last_due_at + interval '1 second', starts_next_at = now()
          where id = ${id}
        `
        yield* sweep
        yield* Effect.flatMap(Schedules, (all) => all.pause(id)).pipe(as(owner))
        const runs = yield* runsOf(`overlap-${overlap}`).pipe(as(owner))
        outcomes.push([
          (yield* tasksOf(id)).map(({ status }) => status),
          runs.map(({ outcome, reason }) => [outcome, reason])
        ])
      }
      expect(outcomes).toEqual([
        [
          ["pending", "pending"],
          [
            ["fired", null],
            ["fired", null]
          ]
        ],
        [
          ["pending"],
          [
            ["skipped", "the run before it has not ended"],
            ["fired", null]
          ]
        ],
        [
          ["cancelled", "pending"],
          [
            ["fired", null],
            ["fired", null]
          ]
        ]
      ])
    })
  )

  it.effect("whose task finds its unique key held is skipped by name, or is the task that holds it", () =>
    Effect.gen(function* () {
      const owner = yield* keyed()
      const runs = yield* Effect.forEach(["refuse", "existing"] as const, (on_conflict) =>
        Effect.gen(function* () {
          const template = { type: "nobody.does", unique: { key: `schedule-${on_conflict}`, on_conflict } }
          const { id } = yield* create(`unique-${on_conflict}`, {
            every_ms: 1000,
            task: template,
            catch_up: "all"
          }).pipe(as(owner))
          yield* overdue(id, 30)
          yield* sweep
          yield* Effect.flatMap(Schedules, (all) => all.pause(id)).pipe(as(owner))
          const sql = yield* SqlClient.SqlClient
          yield* sql`
            update schedules set paused = false, due_at = last_due_at + interval '1 second', starts_next_at = now()
            where id = ${id}
          `
          yield* sweep
          yield* Effect.flatMap(Schedules, (all) => all.pause(id)).pipe(as(owner))
          const [held] = yield* tasksOf(id)
          const all = yield* runsOf(`unique-${on_conflict}`).pipe(as(owner))
          return all.map(({ outcome, reason, task_id }) => [
            outcome,
            reason?.includes(held?.id ?? "?") === true,
            task_id === held?.id
          ])
        })
      )
      expect(runs).toEqual([
        [
          ["skipped", true, false],
          ["fired", false, true]
        ],
        [
          ["fired", false, true],
          ["fired", false, true]
        ]
      ])
    })
  )

  it.effect("of an owner without rights, or of a task that is refused, is recorded as refused", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const keys = yield* ApiKeys
      const owner = yield* keyed()
      const gone = yield* create("gone", { ...yearly, task: { ...task, agent: "not-there" } }).pipe(as(owner))
      yield* overdue(gone.id, 1)
      yield* sweep
      const refused = yield* schedules.get(gone.id).pipe(as(owner))
      expect(refused).toMatchObject({ last_outcome: "refused", last_task_id: null, status: "active" })
      expect(refused.last_reason).toContain("not-there")

      const { id } = yield* create("revoked").pipe(as(owner))
      yield* keys.revoke(owner.actor.slice("key:".length) as never).pipe(as(admin))
      yield* overdue(id, 1)
      yield* sweep
      expect(yield* tasksOf(id)).toEqual([])
      const after = yield* schedules.get(id).pipe(as(admin))
      expect(after).toMatchObject({ last_outcome: "refused" })
      expect(after.last_reason).toContain(owner.actor)
      // Taken over by whoever changes it.
      const heir = yield* keyed("api_user")
      yield* schedules.update(id, change({ description: "mine now" }), undefined).pipe(as(heir))
      yield* overdue(id, 0)
      yield* sweep
      expect(yield* tasksOf(id)).toMatchObject([{ actor: heir.actor }])
    })
  )

  it.effect("beyond the end is none: the schedule has ended, and may be changed to go on", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const owner = yield* keyed()
      const { id } = yield* create("ending", { ...yearly, ends_at: "2999-01-01T00:00:00Z" }).pipe(as(owner))
      const sql = yield* SqlClient.SqlClient
      yield* sql`update schedules set ends_at = now() + interval '1 second' where id = ${id}`
      yield* overdue(id, 1)
      yield* sweep
      expect(yield* schedules.get(id).pipe(as(owner))).toMatchObject({ status: "ended", next_run_at: null })
      expect(yield* schedules.update(id, change({ description: "over" }), undefined).pipe(as(owner))).toMatchObject({
        status: "ended"
      })
      expect(yield* schedules.update(id, change({ ends_at: null }), undefined).pipe(as(owner))).toMatchObject({
        status: "active",
        ends_at: null
      })
    })
  )

  it.effect("waits for its jitter, and for nothing else", () =>
    Effect.gen(function* () {
      const owner = yield* keyed()
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* create("jittery", { every_ms: 3_600_000, jitter_ms: 3_000_000, task }).pipe(as(owner))
      const [row] = yield* sql<{ readonly late: number }>`
        select extract(epoch from starts_next_at - due_at)::float8 as late from schedules where id = ${id}
      `
      expect(row?.late).toBeGreaterThan(0)
      expect(row?.late).toBeLessThanOrEqual(3000)
      yield* sql`update schedules set due_at = date_trunc('second', now()) where id = ${id}`
      yield* sweep
      expect(yield* tasksOf(id)).toEqual([])
    })
  )
})

/** Nothing can be accepted: the mailbox is full. */
const overloaded = keeping.pipe(
  Layer.provide(Layer.succeed(SchedulerLimits, { ...SchedulerLimits.defaultValue(), mailboxTasks: 0 }))
)

layer(overloaded, { excludeTestServices: true, timeout: "60 seconds" })("while nothing is accepted", (it) => {
  it.effect("a due time stays due, and nothing is said to have become of it", () =>
    Effect.gen(function* () {
      const schedules = yield* Schedules
      const owner = yield* keyed()
      const { id } = yield* create("waiting").pipe(as(owner))
      const due = yield* overdue(id, 1)
      expect([yield* sweep, yield* sweep]).toEqual([0, 0])
      expect(yield* schedules.get(id).pipe(as(owner))).toMatchObject({ next_run_at: due, last_run_at: null })
      expect(yield* tasksOf(id)).toEqual([])
      expect((yield* eventsOf(id)).map(({ type }) => type)).toEqual(["ScheduleCreated"])
    })
  )
})
