/** Unique keys, coalescing and starts in time through the use cases: what submitters are told, and what runs in the end. */
import { expect, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, Result, Schema } from "effect"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { CreateLimit } from "../../protocol/Limit.ts"
import * as Limits from "../../protocol/Limits.ts"
import { BatchItem } from "../../protocol/Query.ts"
import { AcceptedTask, SubmitGraph, Task } from "../../protocol/Task.ts"
import { LimitRules } from "../../src/app/LimitRules.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import * as Database from "../ledger/Database.ts"
import { admin, as, principal } from "./as.ts"
import { layer as cases, echoAgent, running, submitGraph, submitTask } from "./Cases.ts"

const closed = { onExcessProperty: "error" } as const
const unique = (key: string, on_conflict?: "refuse" | "existing") => ({
  unique: { key, ...(on_conflict !== undefined && { on_conflict }) }
})
const ask = (fields: object) => Effect.flatMap(Tasks, (tasks) => tasks.submit(submitTask({ type: "echo", ...fields })))

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("a submission with a unique key", (it) => {
  it.effect(
    "is refused with the id of the task that has it, or answered with that task; each namespace has its own",
    () =>
      Effect.gen(function* () {
        const tasks = yield* Tasks
        yield* echoAgent("first")
        const holder = yield* ask({ ...unique("report-42"), name: "the first" })
        expect(holder).toMatchObject({ duplicate: false, status: "queued" })
        const shown = yield* tasks.get(holder.id)
        expect(Schema.decodeUnknownSync(Task)(shown, closed)).toEqual(shown)
        expect(shown.unique_key).toBe("report-42")
        expect(yield* Effect.flip(ask(unique("report-42")))).toMatchObject({
          _tag: "UniqueKeyHeld",
          status: 409,
          key: "report-42",
          task_id: holder.id,
          detail: `unique: task ${holder.id} has the key "report-42" and has not ended`
        })
        const existing = yield* ask({ ...unique("report-42", "existing"), name: "another" })
        expect(Schema.decodeUnknownSync(AcceptedTask)(existing, closed)).toEqual(existing)
        expect(existing).toMatchObject({ id: holder.id, name: "the first", duplicate: true, status: "queued" })
        const elsewhere = yield* Database.insertNamespace("unique-tenant")
        const other = yield* ask(unique("report-42")).pipe(as(principal("admin", { namespace: elsewhere })))
        expect(other.duplicate).toBe(false)
        const viewer = yield* Effect.flip(ask(unique("report-42", "existing")).pipe(as(principal("viewer"))))
        expect(viewer._tag).toBe("Forbidden")
        yield* tasks.cancel(holder.id, undefined)
        expect((yield* ask(unique("report-42"))).id).not.toBe(holder.id)
      }).pipe(as(admin))
  )

  it.effect("within a batch has its own outcome, and undoes one that is all or none", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const items = [unique("b"), unique("b"), unique("b", "existing"), {}].map((fields) => ({
        type: "echo",
        ...fields
      }))
      const outcomes = yield* tasks.submitBatch(items, { atomic: false })
      expect(Schema.decodeUnknownSync(Schema.Array(BatchItem))(outcomes, closed)).toEqual(outcomes)
      expect(outcomes.map(({ status }) => status)).toEqual([202, 409, 202, 202])
      const first = outcomes[0] !== undefined && "task" in outcomes[0] ? outcomes[0].task.id : ""
      expect(outcomes[1]).toMatchObject({ problem: { type: "urn:datamcp:problem:unique-key-held", task_id: first } })
      expect(outcomes[2]).toMatchObject({ task: { id: first, duplicate: true } })
      const all = yield* tasks.submitBatch([{ type: "echo", ...unique("c") }, ...items.slice(0, 1)], { atomic: true })
      expect(all.map(({ status }) => status)).toEqual([409, 409])
      expect(all[0]).toMatchObject({ problem: { field: "1.unique", task_id: first } })
      expect((yield* ask(unique("c"))).duplicate).toBe(false)
    }).pipe(as(admin))
  )

  it.effect("is taken again by a retry, or the retry is refused by the name of who has it now", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const first = yield* ask({ ...unique("again"), payload: 1 })
      yield* tasks.cancel(first.id, undefined)
      const second = yield* tasks.retry(first.id)
      expect(yield* tasks.get(second.id)).toMatchObject({ unique_key: "again", retry_of: first.id, payload: 1 })
      expect(yield* Effect.flip(tasks.retry(first.id))).toMatchObject({ _tag: "UniqueKeyHeld", task_id: second.id })
    }).pipe(as(admin))
  )

  it.effect("is not for tasks of graphs, where it is refused by name", () =>
    Effect.sync(() => {
      const decoded = inputDecoder(SubmitGraph)({ tasks: { a: { type: "echo", ...unique("g") } } })
      expect(Result.isFailure(decoded) && decoded.failure.errors).toMatchObject([{ field: "tasks.a.unique" }])
    })
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("submissions that coalesce", (it) => {
  const all = (key: string, over: object = {}) => ({
    coalesce: { key, keep: "all", max_wait_ms: 60_000, max_items: 3, ...over }
  })
  const inTime = Duration.seconds(20)

  it.effect("run once, with all their payloads, and are told the task that runs", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("gatherer")
      const first = yield* ask({ payload: { n: 1 }, ...all("rows") })
      expect(first).toMatchObject({ duplicate: false, status: "pending", waiting_for: "time" })
      const second = yield* ask({ payload: { n: 2 }, ...all("rows"), idempotency_key: "second" })
      expect(Schema.decodeUnknownSync(AcceptedTask)(second, closed)).toEqual(second)
      expect(second).toMatchObject({ id: first.id, coalesced: true, duplicate: false })
      expect(yield* tasks.get(first.id)).toMatchObject({ payload: [{ n: 1 }, { n: 2 }], coalesce_key: "rows" })
      const [third, fourth] = yield* tasks.submitBatch(
        [3, 4].map((n) => ({ type: "echo", payload: { n }, ...all("rows") })),
        { atomic: false }
      )
      expect(third).toMatchObject({ task: { id: first.id, coalesced: true } })
      expect(fourth).toMatchObject({ task: { status: "pending" } })
      const done = yield* tasks.wait(first.id, inTime)
      expect(done).toMatchObject({ status: "completed", result: { data: { echo: [{ n: 1 }, { n: 2 }, { n: 3 }] } } })
      expect((yield* tasks.events(first.id, { after: 0, limit: 50 })).map(({ number }) => number)).toEqual(
        Array.from({ length: done.version }, (_, index) => index + 1)
      )
      const again = yield* ask({ payload: { n: 2 }, ...all("rows"), idempotency_key: "second" })
      expect(again).toMatchObject({ id: first.id, duplicate: true, status: "completed" })
    }).pipe(as(admin))
  )

  it.effect("run the latest payload after a quiet time, under the limits of the first", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const rules = yield* LimitRules
      yield* rules.create(
        Schema.decodeUnknownSync(CreateLimit)({ name: "per-document", key: "labels.document", concurrency: 1 })
      )
      const latest = { labels: { document: "d" }, coalesce: { key: "document/d", keep: "latest", quiet_ms: 250 } }
      const [first, ...others] = yield* Effect.forEach([1, 2, 3], (n) => ask({ payload: { n }, ...latest }))
      expect(others.map(({ id }) => id)).toEqual([first?.id, first?.id])
      const done = first === undefined ? undefined : yield* tasks.wait(first.id, inTime)
      expect(done).toMatchObject({ status: "completed", attempt: 1, result: { data: { echo: { n: 3 } } } })
    }).pipe(as(admin))
  )

  it.effect("are refused with 4xx and the field when they cannot join, and nothing changes", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("other-gatherer")
      const waiting = yield* ask({ payload: 1, ...all("picky") })
      const refused = (fields: object) => Effect.flip(ask({ payload: 2, ...all("picky"), ...fields }))
      expect(yield* refused({ agent: "other-gatherer" })).toMatchObject({
        _tag: "CoalesceMismatch",
        field: "agent",
        task_id: waiting.id
      })
      expect(yield* refused({ type: "other" })).toMatchObject({ _tag: "CoalesceMismatch", field: "type" })
      expect(yield* refused({ coalesce: { key: "picky", keep: "latest", quiet_ms: 5 } })).toMatchObject({
        field: "coalesce.keep"
      })
      expect(yield* refused({ run_at: "2020-01-01T00:00:00Z" })).toMatchObject({ errors: [{ field: "run_at" }] })
      expect(yield* refused({ ...unique("picky") })).toMatchObject({ errors: [{ field: "unique" }] })
      const large = "x".repeat(Limits.payloadBytesMax)
      expect(yield* refused({ payload: large })).toMatchObject({ _tag: "TooLarge", field: "payload" })
      expect(yield* tasks.get(waiting.id)).toMatchObject({ payload: [1], version: 1 })
      yield* tasks.cancel(waiting.id, undefined)
    }).pipe(as(admin))
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a task that must start in time", (it) => {
  const soon = Duration.seconds(20)

  it.effect("ends as timeout with a code of its own when nobody starts it, and only then", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("occupied", { configuration: { max_concurrent_tasks: 1 } })
      const within = (queue_timeout_ms: number, timeout_ms = 300) => ({
        ...{
          type: "echo",
          agent: "occupied",
          configuration: { queue_timeout_ms, timeout_ms, retry: { max_attempts: 1 } }
        }
      })
      const begun = yield* ask({ ...within(60_000), payload: { sleep_ms: 60_000 } })
      expect(yield* tasks.wait(begun.id, soon)).toMatchObject({
        status: "timeout",
        configuration: { queue_timeout_ms: 60_000 },
        result: { error: { code: "timeout" } }
      })
      const occupying = yield* ask({ agent: "occupied", payload: { sleep_ms: 60_000 } })
      yield* Effect.repeat(tasks.get(occupying.id), { until: ({ status }) => status === "running" })
      const late = yield* ask(within(1))
      const dead = yield* ask({
        ...within(60_000),
        deadline: DateTime.formatIso(DateTime.add(yield* DateTime.now, { milliseconds: 300 }))
      })
      const nobody = yield* ask({ type: "nobody.can", configuration: { queue_timeout_ms: 1 } })
      const graph = yield* tasks.submitGraph(
        submitGraph({ tasks: { late: within(1), after: { type: "echo", dependencies: ["late"] } } })
      )
      const ends = yield* Effect.forEach(
        [late.id, dead.id, nobody.id, graph.tasks["late"], graph.tasks["after"]],
        (id) => (id === undefined ? Effect.succeed(undefined) : tasks.wait(id, soon)),
        { concurrency: "unbounded" }
      )
      expect(ends.map((task) => [task?.status, task?.result?.error?.code])).toEqual([
        ["timeout", "queue_timeout"],
        ["timeout", "deadline"],
        ["timeout", "queue_timeout"],
        ["timeout", "queue_timeout"],
        ["failed", "dependency_failed"]
      ])
      expect(ends[0]).toMatchObject({ attempt: 0, started_at: null })
      yield* tasks.cancel(occupying.id, undefined)
    }).pipe(as(admin))
  )

  it.effect("is not for a map, which is not started itself", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const map = {
        ...{ type: "echo", dependencies: ["list"], configuration: { queue_timeout_ms: 5 } },
        map: { over: { $result: "list" } }
      }
      const refused = yield* Effect.flip(
        tasks.submitGraph(submitGraph({ tasks: { list: { type: "echo" }, each: map } }))
      )
      expect(refused).toMatchObject({ errors: [{ field: "tasks.each.configuration.queue_timeout_ms" }] })
    }).pipe(as(admin))
  )
})
