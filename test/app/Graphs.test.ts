/** Graphs through the use cases, on real Postgres: maps, conditions, policies, and graphs as wholes. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Schema } from "effect"
import { GraphRunnerLimits } from "../../actors/GraphRunner.ts"
import { type GraphId, TaskId } from "../../protocol/Ids.ts"
import { Graph, GraphSummary } from "../../protocol/Task.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { brokenHistories } from "../ledger/LedgerHarness.ts"
import { admin, as, stranger } from "./as.ts"
import { running as cases, echoAgent, submitGraph } from "./Cases.ts"

const patient = Duration.seconds(20)

/** Small portions, so that little maps take several. */
const running = cases.pipe(
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

const echo = (payload: unknown, over: object = {}) => ({ type: "echo", agent: "worker", payload, ...over })
const fails = (over: object = {}) => echo({ fail: { times: 99 } }, { configuration: { retry: { max_attempts: 1 } }, ...over })
const list = (items: unknown) => echo({ items: { $literal: items } })
const over = { $result: "list", path: "/echo/items" }

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("a graph", (it) => {
  it.effect("runs one task per element, in order, and hands their results on", () =>
    Effect.gen(function* () {
      yield* echoAgent("worker", { configuration: { max_concurrent_tasks: 4 } })
      const { all, graph } = yield* run({
        list: list([{ n: "a" }, { n: "b" }, { n: { $result: "no reference but data" } }, { n: "d" }]),
        each: echo({ name: { $item: "/n" }, at: { $index: true }, from: { $result: "list", path: "/echo/items/0/n" } }, {
          map: { over, max_parallel: 2 },
          dependencies: ["list"]
        }),
        last: echo({ third: { $result: "each", path: "/2/data/echo" }, all: { $result: "each" } }, { dependencies: ["each"] })
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
})
