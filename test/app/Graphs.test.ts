/** Graphs through the use cases, on real Postgres: maps, conditions, policies, and graphs as wholes. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { GraphRunnerLimits } from "../../actors/GraphRunner.ts"
import { type GraphId, TaskId } from "../../protocol/Ids.ts"
import { Graph, GraphSummary } from "../../protocol/Task.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { brokenHistories } from "../ledger/LedgerHarness.ts"
import { admin, as, stranger } from "./as.ts"
import { running as cases, echoAgent, submitGraph, submitTask } from "./Cases.ts"

const patient = Duration.seconds(8)

/** With an agent for all, and small portions, so that little maps take several. */
const running = Layer.effectDiscard(
  as(admin)(echoAgent("worker", { configuration: { max_concurrent_tasks: 4 } }))
).pipe(
  Layer.provideMerge(cases),
  Layer.provide(
    Layer.effect(
      GraphRunnerLimits,
      Effect.map(GraphRunnerLimits, (limits) => ({ ...limits, portionTasks: 3, sweepEvery: Duration.millis(200) }))
    )
  )
)

/** Submits a graph and waits for its end. */
const run = Effect.fnUntraced(function* (tasks: Record<string, object>, over: object = {}) {
  const accepted = yield* (yield* Tasks).submitGraph(submitGraph({ tasks, ...over }))
  return yield* ended(accepted.id)
})

const ended = Effect.fnUntraced(function* (id: GraphId) {
  const graph = yield* (yield* Graphs).wait(id, patient)
  const all = Object.fromEntries(graph.tasks.map((task) => [task.key as string, task]))
  return { graph, all, statuses: Object.fromEntries(graph.tasks.map(({ key, status }) => [key, status])) }
})

/** The result data of a task, and its error. */
const resultOf = Effect.fnUntraced(function* (id: string | undefined) {
  const task = yield* (yield* Tasks).get(TaskId.make(id ?? ""))
  return { data: task.result?.data, error: task.result?.error, task }
})

/** Elements of a map that are there already. */
const madeOf = (map: Graph["tasks"][number]["map"]) =>
  Object.values(map?.counts ?? {}).reduce((sum, count) => sum + count, 0)

const echo = (payload: unknown, over: object = {}) => ({ type: "echo", agent: "worker", payload, ...over })
const fails = (over: object = {}) =>
  echo({ fail: { times: 99 } }, { configuration: { retry: { max_attempts: 1 } }, ...over })
