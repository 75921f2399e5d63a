/** Signals, approvals and setting aside, on a running node with real Postgres. */
import { expect, layer } from "@effect/vitest"
import { DateTime, Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { CreateAgent } from "../../protocol/Agent.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { rolePermissions } from "../../protocol/Permission.ts"
import { isTerminal, type Task } from "../../protocol/Task.ts"
import { Agents } from "../../src/app/Agents.ts"
import { Signals } from "../../src/app/Signals.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { until } from "../actors/ActorHarness.ts"
import { admin, as, principal, stranger } from "./as.ts"
import { echoAgent, running, submitGraph, submitTask } from "./Cases.ts"

const createAgent = Schema.decodeUnknownSync(CreateAgent)

const begin = Effect.fnUntraced(function* (payload: Schema.Json, over: object = {}) {
  return (yield* (yield* Tasks).submit(submitTask({ agent: "talker", payload, ...over }))).id
})
const send = (id: TaskId, name: string, payload: Schema.Json = null, idempotencyKey?: string) =>
  Effect.flatMap(Signals, (signals) => signals.send(id, { name, payload, idempotencyKey }))
const get = (id: TaskId) => Effect.flatMap(Tasks, (tasks) => tasks.get(id))
const inState = (id: TaskId, wanted: (task: Task) => boolean) => until(get(id), wanted)
const parked = (id: TaskId) =>
  inState(id, ({ status, waiting_for: waits }) => status === "paused" && waits === "signal")
const ended = (id: TaskId) => inState(id, ({ status }) => isTerminal(status))
const types = (id: TaskId) =>
  Effect.flatMap(Tasks, (tasks) =>
    Effect.map(tasks.events(id, { after: 0, limit: 500 }), (events) => events.map(({ type }) => type))
  )
const inMillis = (millis: number) =>
  Effect.map(DateTime.now, (now) => DateTime.formatIso(DateTime.add(now, { milliseconds: millis })))
/** An agent for this file; a second call finds it. */
const talker = Effect.ignore(echoAgent("talker", { configuration: { max_concurrent_tasks: 50 } }))

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a signal", (it) => {
  it.effect("that comes before it is awaited is kept, and taken when it is", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({ sleep_ms: 300, await: [{ signal: "go" }] })
      expect(yield* send(id, "go", { n: 1 })).toMatchObject({ number: 1, duplicate: false })
      const task = yield* ended(id)
      expect(task.result?.data).toMatchObject({ signals: [{ n: 1 }] })
      expect(task.attempt).toBe(1)
      const { data } = yield* (yield* Signals).list(id)
      expect(data).toMatchObject([{ number: 1, name: "go", payload: { n: 1 }, actor: "key:admin", taken: true }])
    }).pipe(as(admin))
  )

  it.effect("wakes an await that holds its slot without waiting for its next look", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({ await: [{ signal: "go" }] })
      yield* until(
        Effect.flatMap(Signals, (signals) => signals.list(id)),
        ({ awaiting }) => awaiting.length === 1
      )
      const begun = performance.now()
      yield* send(id, "go", "now")
      yield* ended(id)
      expect(performance.now() - begun).toBeLessThan(3_000)
      expect(yield* types(id)).not.toContain("TaskPaused")
    }).pipe(as(admin))
  )

  it.effect("for a parked task queues it, and the run finds the answers of all its awaits in their order", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({
        await: [
          { signal: "first", hold_ms: 0 },
          { signal: "second", hold_ms: 0 }
        ]
      })
      expect(yield* parked(id)).toMatchObject({ attempt: 0 })
      yield* send(id, "second", 2)
      expect(yield* parked(id)).toMatchObject({ status: "paused" })
      yield* send(id, "first", 1)
      expect((yield* ended(id)).result?.data).toMatchObject({ signals: [1, 2] })
      const told = yield* types(id)
      expect(told.filter((type) => type === "TaskResumed")).toHaveLength(1)
      expect(told.filter((type) => type === "TaskPaused")).toHaveLength(1)
      expect(told.filter((type) => type === "TaskSignalled")).toHaveLength(2)
    }).pipe(as(admin))
  )

  it.effect("keeps its place over a crash of what took it", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin(
        { await: [{ signal: "go", hold_ms: 0 }], crash: { times: 2 } },
        { configuration: { retry: { max_attempts: 3, delay_ms: 1 } } }
      )
      yield* parked(id)
      yield* send(id, "go", "once")
      yield* send(id, "go", "another")
      const task = yield* ended(id)
      expect(task).toMatchObject({ status: "completed", attempt: 3, result: { data: { signals: ["once"] } } })
      expect((yield* (yield* Signals).list(id)).data.map(({ taken }) => taken)).toEqual([true, false])
    }).pipe(as(admin))
  )

  it.effect("races others and wakes a parked task exactly once", () =>
    Effect.gen(function* () {
      yield* talker
      for (let round = 0; round < 5; round++) {
        const id = yield* begin({
          await: [
            { signal: "go", hold_ms: 0 },
            { signal: "end", hold_ms: 0 }
          ]
        })
        yield* parked(id)
        const sent = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (n) => send(id, "go", n), { concurrency: "unbounded" })
        expect(new Set(sent.map(({ number }) => number))).toEqual(new Set([1, 2, 3, 4, 5, 6]))
        yield* parked(id)
        const told = yield* types(id)
        expect(told.filter((type) => type === "TaskResumed")).toHaveLength(1)
        expect(told.filter((type) => type === "TaskStarted")).toHaveLength(2)
        expect(told.filter((type) => type === "TaskSignalled")).toHaveLength(6)
        expect((yield* (yield* Signals).list(id)).data.filter(({ taken }) => taken)).toHaveLength(1)
        yield* send(id, "end")
        yield* ended(id)
      }
    }).pipe(as(admin))
  )

  it.effect("that never comes is a timeout, the same in every attempt, also where the task was parked", () =>
    Effect.gen(function* () {
      yield* talker
      const held = yield* begin({ await: [{ signal: "never", timeout_ms: 50 }] })
      const aside = yield* begin({ await: [{ signal: "never", timeout_ms: 400, hold_ms: 0 }] })
      yield* parked(aside)
      for (const id of [held, aside]) {
        expect(yield* ended(id)).toMatchObject({ status: "failed", result: { error: { code: "signal_timeout" } } })
      }
    }).pipe(as(admin))
  )

  it.effect("is sent once per idempotency key, and refused with another payload", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({
        await: [
          { signal: "go", hold_ms: 0 },
          { signal: "go", hold_ms: 0 }
        ]
      })
      const first = yield* send(id, "go", 1, "k")
      const again = yield* send(id, "go", 1, "k")
      expect([again.number, again.duplicate]).toEqual([first.number, true])
      expect(yield* Effect.flip(send(id, "go", 2, "k"))).toMatchObject({ _tag: "IdempotencyMismatch" })
      yield* send(id, "go", 2, "l")
      expect((yield* ended(id)).result?.data).toMatchObject({ signals: [1, 2] })
      expect(yield* send(id, "go", 1, "k")).toMatchObject({ number: 1, duplicate: true })
    }).pipe(as(admin))
  )

  it.effect("is refused for what has ended, is not there, or belongs to others, and beyond its bounds", () =>
    Effect.gen(function* () {
      yield* talker
      const done = yield* begin(1)
      yield* ended(done)
      expect(yield* Effect.flip(send(done, "go"))).toMatchObject({ _tag: "Conflict", reason: "state" })
      const id = yield* begin({ await: [{ signal: "go", hold_ms: 0 }] })
      yield* parked(id)
      expect(yield* Effect.flip(as(stranger)(send(id, "go")))).toMatchObject({ _tag: "TaskNotFound" })
      expect(yield* Effect.flip(as(principal("viewer"))(send(id, "go")))).toMatchObject({ permission: "task:signal" })
      const large = "x".repeat(Limits.signalPayloadBytesMax)
      expect(yield* Effect.flip(send(id, "go", large))).toMatchObject({ limit: Limits.signalPayloadBytesMax })
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into task_signals (task_id, number, name, actor, request, fingerprint)
        values (${id}, ${Limits.signalsMax}, 'other', 'key:test', 'once:full', '\\x00')`
      expect(yield* Effect.flip(send(id, "go"))).toMatchObject({ _tag: "TooLarge", unit: "signals" })
      yield* sql`delete from task_signals where task_id = ${id}`
      yield* send(id, "go")
      yield* ended(id)
    }).pipe(as(admin))
  )

  it.effect("may be awaited by a task that may run at most once, which keeps its slot", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin(
        { await: [{ signal: "go", hold_ms: 0 }] },
        { configuration: { delivery: "at_most_once" } }
      )
      yield* until(
        Effect.flatMap(Signals, (signals) => signals.list(id)),
        ({ awaiting }) => awaiting.length === 1
      )
      expect(yield* get(id)).toMatchObject({ status: "running" })
      yield* send(id, "go", 7)
      expect(yield* ended(id)).toMatchObject({ status: "completed", attempt: 1 })
    }).pipe(as(admin))
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("an approval", (it) => {
  const approver = Effect.ignore(
    Effect.flatMap(Agents, (agents) => agents.create(createAgent({ name: "approver", type: "approval" })))
  )
  const ask = Effect.fnUntraced(function* (payload: object) {
    yield* approver
    const { id } = yield* (yield* Tasks).submit(
      submitTask({ agent: "approver", payload: { message: "ship?", ...payload } })
    )
    yield* parked(id)
    return id
  })
  const decide = (id: TaskId, decision: string, comment?: string) =>
    send(id, "approval", { decision, ...(comment !== undefined && { comment }) })
  const operator = principal("operator")

  it.effect("completes with who decided, and is listed with its message until then", () =>
    Effect.gen(function* () {
      const id = yield* ask({})
      const listed = yield* (yield* Tasks).list({ status: ["paused"], waiting_for: "signal", awaits: "approval" })
      expect(listed.data.map((task) => task.id)).toContain(id)
      expect((yield* (yield* Signals).list(id)).awaiting).toMatchObject([{ name: "approval", message: "ship?" }])
      yield* as(operator)(decide(id, "approve", "fine"))
      const task = yield* ended(id)
      expect(task).toMatchObject({
        status: "completed",
        result: { data: { decision: "approve", decided_by: operator.actor, comment: "fine", expired: false } }
      })
      const after = yield* (yield* Tasks).list({ awaits: "approval" })
      expect(after.data.map((each) => each.id)).not.toContain(id)
      const events = yield* (yield* Tasks).events(id, { after: 0, limit: 50 })
      expect(events.find(({ type }) => type === "TaskSignalled")).toMatchObject({
        actor: operator.actor,
        data: { signal: "approval", decision: "approve" }
      })
    }).pipe(as(admin))
  )

  it.effect("that is rejected fails, and so does what depends on it", () =>
    Effect.gen(function* () {
      yield* approver
      yield* talker
      const { tasks } = yield* (yield* Tasks).submitGraph(
        submitGraph({
          tasks: {
            gate: { agent: "approver", payload: { message: "deploy?" } },
            deploy: { agent: "talker", dependencies: ["gate"] },
            report: { agent: "talker", dependencies: [{ task: "gate", on: "ended" }] }
          }
        })
      )
      const [gate, deploy, report] = [tasks["gate"], tasks["deploy"], tasks["report"]]
      if (gate === undefined || deploy === undefined || report === undefined) return expect.fail("no tasks")
      yield* parked(gate)
      yield* decide(gate, "reject", "not today")
      expect(yield* ended(gate)).toMatchObject({
        status: "failed",
        result: { error: { code: "rejected", details: { decided_by: "key:admin", comment: "not today" } } }
      })
      expect(yield* ended(deploy)).toMatchObject({ result: { error: { code: "dependency_failed" } } })
      expect(yield* ended(report)).toMatchObject({ status: "completed" })
    }).pipe(as(admin))
  )

  it.effect("is refused twice, from who may not, with another shape, and where nothing waits for it", () =>
    Effect.gen(function* () {
      const id = yield* ask({ roles: ["operator"], actors: ["key:chief"] })
      expect(yield* Effect.flip(decide(id, "approve"))).toMatchObject({ _tag: "Forbidden" })
      expect(yield* Effect.flip(as(principal("viewer"))(decide(id, "approve")))).toMatchObject({
        permission: "task:approve"
      })
      const signaller = principal("operator", { permissions: ["task:signal"] })
      expect(yield* Effect.flip(as(signaller)(decide(id, "approve")))).toMatchObject({ permission: "task:approve" })
      expect(yield* Effect.flip(as(operator)(decide(id, "maybe")))).toMatchObject({ _tag: "InvalidInput" })
      const outcomes = yield* Effect.forEach(
        ["approve", "reject", "approve", "reject"],
        (decision) => Effect.result(as(principal("admin", { actor: "key:chief" }))(decide(id, decision))),
        { concurrency: "unbounded" }
      )
      expect(outcomes.filter(({ _tag }) => _tag === "Success")).toHaveLength(1)
      for (const outcome of outcomes) {
        if (outcome._tag === "Failure") expect(outcome.failure).toMatchObject({ _tag: "Conflict" })
      }
      yield* ended(id)
      expect(yield* Effect.flip(as(operator)(decide(id, "approve")))).toMatchObject({ _tag: "Conflict" })
      yield* talker
      const other = yield* begin({ await: [{ signal: "go", hold_ms: 0 }] })
      yield* parked(other)
      expect(yield* Effect.flip(decide(other, "approve"))).toMatchObject({ _tag: "Conflict" })
    }).pipe(as(admin))
  )

  it.effect("may be given to who has a permission", () =>
    Effect.gen(function* () {
      const id = yield* ask({ permission: "key:create" })
      expect(yield* Effect.flip(as(operator)(decide(id, "approve")))).toMatchObject({ permission: "key:create" })
      yield* decide(id, "approve")
      expect(rolePermissions.admin).toContain("key:create")
      expect(yield* ended(id)).toMatchObject({ status: "completed" })
    }).pipe(as(admin))
  )

  it.effect("that nobody gives in time comes to what was asked for, and is then refused", () =>
    Effect.gen(function* () {
      const approves = yield* ask({ timeout_ms: 300, on_expiry: "approve" })
      const rejects = yield* ask({ timeout_ms: 300, on_expiry: "reject" })
      const soon = yield* inMillis(300)
      const fails = yield* ask({ until: soon, timeout_ms: 60_000 })
      expect(yield* ended(approves)).toMatchObject({
        status: "completed",
        result: { data: { decision: "approve", decided_by: null, expired: true } }
      })
      expect(yield* ended(rejects)).toMatchObject({ result: { error: { code: "rejected" } } })
      expect(yield* ended(fails)).toMatchObject({ result: { error: { code: "approval_expired" } } })
      expect(yield* Effect.flip(decide(fails, "approve"))).toMatchObject({ _tag: "Conflict" })
    }).pipe(as(admin))
  )

  it.effect("is refused after its time also while the task has not been told yet", () =>
    Effect.gen(function* () {
      const id = yield* ask({ timeout_ms: 60_000 })
      const sql = yield* SqlClient.SqlClient
      yield* sql.withTransaction(
        Effect.gen(function* () {
          // Nobody else sees it expired before this decision comes.
          yield* sql`select 1 from tasks where id = ${id} for no key update`
          yield* sql`update task_awaits set until = now() - interval '1 second' where task_id = ${id}`
        })
      )
      expect(yield* Effect.flip(decide(id, "approve"))).toMatchObject({ _tag: "Conflict" })
      expect(yield* ended(id)).toMatchObject({ result: { error: { code: "approval_expired" } } })
    }).pipe(as(admin))
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a task that is set aside", (it) => {
  const pause = (id: TaskId) => Effect.flatMap(Signals, (signals) => signals.pause(id, "because"))
  const resume = (id: TaskId) => Effect.flatMap(Signals, (signals) => signals.resume(id))

  it.effect("before it starts does not start until it is resumed", () =>
    Effect.gen(function* () {
      yield* echoAgent("narrow", { configuration: { max_concurrent_tasks: 1 } })
      const { id: first } = yield* (yield* Tasks).submit(submitTask({ agent: "narrow", payload: { sleep_ms: 400 } }))
      const { id } = yield* (yield* Tasks).submit(submitTask({ agent: "narrow" }))
      expect(yield* pause(id)).toMatchObject({ status: "paused", waiting_for: null })
      expect(yield* pause(id)).toMatchObject({ status: "paused" })
      yield* ended(first)
      yield* Effect.sleep("300 millis")
      expect(yield* get(id)).toMatchObject({ status: "paused", attempt: 0 })
      // As it stands then: it may have run before it is answered.
      expect((yield* resume(id)).status).not.toBe("paused")
      expect(yield* ended(id)).toMatchObject({ status: "completed", attempt: 1 })
      expect(yield* Effect.flip(resume(id))).toMatchObject({ _tag: "Conflict" })
      expect(yield* Effect.flip(pause(id))).toMatchObject({ _tag: "Conflict" })
      const events = yield* (yield* Tasks).events(id, { after: 0, limit: 50 })
      expect(events.find(({ type }) => type === "TaskPaused")).toMatchObject({
        actor: "key:admin",
        data: { was: "queued", reason: "because" }
      })
    }).pipe(as(admin))
  )

  it.effect("while it runs is interrupted, and the attempt does not count", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({ sleep_ms: 600_000 }, { configuration: { retry: { max_attempts: 1 } } })
      yield* inState(id, ({ status }) => status === "running")
      expect(yield* pause(id)).toMatchObject({ status: "paused", max_attempts: 2 })
      const sql = yield* SqlClient.SqlClient
      yield* sql`update tasks set payload = '{"sleep_ms": 1}' where id = ${id}`
      yield* resume(id)
      expect(yield* ended(id)).toMatchObject({ status: "completed", attempt: 2 })
    }).pipe(as(admin))
  )

  it.effect("is not one that runs and may run at most once", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({ sleep_ms: 600_000 }, { configuration: { delivery: "at_most_once" } })
      yield* inState(id, ({ status }) => status === "running")
      expect(yield* Effect.flip(pause(id))).toMatchObject({ _tag: "Conflict" })
      yield* (yield* Tasks).cancel(id, undefined)
    }).pipe(as(admin))
  )

  it.effect("while it waits for parents goes on with what became of them meanwhile", () =>
    Effect.gen(function* () {
      yield* talker
      const run = Effect.fnUntraced(function* (parent: object) {
        const { tasks } = yield* (yield* Tasks).submitGraph(
          submitGraph({
            tasks: {
              parent: { agent: "talker", payload: { await: [{ signal: "go", hold_ms: 0 }], ...parent } },
              other: { agent: "talker", payload: { await: [{ signal: "go", hold_ms: 0 }] } },
              child: { agent: "talker", dependencies: ["parent", "other"] }
            }
          })
        )
        const [one, other, child] = [tasks["parent"], tasks["other"], tasks["child"]]
        if (one === undefined || other === undefined || child === undefined) return yield* Effect.die("no tasks")
        yield* pause(child)
        yield* send(one, "go")
        yield* ended(one)
        expect(yield* get(child)).toMatchObject({ status: "paused" })
        yield* resume(child)
        return { other, child }
      })
      const well = yield* run({})
      expect(yield* get(well.child)).toMatchObject({ status: "pending", waiting_for: "dependencies" })
      yield* send(well.other, "go")
      expect(yield* ended(well.child)).toMatchObject({ status: "completed" })
      const badly = yield* run({ fail: { retryable: false } })
      expect(yield* ended(badly.child)).toMatchObject({ result: { error: { code: "dependency_failed" } } })
    }).pipe(as(admin))
  )

  it.effect("while it is parked keeps its signals and waits on when it is resumed", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({ await: [{ signal: "go", hold_ms: 0 }] })
      yield* parked(id)
      expect(yield* Effect.flip(resume(id))).toMatchObject({ _tag: "Conflict" })
      yield* pause(id)
      expect(yield* resume(id)).toMatchObject({ status: "paused", waiting_for: "signal" })
      yield* pause(id)
      yield* send(id, "go", 1)
      yield* Effect.sleep("100 millis")
      expect(yield* get(id)).toMatchObject({ status: "paused", waiting_for: null })
      yield* resume(id)
      expect((yield* ended(id)).result?.data).toMatchObject({ signals: [1] })
    }).pipe(as(admin))
  )

  it.effect("still ends by its deadline and by cancel", () =>
    Effect.gen(function* () {
      yield* talker
      const dated = yield* begin({ sleep_ms: 600_000 }, { deadline: yield* inMillis(700) })
      const other = yield* begin({ await: [{ signal: "go", hold_ms: 0 }] })
      yield* pause(dated)
      yield* parked(other)
      yield* (yield* Tasks).cancel(other, undefined)
      expect(yield* ended(other)).toMatchObject({ status: "cancelled" })
      expect(yield* ended(dated)).toMatchObject({ status: "timeout" })
    }).pipe(as(admin))
  )

  it.effect("needs the permission task:pause", () =>
    Effect.gen(function* () {
      yield* talker
      const id = yield* begin({ await: [{ signal: "go", hold_ms: 0 }] })
      const viewer = as(principal("viewer"))
      expect(yield* Effect.flip(viewer(pause(id)))).toMatchObject({ permission: "task:pause" })
      expect(yield* Effect.flip(viewer(resume(id)))).toMatchObject({ permission: "task:pause" })
      expect(yield* Effect.flip(as(stranger)(pause(id)))).toMatchObject({ _tag: "TaskNotFound" })
    }).pipe(as(admin))
  )
})
