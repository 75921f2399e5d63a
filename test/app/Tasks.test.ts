/** Tasks through the use cases, on the real ledger: what is accepted, what is told of it, and how it ends. */
import { expect, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Schema, Scope, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { LargeDataLimits } from "../../actors/LargeData.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import type { Event } from "../../protocol/Event.ts"
import { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Notice } from "../../protocol/Notice.ts"
import { BatchItem, ListTasks } from "../../protocol/Query.ts"
import { AcceptedTask, Graph, Task } from "../../protocol/Task.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { TaskWatchLimits } from "../../src/app/TaskWatch.ts"
import * as Database from "../ledger/Database.ts"
import { MemoryBusControl } from "../support/MemoryBus.ts"
import { admin, as, principal } from "./as.ts"
import { layer as cases, echoAgent, running, submitGraph, submitTask } from "./Cases.ts"

const closed = { onExcessProperty: "error" } as const
const query = Schema.decodeUnknownSync(ListTasks)

/** Nothing above what fits into a task's row. */
const inline = cases.pipe(Layer.provideMerge(Layer.succeed(LargeDataLimits, { bytesMax: Limits.payloadBytesMax })))

layer(inline, { excludeTestServices: true, timeout: "60 seconds" })("a submitted task", (it) => {
  it.effect("is answered as stored, and can be read and listed at once", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("worker")
      const accepted = yield* tasks.submit(submitTask({ type: "echo", payload: { a: 1 }, labels: { run: "1" } }))
      expect(Schema.decodeUnknownSync(AcceptedTask)(accepted, closed)).toEqual(accepted)
      expect(accepted).toMatchObject({ status: "queued", duplicate: false })
      const task = yield* tasks.get(accepted.id)
      expect(Schema.decodeUnknownSync(Task)(task, closed)).toEqual(task)
      expect(task).toMatchObject({ payload: { a: 1 }, labels: { run: "1" }, version: 1 })
      const listed = yield* tasks.list(query({ label: "run=1" }))
      expect(listed.data.map(({ id }) => id)).toEqual([accepted.id])
      expect(yield* tasks.events(accepted.id, { after: 0, limit: 10 })).toMatchObject([
        { type: "TaskCreated", number: 1, actor: "key:admin" }
      ])
    }).pipe(as(admin))
  )

  it.effect("with a key that was used before is the first one", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const command = submitTask({ type: "echo", payload: 1, idempotency_key: "once" })
      const first = yield* tasks.submit(command)
      expect(yield* tasks.submit(command)).toMatchObject({ id: first.id, duplicate: true })
      const other = yield* Effect.flip(tasks.submit(submitTask({ type: "echo", payload: 2, idempotency_key: "once" })))
      expect(other).toMatchObject({ _tag: "IdempotencyMismatch" })
    }).pipe(as(admin))
  )

  it.effect("is refused with a date that no calendar has, and nothing breaks", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      for (const date of ["2020-02-31T00:00:00Z", "0000-01-01T00:00:00Z", "2020-13-01T00:00:00Z"]) {
        const submitted = yield* Effect.flip(tasks.submit(submitTask({ type: "echo", run_at: date })))
        expect({ date, submitted }).toMatchObject({
          date,
          submitted: { _tag: "InvalidInput", errors: [{ field: "run_at" }] }
        })
        const listed = yield* Effect.flip(tasks.list(query({ created_before: date })))
        expect({ date, listed }).toMatchObject({
          date,
          listed: { _tag: "InvalidInput", errors: [{ field: "created_before" }] }
        })
      }
      const farEast = "2020-01-01T00:00:00+23:59"
      const accepted = yield* tasks.submit(submitTask({ type: "echo", run_at: farEast }))
      expect(yield* tasks.get(accepted.id)).toMatchObject({ run_at: "2019-12-31T00:01:00.000000Z" })
      expect((yield* tasks.list(query({ created_after: farEast }))).data.length).toBeGreaterThan(0)
    }).pipe(as(admin))
  )
})

