/** Graphs as large as they may be, run to their end on real Postgres. No transaction may come near the statement timeout. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Metric } from "effect"
import * as Limits from "../../protocol/Limits.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { brokenHistories } from "../ledger/LedgerHarness.ts"
import { admin, as } from "./as.ts"
import { echoAgent, running, submitGraph } from "./Cases.ts"

const workers = Layer.effectDiscard(
  as(admin)(echoAgent("worker", { configuration: { max_concurrent_tasks: 500 } }))
).pipe(Layer.provideMerge(running))

const echo = (dependencies: ReadonlyArray<string> = []) => ({ agent: "worker", dependencies })
const name = (index: number) => `t${index}`

/** Runs a graph to its end. How its tasks ended. */
const run = Effect.fnUntraced(function* (what: string, tasks: Record<string, object>) {
  const accepted = yield* (yield* Tasks).submitGraph(submitGraph({ tasks }))
  const graphs = yield* Graphs
  const wait = graphs.wait(accepted.id, Duration.minutes(1))
  const [took, graph] = yield* Effect.timed(Effect.repeat(wait, { until: ({ ended }) => ended, times: 5 }))
  yield* Effect.logDebug(`${what}: ${Math.round(Duration.toMillis(took))} ms`)
  return graph
})

layer(workers, { excludeTestServices: true, timeout: "120 seconds" })("a graph of 10,000 tasks", (it) => {
  it.effect(
    "fans out and in",
    () =>
      Effect.gen(function* () {
        const middle = Array.from({ length: Limits.graphTasksMax - 12 }, (_, index) => name(index))
        // A task has at most 1,000 parents: in by ten, then by one.
        const joins = Array.from(
          { length: 10 },
          (_, join) => [`join${join}`, echo(middle.filter((_, index) => index % 10 === join))] as const
        )
        const graph = yield* run("fan-out", {
          first: echo(),
          ...Object.fromEntries(middle.map((key) => [key, echo(["first"])])),
          ...Object.fromEntries(joins),
          last: echo(joins.map(([key]) => key))
        })
        expect(graph.counts).toEqual({ completed: Limits.graphTasksMax })
      }).pipe(as(admin)),
    120_000
  )

  it.effect(
    "in a chain",
    () =>
      Effect.gen(function* () {
        const tasks = Array.from({ length: Limits.graphTasksMax }, (_, index) => [
          name(index),
          echo(index === 0 ? [] : [name(index - 1)])
        ])
        const graph = yield* run("chain", Object.fromEntries(tasks))
        expect(graph.counts).toEqual({ completed: Limits.graphTasksMax })
      }).pipe(as(admin)),
    120_000
  )

  it.effect(
    "of any shape",
    () =>
      Effect.gen(function* () {
        const tasks = Array.from({ length: Limits.graphTasksMax }, (_, index) => {
          const parents = [index - 1 - ((index * 7) % 50), index - 1 - ((index * 31) % 400)]
          return [name(index), echo([...new Set(parents.filter((parent) => parent >= 0).map(name))])]
        })
        const graph = yield* run("any shape", Object.fromEntries(tasks))
        expect(graph.counts).toEqual({ completed: Limits.graphTasksMax })
      }).pipe(as(admin)),
    120_000
  )

  it.effect(
    "that are elements of one map",
    () =>
      Effect.gen(function* () {
        const graph = yield* run("map", {
          list: { agent: "worker", payload: { items: Array.from({ length: Limits.mapElementsMax }, (_, n) => n) } },
          each: {
            agent: "worker",
            payload: { n: { $item: "" } },
            map: { over: { $result: "list", path: "/echo/items" }, max_parallel: 500 },
            dependencies: ["list"]
          },
          last: {
            agent: "worker",
            payload: { n: { $result: "each", path: "/9999/data/echo/n" } },
            dependencies: ["each"]
          }
        })
        expect(graph.counts).toEqual({ completed: 3 })
        const [, each, last] = graph.tasks
        expect(each?.map).toEqual({ total: Limits.mapElementsMax, counts: { completed: Limits.mapElementsMax } })
        expect(last === undefined ? undefined : (yield* (yield* Tasks).get(last.id)).result?.data).toEqual({
          echo: { n: 9_999 }
        })
      }).pipe(as(admin)),
    120_000
  )

  it.effect(
    "is cancelled, and none of it is left",
    () =>
      Effect.gen(function* () {
        const tasks = Array.from({ length: Limits.graphTasksMax }, (_, index) => [
          name(index),
          index === 0 ? { agent: "worker", payload: { hang: true } } : echo([name(index - 1)])
        ])
        const accepted = yield* (yield* Tasks).submitGraph(submitGraph({ tasks: Object.fromEntries(tasks) }))
        const graphs = yield* Graphs
        const [took] = yield* Effect.timed(graphs.cancel(accepted.id, undefined))
        const graph = yield* graphs.wait(accepted.id, Duration.minutes(1))
        yield* Effect.logDebug(`cancel: ${Math.round(Duration.toMillis(took))} ms`)
        expect(graph.counts).toEqual({ cancelled: Limits.graphTasksMax })
        expect(graph.tasks.every(({ error }) => error?.code === "cancelled")).toBe(true)
      }).pipe(as(admin)),
    120_000
  )

  it.effect(
    "took no transaction longer than a third of what Postgres allows",
    () =>
      Effect.gen(function* () {
        const snapshots = yield* Metric.snapshot
        const longest = snapshots.flatMap((metric) =>
          metric.id === "datamcp_ledger_commit_seconds" && metric.type === "Histogram"
            ? [{ operation: metric.attributes?.["operation"], seconds: metric.state.max }]
            : []
        )
        expect(longest.length).toBeGreaterThan(5)
        expect(longest.filter(({ seconds }) => seconds > 5)).toEqual([])
        expect(yield* brokenHistories).toEqual([])
      }),
    60_000
  )
})