const list = (items: unknown) => echo({ items: { $literal: items } })
const over = { $result: "list", path: "/echo/items" }

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a graph", (it) => {
  it.effect("runs one task per element, in order, and hands their results on", () =>
    Effect.gen(function* () {
      const { all, graph } = yield* run({
        list: list([{ n: "a" }, { n: "b" }, { n: { $result: "no reference but data" } }, { n: "d" }]),
        each: echo(
          { name: { $item: "/n" }, at: { $index: true }, from: { $result: "list", path: "/echo/items/0/n" } },
          {
            map: { over, max_parallel: 2 },
            dependencies: ["list"]
          }
        ),
        last: echo(
          { third: { $result: "each", path: "/2/data/echo" }, all: { $result: "each" } },
          { dependencies: ["each"] }
        )
      })
      expect(Schema.decodeUnknownSync(Graph)(graph, { onExcessProperty: "error" })).toEqual(graph)
      expect(all["each"]).toMatchObject({ status: "completed", map: { total: 4, counts: { completed: 4 } } })
      expect(all["each"]?.dependencies).toEqual(["list"])
      const each = yield* resultOf(all["each"]?.id)
      expect(each.data).toMatchObject([
        { status: "completed", data: { echo: { name: "a", at: 0, from: "a" } } },
        { status: "completed", data: { echo: { name: "b", at: 1, from: "a" } } },
        { status: "completed", data: { echo: { name: { $result: "no reference but data" }, at: 2, from: "a" } } },
        { status: "completed", data: { echo: { name: "d", at: 3, from: "a" } } }
      ])
      const last = yield* resultOf(all["last"]?.id)
      expect(last.data).toMatchObject({ echo: { third: { at: 2 }, all: each.data } })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("with a map over nothing completes at once; over no list or too long a one it fails and says why", () =>
    Effect.gen(function* () {
      const { all, statuses } = yield* run({
        list: list([]),
        none: echo({}, { map: { over }, dependencies: ["list"] }),
        after: echo({ none: { $result: "none" } }, { dependencies: ["none"] }),
        text: list("text"),
        noList: echo({}, { map: { over: { $result: "text", path: "/echo/items" } }, dependencies: ["text"] }),
        nothing: echo({}, { map: { over: { $result: "text", path: "/echo/other" } }, dependencies: ["text"] }),
        otherwise: echo(
          { n: { $item: "" } },
          {
            map: { over: { $result: "text", path: "/echo/other", default: [1, 2] } },
            dependencies: ["text"]
          }
        ),
        three: list([1, 2, 3]),
        tooLong: echo(
          {},
          {
            map: { over: { $result: "three", path: "/echo/items" }, max_items: 2 },
            dependencies: ["three"]
          }
        ),
        noItem: echo(
          { x: { $item: "/x" } },
          {
            map: { over: { $result: "three", path: "/echo/items" } },
            dependencies: ["three"]
          }
        )
      })
      expect(statuses).toMatchObject({ none: "completed", after: "completed", otherwise: "completed" })
      expect((yield* resultOf(all["after"]?.id)).data).toEqual({ echo: { none: [] } })
      for (const [key, code] of [
        ["noList", "map_not_a_list"],
        ["nothing", "map_not_a_list"],
        ["tooLong", "map_too_long"],
        ["noItem", "map_item"]
      ] as const) {
        expect({ key, error: all[key]?.error }).toMatchObject({ key, error: { code } })
        expect(all[key]).toMatchObject({ status: "failed", map: { counts: {} } })
      }
    }).pipe(as(admin))
  )

  it.effect("with a map whose elements do not all complete fails, fails at once, or goes on, as it says", () =>
    Effect.gen(function* () {
      const items = [{ fail: false }, { fail: true }, { fail: false }, { fail: false }, { fail: false }]
      const each = (map: object, over: object = {}) => ({
        ...echo({ fail: { $item: "/fail" } }, { configuration: { retry: { max_attempts: 1 } }, ...over }),
        map: { over: { $result: "list", path: "/echo/items" }, ...map },
        dependencies: ["list"]
      })
      const { all, statuses } = yield* run({
        list: list(items),
        fail: each({}),
        failFast: each({ on_failure: "fail_fast", max_parallel: 1 }),
        goOn: each({ on_failure: "continue", max_parallel: 3 }),
        after: echo({ second: { $result: "goOn", path: "/1/status" } }, { dependencies: ["goOn"] })
      })
      expect(statuses).toMatchObject({ fail: "failed", failFast: "failed", goOn: "completed", after: "completed" })
      expect(all["fail"]).toMatchObject({ error: { code: "map_failed" }, map: { counts: { completed: 4, failed: 1 } } })
      expect(all["goOn"]?.map?.counts).toEqual({ completed: 4, failed: 1 })
      expect(all["failFast"]).toMatchObject({
        error: { code: "dependency_failed" },
        map: { counts: { completed: 1, failed: 1, cancelled: 3 } }
      })
      expect((yield* resultOf(all["after"]?.id)).data).toEqual({ echo: { second: "failed" } })
      const { data } = yield* resultOf(all["fail"]?.id)
      expect(data).toMatchObject([
        { status: "completed" },
        { status: "failed", error: { code: "failed_on_request" } },
        {},
        {},
        {}
      ])
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect(
    "keeps at most so many elements of a map under way, and hands on results that are too large for its own",
    () =>
      Effect.gen(function* () {
        const { all } = yield* run({
          list: list(Array.from({ length: 8 }, (_, n) => n)),
          each: echo(
            { sleep_ms: 5, result_bytes: 100_000 },
            {
              map: { over, max_parallel: 2 },
              dependencies: ["list"]
            }
          ),
          last: echo({ size: { $result: "each", path: "/7/data" } }, { dependencies: ["each"] })
        })
        const each = yield* resultOf(all["each"]?.id)
        const entries = Schema.decodeUnknownSync(Schema.Array(Schema.Record(Schema.String, Schema.Json)))(each.data)
        expect(entries.map((entry) => "data" in entry)).toEqual([true, true, ...Array(6).fill(false)])
        expect(JSON.stringify((yield* resultOf(all["last"]?.id)).data).length).toBeGreaterThan(100_000)
        const sql = yield* SqlClient.SqlClient
        const [most] = yield* sql<{ readonly live: number }>`
        select max(live)::int as live from (
          select sum(case when e.type in ('TaskCompleted') then -1 else 1 end) over (order by e.at, e.type) as live
          from events e join tasks t on t.id = e.aggregate
          where t.parent_id = ${all["each"]?.id ?? ""} and e.type in ('TaskQueued', 'TaskCompleted')
        ) l
      `
        expect(most?.live).toBeLessThanOrEqual(2)
        const order = yield* sql<{ readonly name: string }>`
        select t.name from events e join tasks t on t.id = e.aggregate
        where t.parent_id = ${all["each"]?.id ?? ""} and e.type = 'TaskQueued' order by e.at, t.id
      `
        expect(order.map(({ name }) => name)).toEqual(Array.from({ length: 8 }, (_, n) => `each[${n}]`))
      }).pipe(as(admin))
  )

  it.effect("runs a task when its condition holds, skips it when not, and skips or runs what depends on it", () =>
    Effect.gen(function* () {
      const { all, statuses } = yield* run({
        check: echo({ ok: true, n: 3 }),
        yes: echo({}, { when: { $result: "check", path: "/echo/ok", equals: true }, dependencies: ["check"] }),
        no: echo(
          {},
          {
            when: { all: [{ $result: "check", path: "/echo/n", greater: 3 }, { not: { any: [] } }] },
            dependencies: ["check"]
          }
        ),
        skipsToo: echo({}, { dependencies: ["no"] }),
        join: echo(
          { no: { $result: "no", path: "/echo", default: "skipped" }, yes: { $result: "yes", path: "/echo" } },
          {
            dependencies: ["yes", { task: "no", if_skipped: "run" }]
          }
        ),
        ended: echo({}, { dependencies: [{ task: "skipsToo", on: "ended" }] }),
        none: echo(
          {},
          {
            when: { $result: "check", path: "/echo/n", in: [1, 2] },
            map: { over: { $result: "check" } },
            dependencies: ["check"]
          }
        )
      })
      expect(statuses).toEqual({
        check: "completed",
        yes: "completed",
        no: "cancelled",
        skipsToo: "cancelled",
        join: "completed",
        ended: "completed",
        none: "cancelled"
      })
      for (const key of ["no", "skipsToo", "none"]) expect(all[key]?.error).toMatchObject({ code: "skipped" })
      expect((yield* resultOf(all["join"]?.id)).data).toMatchObject({ echo: { no: "skipped" } })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("that fails fast cancels what has not ended, but not for a failure that its dependents make do with", () =>
    Effect.gen(function* () {
      const tasks = {
        slow: echo({ sleep_ms: 60_000 }),
        waits: echo({}, { dependencies: ["slow"] }),
        bad: fails(),
        child: echo({}, { dependencies: ["bad"] })
      }
      const fast = yield* run(tasks, { on_failure: "fail_fast" })
      expect(fast.statuses).toEqual({ slow: "cancelled", waits: "cancelled", bad: "failed", child: "failed" })
      expect(fast.all["slow"]?.error).toMatchObject({ code: "graph_failed" })
      const tolerant = yield* run(
        {
          bad: fails(),
          cleanUp: echo({}, { dependencies: [{ task: "bad", on: "ended" }] }),
          other: echo({ sleep_ms: 50 })
        },
        { on_failure: "fail_fast" }
      )
      expect(tolerant.statuses).toEqual({ bad: "failed", cleanUp: "completed", other: "completed" })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("is cancelled as a whole, maps and all, and only once", () =>
    Effect.gen(function* () {
      const graphs = yield* Graphs
      const tasks = yield* Tasks
      const accepted = yield* tasks.submitGraph(
        submitGraph({
          tasks: {
            list: list([1, 2, 3, 4, 5]),
            each: echo({ sleep_ms: 60_000 }, { map: { over, max_parallel: 2 }, dependencies: ["list"] }),
            last: echo({}, { dependencies: ["each"] })
          }
        })
      )
      yield* tasks.wait(TaskId.make(accepted.tasks["list"] ?? ""), patient)
      yield* Effect.repeat(tasks.graph(accepted.id), {
        until: (graph) => graph.tasks.some(({ map }) => madeOf(map) === 5),
        schedule: Schedule.spaced("10 millis")
      })
      expect(yield* Effect.flip(graphs.cancel(accepted.id, "x").pipe(as(stranger)))).toMatchObject({
        _tag: "GraphNotFound"
      })
      yield* graphs.cancel(accepted.id, "enough")
      const { all, statuses } = yield* ended(accepted.id)
      expect(statuses).toEqual({ list: "completed", each: "cancelled", last: "cancelled" })
      expect(all["last"]?.error).toEqual({ code: "cancelled", message: "enough" })
      expect(all["each"]?.map?.counts).toEqual({ cancelled: 5 })
      expect(yield* Effect.flip(graphs.cancel(accepted.id, undefined))).toMatchObject({ _tag: "Conflict" })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("cancels the elements of a map that is cancelled by itself", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const accepted = yield* tasks.submitGraph(
        submitGraph({
          tasks: {
            list: list([1, 2, 3, 4, 5, 6, 7]),
            each: echo({ sleep_ms: 60_000 }, { map: { over }, dependencies: ["list"] })
          }
        })
      )
      const map = TaskId.make(accepted.tasks["each"] ?? "")
      yield* Effect.repeat(tasks.graph(accepted.id), {
        until: (graph) => graph.tasks.some(({ map }) => madeOf(map) === 7),
        schedule: Schedule.spaced("10 millis")
      })
      yield* tasks.cancel(map, undefined)
      const { all } = yield* ended(accepted.id)
      expect(all["each"]?.map?.counts).toEqual({ cancelled: 7 })
    }).pipe(as(admin))
  )

  it.effect("is retried: what completed stands, the rest runs again, elements of maps included", () =>
    Effect.gen(function* () {
      const graphs = yield* Graphs
      const each = echo(
        { fail: { $item: "/fail" }, at: { $index: true } },
        {
          configuration: { retry: { max_attempts: 1 } },
          map: { over },
          dependencies: ["list"]
        }
      )
      const first = yield* run({
        list: list([{ fail: false }, { fail: true }, { fail: false }]),
        good: echo({ n: 1 }),
        each,
        last: echo(
          { good: { $result: "good", path: "/echo/n" }, each: { $result: "each" } },
          {
            when: { $result: "good", path: "/echo/n", equals: 1 },
            dependencies: ["good", { task: "each", on: "ended" }, "alsoBad"]
          }
        ),
        alsoBad: fails()
      })
      expect(first.statuses).toMatchObject({ each: "failed", last: "failed", alsoBad: "failed", good: "completed" })
      const again = yield* graphs.retry(first.graph.id)
      const second = yield* ended(again.id)
      expect(second.graph.retry_of).toBe(first.graph.id)
      expect(second.statuses).toEqual(first.statuses)
      expect(second.all["good"]).toMatchObject({ id: first.all["good"]?.id, taken_over: true })
      expect(second.all["list"]?.id).toBe(first.all["list"]?.id)
      expect(second.all["each"]).toMatchObject({ dependencies: ["list"], map: { counts: { completed: 2, failed: 1 } } })
      const ids = (data: unknown) =>
        Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ task_id: TaskId, status: Schema.String })))(data)
      const before = ids((yield* resultOf(first.all["each"]?.id)).data)
      const after = ids((yield* resultOf(second.all["each"]?.id)).data)
      expect(after.map(({ task_id }, index) => task_id === before[index]?.task_id)).toEqual([true, false, true])
      // Again, over the second: what stands for tasks of the first is passed on.
      const third = yield* ended((yield* graphs.retry(again.id)).id)
      expect(third.statuses).toEqual(first.statuses)
      expect(third.all["good"]?.id).toBe(first.all["good"]?.id)
      const whole = yield* run({ a: echo({}) })
      expect(yield* Effect.flip(graphs.retry(whole.graph.id))).toMatchObject({ _tag: "Conflict" })
      expect(yield* Effect.flip(graphs.retry(first.graph.id).pipe(as(stranger)))).toMatchObject({
        _tag: "GraphNotFound"
      })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("stands in the list of its namespace, newest first, page by page", () =>
    Effect.gen(function* () {
      const graphs = yield* Graphs
      const newest = yield* run({ a: echo({}), b: fails() }, { name: "newest" })
      const [page] = yield* Effect.all([graphs.list({ limit: 2 })])
      expect(Schema.decodeUnknownSync(Schema.Array(GraphSummary))(page?.data, { onExcessProperty: "error" })).toEqual(
        page?.data
      )
      expect(page?.data[0]).toMatchObject({ id: newest.graph.id, name: "newest", counts: { completed: 1, failed: 1 } })
      const next = yield* graphs.list({ limit: 500, cursor: page?.next_cursor ?? "" })
      expect(next.data.every(({ id }) => id < (page?.data[1]?.id ?? ""))).toBe(true)
      expect(next.next_cursor).toBeNull()
      expect((yield* graphs.list({}).pipe(as(stranger))).data).toEqual([])
      expect(yield* Effect.flip(graphs.list({ cursor: "nonsense" }))).toMatchObject({ errors: [{ field: "cursor" }] })
    }).pipe(as(admin))
  )

  it.effect("is refused with the place of what is wrong in a map or a condition", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const fieldsOf = (given: Record<string, object>) =>
        Effect.map(Effect.flip(tasks.submitGraph(submitGraph({ tasks: given }))), (problem) =>
          problem._tag === "InvalidInput" ? problem.errors.map(({ field }) => field) : [problem._tag]
        )
      expect(
        yield* fieldsOf({
          a: echo({}),
          b: echo({}, { map: { over: { $result: "a" } } }),
          c: echo({ x: { $item: "no pointer" } }, { map: { over: { $result: "a" } }, dependencies: ["a"] }),
          d: echo({}, { when: { $result: "b", exists: true }, dependencies: ["a"] }),
          e: echo({}, { when: { all: [] }, dependencies: ["a"] }),
          f: echo({}, { when: { any: Array(101).fill({ $result: "a", exists: true }) }, dependencies: ["a"] })
        })
      ).toEqual(["tasks.b.map.over", "tasks.c.payload", "tasks.d.when", "tasks.e.when", "tasks.f.when"])
      for (const when of [
        { $result: "a" },
        { $result: "a", equals: 1, less: 2 },
        { $result: "a", path: "x", exists: true }
      ]) {
        expect(() => submitGraph({ tasks: { a: {}, b: { when, dependencies: ["a"] } } })).toThrow(
          /exactly one|JSON Pointer|Expected/
        )
      }
    }).pipe(as(admin))
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a task with others below it", (it) => {
  const below = Effect.fnUntraced(function* (parent: TaskId, payload: object) {
    const accepted = yield* (yield* Tasks).submit(submitTask({ agent: "worker", payload, parent_id: parent }))
    return accepted.id
  })

  it.effect("is awaited and cancelled with all of them, the cancelled ones recorded as such", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const graphs = yield* Graphs
      const top = (yield* tasks.submit(submitTask({ agent: "worker", payload: {} }))).id
      const child = yield* below(top, {})
      const grandchild = yield* below(child, { hang: true })
      expect(yield* graphs.waitTree(top, Duration.millis(50))).toMatchObject({ id: top, status: "completed" })
      expect((yield* tasks.get(grandchild)).completed_at).toBeNull()
      yield* graphs.cancelTree(top, "enough")
      expect(yield* tasks.get(grandchild)).toMatchObject({ status: "cancelled" })
      expect(yield* Effect.flip(graphs.cancelTree(top, undefined))).toMatchObject({ _tag: "Conflict" })
      const again = yield* below(child, { sleep_ms: 50 })
      expect(yield* graphs.waitTree(top, patient)).toMatchObject({ id: top })
      expect(yield* tasks.get(again)).toMatchObject({ status: "completed" })
      expect(yield* Effect.flip(graphs.cancelTree(top, undefined).pipe(as(stranger)))).toMatchObject({
        _tag: "TaskNotFound"
      })
    }).pipe(as(admin))
  )
})
