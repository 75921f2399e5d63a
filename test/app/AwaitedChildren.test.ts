/** Tasks that wait for their children without a slot, on a running node with real Postgres. */
import { expect, layer } from "@effect/vitest"
import { DateTime, Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { LimitDirectory } from "../../actors/LimitDirectory.ts"
import { Namespace, type TaskId } from "../../protocol/Ids.ts"
import { CreateLimit } from "../../protocol/Limit.ts"
import { isTerminal, type Task } from "../../protocol/Task.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { LimitRules } from "../../src/app/LimitRules.ts"
import { Signals } from "../../src/app/Signals.ts"
import { TaskControl } from "../../src/app/TaskControl.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { invariants } from "../../src/ledger/Invariants.ts"
import { until } from "../actors/ActorHarness.ts"
import { admin, as } from "./as.ts"
import { echoAgent, running, submitTask } from "./Cases.ts"

/** One slot: a parent that kept it would wait for ever. */
const narrow = Effect.ignore(echoAgent("narrow", { configuration: { max_concurrent_tasks: 1 } }))
const wide = Effect.ignore(echoAgent("wide", { configuration: { max_concurrent_tasks: 50 } }))

const begin = Effect.fnUntraced(function* (payload: Schema.Json, over: object = {}) {
  return (yield* (yield* Tasks).submit(submitTask({ agent: "wide", payload, ...over }))).id
})
const get = (id: TaskId) => Effect.flatMap(Tasks, (tasks) => tasks.get(id))
const inState = (id: TaskId, wanted: (task: Task) => boolean) => until(get(id), wanted)
const parked = (id: TaskId) =>
  inState(id, ({ status, waiting_for: waits }) => status === "paused" && waits === "children")
const ended = (id: TaskId) => inState(id, ({ status }) => isTerminal(status))
const childrenOf = (parent: TaskId) =>
  Effect.map(
    Effect.flatMap(Tasks, (tasks) => tasks.list({ parent, limit: 100 })),
    ({ data }) => data.map(({ id }) => id).sort()
  )
const types = (id: TaskId) =>
  Effect.flatMap(Tasks, (tasks) =>
    Effect.map(tasks.events(id, { after: 0, limit: 500 }), (events) => events.map(({ type }) => type))
  )
const send = (id: TaskId, name: string) =>
  Effect.flatMap(Signals, (signals) => signals.send(id, { name, payload: 1, idempotencyKey: undefined }))
/** A parent of so many children that each wait for a signal, parked. */
const waitingFor = Effect.fnUntraced(function* (count: number, over: object = {}) {
  const id = yield* begin(
    { await_children: { count, agent: "wide", payload: { await: [{ signal: "go", hold_ms: 0 }] } } },
    over
  )
  const task = yield* parked(id)
  return { id, task, children: yield* childrenOf(id) }
})
const broken = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const ids = (yield* sql<{ readonly id: string }>`select id from tasks`).map(({ id }) => id)
  const found = yield* Effect.forEach(invariants, ({ id, over, query }) =>
    over === "history"
      ? Effect.succeed([])
      : Effect.map(sql.unsafe<object>(query, [over === "tasks" ? ids : null]), (rows) =>
          rows.map((row) => ({ check: id, ...row }))
        )
  )
  return found.flat()
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a task that awaits its children", (it) => {
  it.effect("lets them have its slot, and goes on with how each ended, in order", () =>
    Effect.gen(function* () {
      yield* narrow
      const id = yield* begin(
        { await_children: { count: 3, agent: "narrow", payload: { sleep_ms: 20 } } },
        { agent: "narrow" }
      )
      const task = yield* ended(id)
      expect(task).toMatchObject({ status: "completed", attempt: 1 })
      const children = yield* childrenOf(id)
      expect(task.result?.data).toMatchObject({
        children: children.map((child) => ({ id: child, status: "completed", data: { echo: { sleep_ms: 20 } } }))
      })
      const told = yield* types(id)
      expect(told).toEqual(["TaskCreated", "TaskStarted", "TaskPaused", "TaskResumed", "TaskStarted", "TaskCompleted"])
      expect(yield* broken).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("says which of them have not ended, and is queued by the last one that does", () =>
    Effect.gen(function* () {
      yield* wide
      const { children, id, task } = yield* waitingFor(3)
      expect(task.awaited_children).toEqual({ open: 3, total: 3, tasks: children })
      const [first, second, third] = children
      if (first === undefined || second === undefined || third === undefined) return yield* Effect.die("no children")
      yield* send(second, "go")
      yield* ended(second)
      yield* (yield* Tasks).cancel(first, undefined)
      expect(yield* get(id)).toMatchObject({
        status: "paused",
        awaited_children: { open: 1, total: 3, tasks: [third] }
      })
      yield* send(third, "go")
      expect((yield* ended(id)).result?.data).toMatchObject({
        children: [
          { id: first, status: "cancelled", error: { code: "cancelled" } },
          { id: second, status: "completed" },
          { id: third, status: "completed" }
        ]
      })
      expect((yield* types(id)).filter((type) => type === "TaskResumed")).toHaveLength(1)
    }).pipe(as(admin))
  )

  it.effect("hears of failures, and gets the same answer when it is run again", () =>
    Effect.gen(function* () {
      yield* wide
      const id = yield* begin(
        {
          await_children: { count: 2, agent: "wide", payload: { fail: { retryable: false, code: "no" } } },
          crash: { times: 2 }
        },
        { configuration: { retry: { max_attempts: 3, delay_ms: 1 } } }
      )
      const task = yield* ended(id)
      expect(task).toMatchObject({ status: "completed", attempt: 3 })
      expect(task.result?.data).toMatchObject({
        children: [
          { status: "failed", error: { code: "no" } },
          { status: "failed", error: { code: "no" } }
        ]
      })
      expect(yield* childrenOf(id)).toHaveLength(2)
    }).pipe(as(admin))
  )

  it.effect("awaits those that others submitted for it, or none", () =>
    Effect.gen(function* () {
      yield* wide
      const alone = yield* begin({ await_children: true })
      expect((yield* ended(alone)).result?.data).toMatchObject({ children: [] })
      const id = yield* begin({ await: [{ signal: "begin", hold_ms: 0 }], await_children: true })
      const child = yield* begin(1, { parent_id: id })
      yield* ended(child)
      yield* send(id, "begin")
      expect((yield* ended(id)).result?.data).toMatchObject({ children: [{ id: child, data: { echo: 1 } }] })
    }).pipe(as(admin))
  )

  it.effect("keeps its slot where it may run at most once, or for as long as it asks", () =>
    Effect.gen(function* () {
      yield* wide
      const once = yield* begin(
        { await_children: { count: 1, agent: "wide", payload: { sleep_ms: 100 } } },
        { configuration: { delivery: "at_most_once" } }
      )
      const held = yield* begin({
        await_children: { count: 1, agent: "wide", payload: { sleep_ms: 100 }, hold_ms: 10_000 }
      })
      for (const id of [once, held]) {
        expect(yield* ended(id)).toMatchObject({ status: "completed", attempt: 1 })
        expect(yield* types(id)).not.toContain("TaskPaused")
      }
    }).pipe(as(admin))
  )

  it.effect(
    "ends when it is cancelled or its deadline passes, and leaves them alone unless the tree is cancelled",
    () =>
      Effect.gen(function* () {
        yield* wide
        const one = yield* waitingFor(1)
        yield* (yield* Tasks).cancel(one.id, undefined)
        expect(yield* get(one.id)).toMatchObject({ status: "cancelled", waiting_for: null })
        const [child] = one.children
        if (child === undefined) return yield* Effect.die("no child")
        yield* send(child, "go")
        expect(yield* ended(child)).toMatchObject({ status: "completed" })
        expect(yield* get(one.id)).toMatchObject({ status: "cancelled" })

        const tree = yield* waitingFor(2)
        yield* (yield* Graphs).cancelTree(tree.id, undefined)
        for (const id of [tree.id, ...tree.children]) expect(yield* ended(id)).toMatchObject({ status: "cancelled" })

        const now = yield* DateTime.now
        const late = yield* waitingFor(1, { deadline: DateTime.formatIso(DateTime.add(now, { milliseconds: 700 })) })
        expect(yield* ended(late.id)).toMatchObject({ status: "timeout", result: { error: { code: "deadline" } } })
      }).pipe(as(admin))
  )

  it.effect("does not count the time that it was parked towards its timeout", () =>
    Effect.gen(function* () {
      yield* wide
      const id = yield* begin(
        { await_children: { count: 1, agent: "wide", payload: { sleep_ms: 900 } } },
        { configuration: { timeout_ms: 600, retry: { max_attempts: 1 } } }
      )
      expect(yield* ended(id)).toMatchObject({ status: "completed", attempt: 1 })
    }).pipe(as(admin))
  )

  it.effect("may be set aside meanwhile: it goes on when it is resumed, or waits on", () =>
    Effect.gen(function* () {
      yield* wide
      const signals = yield* Signals
      const early = yield* waitingFor(1)
      yield* signals.pause(early.id, undefined)
      yield* signals.resume(early.id)
      expect(yield* get(early.id)).toMatchObject({ status: "paused", waiting_for: "children" })
      yield* signals.pause(early.id, undefined)
      for (const child of early.children) {
        yield* send(child, "go")
        yield* ended(child)
      }
      expect(yield* get(early.id)).toMatchObject({ status: "paused", waiting_for: null })
      yield* signals.resume(early.id)
      expect(yield* ended(early.id)).toMatchObject({ status: "completed" })
    }).pipe(as(admin))
  )

  it.effect("lets go of its places in limits by key, so that its children may have them, and takes them again", () =>
    Effect.gen(function* () {
      yield* wide
      const create = Schema.decodeUnknownSync(CreateLimit)
      const limits = yield* LimitRules
      yield* limits.create(create({ name: "one-at-a-time", key: "labels.tenant", concurrency: 1 }))
      yield* limits.create(create({ name: "rate", key: "labels.tenant", rate: { limit: 100, window_ms: 3_600_000 } }))
      const known = Effect.map(LimitDirectory, (directory) => directory.of(Namespace.make("default")))
      yield* until(known, (rules) => rules.length === 2)
      const labels = { tenant: "a" }
      const id = yield* begin(
        { await_children: { count: 3, agent: "wide", payload: { sleep_ms: 10 }, labels } },
        { labels }
      )
      const task = yield* ended(id)
      expect(task).toMatchObject({ status: "completed", attempt: 1 })
      expect(task.result?.data).toMatchObject({ children: [{ status: "completed" }, { status: "completed" }, {}] })
      const sql = yield* SqlClient.SqlClient
      // Four tasks took a token; going on did not take another one.
      const tokens = sql<{ readonly taken: number; readonly tokens: number | null }>`
        select k.taken, k.tokens from limit_keys k join limits l on l.id = k.limit_id where l.name = 'rate'`
      const [rate] = yield* until(tokens, ([row]) => row?.taken === 0)
      expect(Math.floor(rate?.tokens ?? 0)).toBe(96)
      expect(yield* broken).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("keeps what it awaited from being deleted until it has ended", () =>
    Effect.gen(function* () {
      yield* wide
      const control = yield* TaskControl
      const id = yield* begin({
        await_children: { count: 1, agent: "wide", payload: { await: [{ signal: "go", hold_ms: 0 }] } },
        hang: true
      })
      yield* parked(id)
      const [child] = yield* childrenOf(id)
      if (child === undefined) return yield* Effect.die("no child")
      yield* send(child, "go")
      yield* until(types(id), (told) => told.filter((type) => type === "TaskStarted").length === 2)
      expect(yield* Effect.flip(control.remove(child))).toMatchObject({ _tag: "Conflict" })
      yield* (yield* Tasks).cancel(id, undefined)
      expect(yield* control.remove(child)).toMatchObject({ deleted: true })
    }).pipe(as(admin))
  )
})
