/** Graphs and trees that are paused as wholes, on a running node with real Postgres, and retries of graphs under a key. */
import { expect, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { GraphRunnerLimits } from "../../actors/GraphRunner.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { type GraphId, Namespace, TaskId } from "../../protocol/Ids.ts"
import type { Graph } from "../../protocol/Task.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { Signals } from "../../src/app/Signals.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { until } from "../actors/ActorHarness.ts"
import { brokenHistories } from "../ledger/LedgerHarness.ts"
import { admin, as, stranger } from "./as.ts"
import { running as cases, echoAgent, submitGraph, submitTask } from "./Cases.ts"

const running = Layer.effectDiscard(
  as(admin)(echoAgent("worker", { configuration: { max_concurrent_tasks: 4 } }))
).pipe(
  Layer.provideMerge(cases),
  Layer.provide(
    Layer.effect(
      GraphRunnerLimits,
      Effect.map(GraphRunnerLimits, (limits) => ({ ...limits, portionTasks: 3, sweepEvery: Duration.millis(100) }))
    )
  )
)

const echo = (payload: unknown, over: object = {}) => ({ type: "echo", agent: "worker", payload, ...over })
const fails = (over: object = {}) =>
  echo({ fail: { times: 99 } }, { configuration: { retry: { max_attempts: 1 } }, ...over })
const atMostOnce = { configuration: { delivery: "at_most_once" } }

const inAnHour = Effect.map(DateTime.now, (now) => DateTime.formatIso(DateTime.add(now, { hours: 1 })))

const begin = (tasks: Record<string, object>, over: object = {}) =>
  Effect.flatMap(Tasks, (all) => Effect.map(all.submitGraph(submitGraph({ tasks, ...over })), ({ id }) => id))
const pause = (id: GraphId, reason?: string) => Effect.flatMap(Graphs, (graphs) => graphs.pause(id, reason))
const resume = (id: GraphId) => Effect.flatMap(Graphs, (graphs) => graphs.resume(id))
const wait = (id: GraphId) => Effect.flatMap(Graphs, (graphs) => graphs.wait(id, Duration.seconds(10)))
const graphIn = (id: GraphId, wanted: (graph: Graph) => boolean) =>
  until(
    Effect.flatMap(Tasks, (tasks) => tasks.graph(id)),
    wanted
  )
const statuses = (graph: Graph) => Object.fromEntries(graph.tasks.map(({ key, status }) => [key, status]))
const get = (id: TaskId) => Effect.flatMap(Tasks, (tasks) => tasks.get(id))
const idOf = (graph: Graph, key: string) => TaskId.make(graph.tasks.find((task) => task.key === key)?.id ?? "")
const eventsOf = (id: TaskId) => Effect.flatMap(Tasks, (tasks) => tasks.events(id, { after: 0, limit: 500 }))
/** Another task of the same agent begins, takes its time and ends: whatever could have gone on would have, by then. */
const meanwhile = Effect.fnUntraced(function* (millis: number) {
  yield* wait(yield* begin({ other: echo({ sleep_ms: millis }) }))
})
const rowsOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`select phase from pauses where id = ${id}`
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a paused graph", (it) => {
  it.effect("starts nothing until it is resumed, then runs to its right end", () =>
    Effect.gen(function* () {
      const id = yield* begin({
        runs: echo({ sleep_ms: 400 }),
        later: echo({}, { run_at: yield* inAnHour }),
        behind: echo({}, { dependencies: ["runs"] })
      })
      yield* graphIn(id, (graph) => statuses(graph)["runs"] === "running")
      const paused = yield* pause(id, "the other side is down")
      expect(statuses(paused)).toEqual({ runs: "paused", later: "paused", behind: "paused" })
      expect(paused.paused).toEqual({ phase: "paused", actor: "key:admin", reason: "the other side is down" })
      expect(yield* pause(id)).toEqual(paused)
      yield* meanwhile(600)
      expect(statuses(yield* (yield* Tasks).graph(id))).toEqual({ runs: "paused", later: "paused", behind: "paused" })
      const resumed = yield* resume(id)
      expect(resumed.paused).toBeUndefined()
      expect(statuses(resumed)).toMatchObject({ later: "pending", behind: "pending" })
      const after = yield* graphIn(id, (graph) => statuses(graph)["behind"] === "completed")
      expect(after.counts).toEqual({ completed: 2, pending: 1 })
      const told = (yield* eventsOf(idOf(after, "runs"))).filter(({ type }) => /Paused|Resumed/u.test(type))
      expect(told).toMatchObject([
        {
          type: "TaskPaused",
          actor: "key:admin",
          data: { was: "running", reason: "the other side is down", graph: id }
        },
        { type: "TaskResumed", actor: "key:admin" }
      ])
      yield* (yield* Graphs).cancel(id, undefined)
      yield* wait(id)
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("lets its maps, conditions and held elements go on where they stood", () =>
    Effect.gen(function* () {
      const id = yield* begin({
        list: echo({ items: { $literal: [1, 2, 3, 4, 5, 6, 7, 8] } }),
        each: echo(
          { at: { $index: true }, sleep_ms: 150 },
          { map: { over: { $result: "list", path: "/echo/items" }, max_parallel: 2 }, dependencies: ["list"] }
        ),
        when: echo({}, { dependencies: ["list", "each"], when: { $result: "list", path: "/echo/none", exists: false } })
      })
      const begun = yield* graphIn(id, (graph) => {
        const counts = graph.tasks.find(({ key }) => key === "each")?.map?.counts ?? {}
        return (counts["completed"] ?? 0) > 0
      })
      yield* pause(id)
      const map = idOf(begun, "each")
      const before = yield* (yield* Tasks).list({ parent: map, status: ["completed"], limit: 100 })
      yield* meanwhile(500)
      const elements = yield* (yield* Tasks).list({ parent: map, limit: 100 })
      expect(elements.data.filter(({ status }) => status === "completed")).toHaveLength(before.data.length)
      expect(new Set(elements.data.map(({ status }) => status))).toEqual(new Set(["completed", "paused"]))
      yield* resume(id)
      const sql = yield* SqlClient.SqlClient
      let most = 0
      yield* until(
        Effect.gen(function* () {
          const [row] = yield* sql<{ readonly live: number; readonly ended: boolean }>`
            select count(*) filter (where status in ('queued', 'running'))::int as live,
              bool_and(status = 'completed') as ended from tasks where parent_id = ${map}`
          most = Math.max(most, row?.live ?? 0)
          return row?.ended === true
        }),
        (isOver) => isOver
      )
      expect(most).toBeLessThanOrEqual(2)
      expect((yield* wait(id)).counts).toEqual({ completed: 3 })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("keeps aside what was set aside by itself, and refuses to resume a single task of it", () =>
    Effect.gen(function* () {
      const id = yield* begin({ one: echo({ sleep_ms: 60_000 }), two: echo({ sleep_ms: 60_000 }) })
      const graph = yield* (yield* Tasks).graph(id)
      const signals = yield* Signals
      yield* signals.pause(idOf(graph, "one"), undefined)
      yield* pause(id)
      expect(yield* Effect.flip(signals.resume(idOf(graph, "two")))).toMatchObject({ _tag: "Conflict" })
      const resumed = yield* resume(id)
      expect(statuses(resumed)["one"]).toBe("paused")
      expect(statuses(resumed)["two"]).not.toBe("paused")
      yield* signals.resume(idOf(graph, "one"))
      expect(yield* Effect.flip(resume(id))).toMatchObject({ _tag: "Conflict" })
      yield* (yield* Graphs).cancel(id, undefined)
      yield* wait(id)
    }).pipe(as(admin))
  )

  it.effect("is cancelled, fails fast by what may run at most once, and counts what ended when it goes on", () =>
    Effect.gen(function* () {
      const cancelled = yield* begin({ one: echo({ sleep_ms: 60_000 }), two: echo({}, { dependencies: ["one"] }) })
      yield* pause(cancelled)
      yield* (yield* Graphs).cancel(cancelled, "no more")
      expect((yield* wait(cancelled)).counts).toEqual({ cancelled: 2 })
      expect(yield* rowsOf(cancelled)).toEqual([])
      expect(yield* Effect.flip(pause(cancelled))).toMatchObject({ _tag: "Conflict" })

      const slow = echo({ sleep_ms: 400, fail: { times: 99 } }, atMostOnce)
      const goesOn = yield* begin({
        slow,
        behind: echo({}, { dependencies: ["slow"] }),
        free: echo({ sleep_ms: 60_000 })
      })
      const fast = yield* begin({ slow, free: echo({ sleep_ms: 60_000 }) }, { on_failure: "fail_fast" })
      for (const id of [goesOn, fast]) {
        yield* graphIn(id, (graph) => statuses(graph)["slow"] === "running")
        expect(statuses(yield* pause(id))).toMatchObject({ slow: "running", free: "paused" })
      }
      expect(statuses(yield* wait(fast))).toEqual({ slow: "failed", free: "cancelled" })
      const stands = yield* graphIn(goesOn, (graph) => statuses(graph)["slow"] === "failed")
      expect(statuses(stands)).toEqual({ slow: "failed", behind: "paused", free: "paused" })
      yield* resume(goesOn)
      expect(statuses(yield* graphIn(goesOn, (graph) => statuses(graph)["behind"] !== "pending"))["behind"]).toBe(
        "failed"
      )
      yield* (yield* Graphs).cancel(goesOn, undefined)
      yield* wait(goesOn)
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("is carried through by itself when whoever paused or resumed it is gone", () =>
    Effect.gen(function* () {
      const { graphs } = yield* Ledger
      const keys = Array.from({ length: 20 }, (_, index) => `t${index}`)
      const id = yield* begin(Object.fromEntries(keys.map((key) => [key, echo({ sleep_ms: 60_000 })])))
      const home = (yield* (yield* Tasks).graph(id)).namespace
      const whole = { _tag: "Graph", id } as const
      yield* graphs.pause(home, whole, { actor: "key:gone", reason: undefined })
      yield* graphs.carryPause(id, 5)
      const paused = yield* graphIn(id, (graph) => graph.paused?.phase === "paused")
      expect(paused.counts).toEqual({ paused: 20 })
      expect(yield* graphs.resume(home, whole, "key:gone")).toBe(true)
      yield* graphs.carryPause(id, 5)
      const resumed = yield* graphIn(id, (graph) => graph.paused === undefined)
      expect(resumed.counts["paused"]).toBeUndefined()
      expect(yield* graphs.resume(Namespace.make("elsewhere"), whole, "key:gone")).toBe(false)
      yield* (yield* Graphs).cancel(id, undefined)
      yield* wait(id)
    }).pipe(as(admin))
  )

  it.effect("meets deadlines, and starts nothing again that failed and may run at most once", () =>
    Effect.gen(function* () {
      const deadline = DateTime.formatIso(DateTime.add(yield* DateTime.now, { milliseconds: 1200 }))
      const id = yield* begin({
        once: echo(
          { sleep_ms: 300, fail: { times: 1 } },
          { configuration: { delivery: "at_most_once", retry: { max_attempts: 3, delay_ms: 200 } } }
        ),
        late: echo({ sleep_ms: 60_000 }, { deadline }),
        behind: echo({}, { dependencies: [{ task: "late", on: "ended" }] })
      })
      yield* graphIn(id, (graph) => statuses(graph)["once"] === "running")
      yield* pause(id)
      const stands = yield* graphIn(id, (graph) => statuses(graph)["late"] === "timeout")
      yield* meanwhile(300)
      expect(statuses(stands)["behind"]).toBe("paused")
      const once = yield* get(idOf(stands, "once"))
      expect(once).toMatchObject({ attempt: 1 })
      yield* resume(id)
      expect(statuses(yield* wait(id))).toEqual({ once: "failed", late: "timeout", behind: "completed" })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("has the condition of a step looked at, or its list, when the step was paused by itself", () =>
    Effect.gen(function* () {
      const id = yield* begin({
        first: echo({ sleep_ms: 300, items: [1, 2, 3] }),
        never: echo({}, { when: { $result: "first", path: "/echo/none", exists: true }, dependencies: ["first"] }),
        each: echo(
          { n: { $item: "" } },
          { map: { over: { $result: "first", path: "/echo/items" } }, dependencies: ["first"] }
        )
      })
      const graph = yield* (yield* Tasks).graph(id)
      const signals = yield* Signals
      const steps = [idOf(graph, "never"), idOf(graph, "each")]
      yield* Effect.forEach(steps, (step) => signals.pause(step, undefined))
      yield* graphIn(id, (now) => statuses(now)["first"] === "completed")
      yield* meanwhile(300)
      expect(statuses(yield* (yield* Tasks).graph(id))).toEqual({ first: "completed", never: "paused", each: "paused" })
      yield* Effect.forEach(steps, (step) => signals.resume(step))
      const done = yield* wait(id)
      expect(statuses(done)).toEqual({ first: "completed", never: "cancelled", each: "completed" })
      expect(done.tasks.find(({ key }) => key === "each")?.map).toMatchObject({ total: 3, counts: { completed: 3 } })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("of another namespace, or that nobody knows, is not found", () =>
    Effect.gen(function* () {
      const id = yield* as(admin)(begin({ one: echo({}) }))
      expect(yield* Effect.flip(as(stranger)(pause(id)))).toMatchObject({ _tag: "GraphNotFound" })
      expect(yield* Effect.flip(as(stranger)(resume(id)))).toMatchObject({ _tag: "GraphNotFound" })
    })
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a paused tree", (it) => {
  it.effect("holds what is below, and what is submitted there later, until it is resumed", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const graphs = yield* Graphs
      const submit = (payload: unknown, over: object = {}) =>
        Effect.map(tasks.submit(submitTask({ agent: "worker", payload, ...over })), ({ id }) => id)
      const top = yield* submit({ sleep_ms: 1_500 }, atMostOnce)
      const child = yield* submit({}, { parent_id: top, run_at: yield* inAnHour })
      const grandchild = yield* submit({ sleep_ms: 60_000 }, { parent_id: child })
      yield* until(get(top), ({ status }) => status === "running")
      yield* graphs.pauseTree(top, undefined)
      expect((yield* get(top)).status).toBe("running")
      for (const id of [child, grandchild]) expect((yield* get(id)).status).toBe("paused")
      const late = yield* submit({}, { parent_id: top })
      const later = yield* submit({}, { parent_id: late })
      for (const id of [late, later]) expect((yield* get(id)).status).toBe("paused")
      yield* graphs.resumeTree(top)
      for (const id of [late, later]) yield* until(get(id), ({ status }) => status === "completed")
      expect((yield* get(child)).status).toBe("pending")
      expect(yield* Effect.flip(graphs.resumeTree(top))).toMatchObject({ _tag: "Conflict" })
      yield* graphs.cancelTree(top, undefined)
      expect(yield* Effect.flip(graphs.pauseTree(top, undefined))).toMatchObject({ _tag: "Conflict" })
      expect(yield* brokenHistories).toEqual([])
    }).pipe(as(admin))
  )

  it.effect("within a paused graph goes on when both are resumed", () =>
    Effect.gen(function* () {
      const graphs = yield* Graphs
      const id = yield* begin({ one: echo({ sleep_ms: 60_000 }) })
      const one = idOf(yield* (yield* Tasks).graph(id), "one")
      yield* pause(id)
      yield* graphs.pauseTree(one, undefined)
      yield* resume(id)
      expect((yield* get(one)).status).toBe("paused")
      expect((yield* graphs.resumeTree(one)).status).not.toBe("paused")
      yield* graphs.cancel(id, undefined)
      yield* wait(id)
    }).pipe(as(admin))
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a retry of a graph under a key", (it) => {
  it.effect("is accepted once, and the key refused for another", () =>
    Effect.gen(function* () {
      const graphs = yield* Graphs
      const tasks = { done: echo({}), bad: fails({ dependencies: ["done"] }) }
      const [first, other] = [yield* begin(tasks), yield* begin(tasks)]
      yield* wait(first)
      yield* wait(other)
      const answers = yield* Effect.all([graphs.retry(first, "again"), graphs.retry(first, "again")], {
        concurrency: "unbounded"
      })
      const { duplicate: _, ...answer } = yield* graphs.retry(first, "again")
      expect(answers.filter(({ duplicate }) => duplicate)).toHaveLength(1)
      for (const each of answers) expect(each).toMatchObject(answer)
      expect(Object.keys(answer.tasks).toSorted()).toEqual(["bad", "done"])
      expect(yield* Effect.flip(graphs.retry(other, "again"))).toMatchObject({ _tag: "IdempotencyMismatch" })
      expect((yield* graphs.retry(first)).id).not.toBe(answer.id)
    }).pipe(as(admin))
  )
})

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a large paused graph", (it) => {
  it.effect("of 10,000 tasks goes back to what it was", () =>
    Effect.gen(function* () {
      const others = Array.from(
        { length: 9_999 },
        (_, index) =>
          [`t${index}`, echo({}, { dependencies: ["first", ...(index > 0 ? [`t${index - 1}`] : [])] })] as const
      )
      const id = yield* begin({ first: echo({}, { run_at: yield* inAnHour }), ...Object.fromEntries(others) })
      const [pausing, paused] = yield* Effect.timed(pause(id))
      expect(paused).toMatchObject({ paused: { phase: "paused" }, counts: { paused: 10_000 } })
      const [resuming, resumed] = yield* Effect.timed(resume(id))
      expect(resumed.paused).toBeUndefined()
      expect(resumed.counts).toEqual({ pending: 10_000 })
      expect(resumed.tasks.find(({ key }) => key === "first")?.waiting_for).toBe("time")
      yield* Effect.logDebug(`paused in ${Duration.toMillis(pausing)} ms, resumed in ${Duration.toMillis(resuming)} ms`)
    }).pipe(as(admin))
  )
})