layer(inline, { excludeTestServices: true, timeout: "60 seconds" })("a batch", (it) => {
  const good = (name: string) => ({ type: "echo", name })

  it.effect("has an outcome for each item, in order; a bad one harms no other", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("batched")
      const items = [
        good("0"),
        { type: "No Such Form" },
        good("2"),
        { ...good("3"), attempt: 7 },
        "no object",
        { type: "nobody.can" },
        { ...good("6"), payload: "x".repeat(Limits.payloadBytesMax) },
        good("7")
      ]
      const outcomes = yield* tasks.submitBatch(items, { atomic: false })
      expect(Schema.decodeUnknownSync(Schema.Array(BatchItem))(outcomes, closed)).toEqual(outcomes)
      expect(outcomes.map(({ index }) => index)).toEqual(items.map((_, index) => index))
      expect(outcomes.map(({ status }) => status)).toEqual([202, 422, 202, 422, 422, 202, 413, 202])
      expect(outcomes[3]).toMatchObject({
        problem: { type: "urn:datamcp:problem:invalid-input", status: 422, errors: [{ field: "attempt" }] }
      })
      const names = outcomes.flatMap((outcome) => ("task" in outcome ? [outcome.task.name] : []))
      expect(names).toEqual(["0", "2", "nobody.can", "7"])
    }).pipe(as(admin))
  )

  it.effect("that is atomic is accepted as a whole or not at all", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const count = Effect.map(tasks.list(query({ label: "batch=atomic", limit: 500 })), ({ data }) => data.length)
      const labelled = (over: object = {}) => ({ type: "echo", labels: { batch: "atomic" }, ...over })
      const unknownParent = { parent_id: "0190a1b2-0000-7000-8000-00000000dead" }
      for (const bad of [{ type: 7 }, unknownParent, { payload: "x".repeat(Limits.payloadBytesMax) }]) {
        const outcomes = yield* tasks.submitBatch([labelled(), labelled(bad), labelled()], { atomic: true })
        expect(outcomes.every(({ status }) => status !== 202)).toBe(true)
        expect(yield* count).toBe(0)
      }
      const whole = yield* tasks.submitBatch([labelled(), labelled()], { atomic: true })
      expect(whole.map(({ status }) => status)).toEqual([202, 202])
      expect(yield* count).toBe(2)
    }).pipe(as(admin))
  )

  it.effect("of nothing is nothing, and of too much is refused before it is looked at", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      expect(yield* tasks.submitBatch([], { atomic: true })).toEqual([])
      const many = Array.from({ length: Limits.batchTasksMax + 1 }, () => null)
      expect(yield* Effect.flip(tasks.submitBatch(many, { atomic: false }))).toMatchObject({
        _tag: "TooLarge",
        limit: Limits.batchTasksMax,
        unit: "tasks"
      })
    }).pipe(as(admin))
  )
})

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("a graph", (it) => {
  const graph = { name: "etl", tasks: { load: { type: "echo" }, report: { type: "echo", dependencies: ["load"] } } }

  it.effect("is shown with its edges, also by any of its tasks; submitted again it is the same", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("grapher")
      const accepted = yield* tasks.submitGraph(submitGraph({ ...graph, idempotency_key: "g" }))
      const again = yield* tasks.submitGraph(submitGraph({ ...graph, idempotency_key: "g" }))
      expect(again).toEqual({ ...accepted, duplicate: true })
      const shown = yield* tasks.graph(accepted.id)
      expect(Schema.decodeUnknownSync(Graph)(shown, closed)).toEqual(shown)
      expect(shown).toMatchObject({
        name: "etl",
        ended: false,
        counts: { queued: 1, pending: 1 },
        tasks: [
          { key: "load", dependencies: [] },
          { key: "report", dependencies: ["load"], waiting_for: "dependencies" }
        ]
      })
      expect(yield* tasks.graphOf(Object.values(accepted.tasks)[1] ?? TaskId.make(""))).toEqual(shown)
      const alone = yield* tasks.submit(submitTask({ type: "echo" }))
      expect(yield* Effect.flip(tasks.graphOf(alone.id))).toMatchObject({ _tag: "GraphNotFound" })
    }).pipe(as(admin))
  )
})

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("an ended task", (it) => {
  it.effect("is cancelled once; running code is interrupted", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const bus = yield* Bus
      const sql = yield* SqlClient.SqlClient
      const notices: Array<Notice> = []
      yield* bus.onNotice((notice) => notices.push(notice))
      const agent = yield* echoAgent("stopped")
      const { id } = yield* tasks.submit(submitTask({ agent: "stopped" }))
      yield* sql`update tasks set status = 'running', attempt = 1 where id = ${id}`
      const cancelled = yield* tasks.cancel(id, "not needed")
      expect(cancelled).toMatchObject({
        status: "cancelled",
        result: { success: false, error: { message: "not needed" } }
      })
      yield* Effect.yieldNow
      expect(notices).toContainEqual({ _tag: "Interrupt", agent: agent.id, tasks: [id] })
      expect(yield* Effect.flip(tasks.cancel(id, undefined))).toMatchObject({
        _tag: "Conflict",
        reason: "state",
        current_version: cancelled.version
      })
    }).pipe(as(admin), Effect.scoped)
  )

  it.effect("is retried as a task of its own that links back, unless it completed or still lives", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      yield* echoAgent("retried")
      const command = {
        agent: "retried",
        name: "again",
        description: "d",
        priority: "high",
        payload: { n: 1 },
        labels: { a: "b" },
        metadata: { m: [1] },
        configuration: { timeout_ms: 1234 }
      }
      const { id } = yield* tasks.submit(submitTask(command))
      expect(yield* Effect.flip(tasks.retry(id))).toMatchObject({ _tag: "Conflict", reason: "state" })
      yield* tasks.cancel(id, undefined)
      const retried = yield* tasks.retry(id)
      const [first, second] = [yield* tasks.get(id), yield* tasks.get(retried.id)]
      const same = (task: Task) => [
        task.name,
        task.description,
        task.priority,
        task.payload,
        task.labels,
        task.metadata
      ]
      expect(same(second)).toEqual(same(first))
      expect(second).toMatchObject({
        retry_of: id,
        status: "queued",
        agent_id: first.agent_id,
        configuration: { timeout_ms: 1234 }
      })
      yield* sql`update tasks set status = 'completed', completed_at = now() where id = ${retried.id}`
      expect(yield* Effect.flip(tasks.retry(retried.id))).toMatchObject({ _tag: "Conflict", reason: "state" })
    }).pipe(as(admin))
  )

  it.effect("is retried without the dependencies that are over, with those that are not or whose result it reads", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      yield* echoAgent("dependent")
      const submit = (over: object = {}) => tasks.submit(submitTask({ agent: "dependent", ...over }))
      const [failed, read, open] = [yield* submit(), yield* submit(), yield* submit()]
      const child = yield* submit({
        payload: { from: { $result: read.id } },
        dependencies: [failed, read, open].map(({ id }) => ({ task_id: id, on: "ended" }))
      })
      yield* tasks.cancel(failed.id, undefined)
      yield* tasks.cancel(read.id, undefined)
      yield* tasks.cancel(child.id, undefined)
      const retried = yield* tasks.get((yield* tasks.retry(child.id)).id)
      expect(retried.dependencies?.map(({ task_id }) => task_id).sort()).toEqual([read.id, open.id].sort())
      expect(retried.waiting_for).toBe("dependencies")
      yield* sql`select 1`
    }).pipe(as(admin))
  )

  it.effect("of an agent that is gone is retried by another that can do it", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      const gone = yield* echoAgent("gone", { capabilities: [{ name: "rare.work" }] })
      const { id } = yield* tasks.submit(submitTask({ agent: "gone" }))
      yield* tasks.cancel(id, undefined)
      yield* sql`update agents set status = 'terminated', version = 9, updated_at = clock_timestamp() where id = ${gone.id}`
      const heir = yield* echoAgent("heir", { capabilities: [{ name: "rare.work" }] })
      const bus = yield* Bus
      yield* bus.notify({ _tag: "AgentChanged", agent: gone.id })
      const retried = yield* Effect.repeat(tasks.retry(id), {
        until: ({ agent_id }) => agent_id === heir.id,
        times: 50
      })
      expect(retried.agent_id).toBe(heir.id)
    }).pipe(as(admin))
  )
})

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("waiting for a task", (it) => {
  it.effect("ends with the task, at once when the bus tells", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("awaited")
      const { id } = yield* tasks.submit(submitTask({ agent: "awaited" }))
      const waiting = yield* Effect.forkChild(Effect.timed(tasks.wait(id, Duration.seconds(20))), {
        startImmediately: true
      })
      yield* Effect.sleep("100 millis")
      yield* tasks.cancel(id, undefined)
      const [took, task] = yield* Fiber.join(waiting)
      expect(task.status).toBe("cancelled")
      expect(Duration.toMillis(took)).toBeLessThan(1_500)
      expect((yield* tasks.wait(id, Duration.seconds(20))).status).toBe("cancelled")
    }).pipe(as(admin))
  )

  it.effect("ends also when the bus is silent, and at the latest after the time asked for", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* tasks.submit(submitTask({ type: "never.done" }))
      expect((yield* tasks.wait(id, Duration.millis(50))).status).toBe("pending")
      const waiting = yield* Effect.forkChild(tasks.wait(id, Duration.seconds(20)), { startImmediately: true })
      yield* Effect.sleep("50 millis")
      yield* sql`update tasks set status = 'cancelled', waiting_for = null, completed_at = now() where id = ${id}`
      const task = yield* Fiber.join(waiting).pipe(Effect.timeout("5 seconds"))
      expect(task.status).toBe("cancelled")
    }).pipe(as(admin))
  )
})

const append = Effect.fnUntraced(function* (id: TaskId, number: number, type: Event["type"]) {
  yield* Effect.orDie(Database.insertEvent(id, number, type))
  return {
    type,
    kind: "task",
    aggregate: id,
    number,
    at: "2026-01-01T00:00:00Z",
    namespace: admin.namespace,
    actor: null,
    trace: null,
    data: { number }
  } satisfies Event
})

/** Small pages and buffers, so that gaps are common. */
const watchful = cases.pipe(
  Layer.provide(Layer.succeed(TaskWatchLimits, { silence: Duration.millis(200), pageEvents: 7, liveEventsMax: 5 }))
)

layer(watchful, { excludeTestServices: true, timeout: "60 seconds" })("a followed task", (it) => {
  it.effect("tells every event once and in order, whatever the bus loses, doubles or reorders", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const bus = yield* Bus
      const sql = yield* SqlClient.SqlClient
      const total = 120
      for (let seed = 1; seed <= 6; seed++) {
        const random = mulberry(seed)
        const { id } = yield* tasks.submit(submitTask({ type: "never.done" }))
        const followers = yield* Effect.forEach([0, 1, 17, 60], (after) =>
          Effect.forkChild(
            Effect.delay(
              tasks.follow(id, after).pipe(
                Stream.map(({ number }) => number),
                Stream.runCollect
              ),
              `${Math.floor(random() * 30)} millis`
            )
          )
        )
        let held: Array<Event> = []
        for (let number = 2; number <= total; number++) {
          const event = yield* append(id, number, number === total ? "TaskCompleted" : "TaskProgressed")
          if (number === total) yield* sql`update tasks set version = ${total} where id = ${id}`
          const luck = random()
          if (luck < 0.2) continue
          if (luck < 0.4) held.push(event)
          else yield* bus.publishEvents(luck < 0.6 ? [event, event] : [event])
          if (held.length > 3) {
            yield* bus.publishEvents(held.reverse())
            held = []
          }
          if (random() < 0.1) yield* Effect.sleep("1 millis")
        }
        const seen = yield* Effect.forEach(followers, Fiber.join)
        for (const [index, after] of [0, 1, 17, 60].entries()) {
          // One that began before the number existed begins with what is there: nothing above `after` is left out.
          const wanted = Array.from({ length: total }, (_, at) => at + 1)
          const got = seen[index] ?? []
          const from = got[0] ?? 0
          expect(from).toBeLessThanOrEqual(after + 1)
          expect({ seed, after, got }).toEqual({ seed, after, got: wanted.slice(from - 1) })
        }
      }
    }).pipe(as(admin))
  )

  it.effect("that has ended tells what is left and ends; beyond the last number there is nothing", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const { id } = yield* tasks.submit(submitTask({ type: "never.done" }))
      yield* tasks.cancel(id, undefined)
      const numbers = (after: number) =>
        tasks.follow(id, after).pipe(
          Stream.map(({ number }) => number),
          Stream.runCollect,
          Effect.timeout("5 seconds")
        )
      expect(yield* numbers(0)).toEqual([1, 2])
      expect(yield* numbers(1)).toEqual([2])
      expect(yield* numbers(2)).toEqual([])
      expect(yield* numbers(999)).toEqual([])
      expect(yield* numbers(-5)).toEqual([1, 2])
    }).pipe(as(admin))
  )

  it.effect("ends when the bus says nothing at all", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const bus = yield* MemoryBusControl
      const { id } = yield* tasks.submit(submitTask({ type: "never.done" }))
      const following = yield* Effect.forkChild(Stream.runCollect(tasks.follow(id, 0)), { startImmediately: true })
      yield* Effect.sleep("50 millis")
      bus.cut(true)
      yield* tasks.cancel(id, undefined)
      const events = yield* Fiber.join(following).pipe(
        Effect.timeout("6 seconds"),
        Effect.ensuring(Effect.sync(() => bus.cut(false)))
      )
      expect(events.map(({ type }) => type)).toEqual(["TaskCreated", "TaskCancelled"])
    }).pipe(as(admin))
  )

  it.effect("may be followed a hundred times by one key, and again once one is closed", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const busy = principal("viewer", { actor: "key:busy" })
      const { id } = yield* tasks.submit(submitTask({ type: "never.done" })).pipe(as(admin))
      const open = Effect.fnUntraced(function* () {
        const scope = yield* Scope.make()
        const first = yield* Deferred.make<void, { readonly _tag: string }>()
        yield* tasks.follow(id, 0).pipe(
          Stream.runForEach(() => Deferred.succeed(first, undefined)),
          Effect.catch((error) => Deferred.fail(first, error)),
          as(busy),
          Effect.forkIn(scope)
        )
        yield* Deferred.await(first)
        return scope
      })
      const scopes = yield* Effect.replicateEffect(open(), Limits.openStreamsMax)
      expect(yield* Effect.flip(open())).toMatchObject({ _tag: "Overloaded", retry_after_seconds: 5 })
      const other = yield* Stream.runHead(tasks.follow(id, 0)).pipe(as(admin))
      expect(other).toMatchObject({ value: { number: 1 } })
      yield* Effect.forEach(scopes.slice(0, 1), (scope) => Scope.close(scope, Exit.void))
      yield* open()
      yield* Effect.forEach(scopes, (scope) => Scope.close(scope, Exit.void), { concurrency: 20 })
    })
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a task that runs", (it) => {
  it.effect("is waited for and followed to its end by everybody who asks", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("runner", { configuration: { max_concurrent_tasks: 20 } })
      const accepted = yield* Effect.forEach(
        Array.from({ length: 30 }, (_, index) => index),
        (index) => tasks.submit(submitTask({ type: "echo", payload: { index, sleep_ms: index * 5, steps: 2 } })),
        { concurrency: 10 }
      )
      const ends = yield* Effect.forEach(
        accepted,
        ({ id }, index) =>
          Effect.all(
            [
              tasks.wait(id, Duration.seconds(30)),
              index % 3 === 0 ? Stream.runCollect(tasks.follow(id, 0)) : Effect.succeed([])
            ],
            { concurrency: 2 }
          ),
        { concurrency: "unbounded" }
      )
      for (const [index, [task, events]] of ends.entries()) {
        expect(task).toMatchObject({ status: "completed", result: { data: { echo: { index } } } })
        const numbers = events.map(({ number }) => number)
        expect(numbers).toEqual(numbers.map((_, at) => at + 1))
        if (numbers.length > 0) expect(events.at(-1)?.type).toBe("TaskCompleted")
      }
    }).pipe(as(admin))
  )
})

/** A small seeded generator (mulberry32). */
const mulberry = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
