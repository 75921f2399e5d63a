/**
 * Any graph, on real Postgres, against a naive model: random conditions, maps, edges and policies, random results and
 * failures, ends in random order, and the one that carries on with graphs crashing before or after any of its commits.
 */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Random, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as GraphRunner from "../../actors/GraphRunner.ts"
import type { GraphLedger } from "../../actors/ports/GraphLedger.ts"
import { Ledger, LedgerUnavailable, type Settlement, type Slot } from "../../actors/ports/Ledger.ts"
import type { Condition } from "../../protocol/Condition.ts"
import { AgentId, type TaskId, type TaskType } from "../../protocol/Ids.ts"
import { type Graph, isTerminal, type SubmitGraph, type TaskStatus } from "../../protocol/Task.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { brokenHistories, home } from "../ledger/LedgerHarness.ts"
import { admin, as } from "./as.ts"
import { layer as cases, echoAgent, submitGraph } from "./Cases.ts"

const back = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 }))
const mostly = Schema.Literals([true, true, true, true, true, false])

/** A task of a random graph. `back` counts to an earlier one: every graph is without cycles. */
const Node = Schema.Struct({
  completes: mostly,
  /** Its result, if it completes: a number, and a list of so many elements of which these fail. */
  n: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3 })),
  elements: Schema.Array(mostly).check(Schema.isMaxLength(5)),
  parents: Schema.Array(
    Schema.Struct({
      back,
      on: Schema.Literals(["completed", "ended"]),
      required: Schema.Boolean,
      if_skipped: Schema.Literals(["skip", "run"])
    })
  ).check(Schema.isBetweenLength(1, 3)),
  step: Schema.Literals(["none", "none", "none", "greater", "exists", "not", "map", "map", "conditional map"]),
  limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
  on_failure: Schema.Literals(["fail", "fail_fast", "continue"])
})
type Node = typeof Node.Type

const key = (index: number) => `t${index}`

interface Edge {
  readonly task: string
  readonly on: "completed" | "ended"
  readonly required: boolean
  readonly if_skipped: "skip" | "run"
}

const edgesOf = (nodes: ReadonlyArray<Node>, index: number): ReadonlyArray<Edge> => [
  ...new Map(
    (nodes[index]?.parents ?? [])
      .filter((parent) => parent.back <= index)
      .map(({ back, ...edge }) => [back, { task: key(index - back), ...edge }] as const)
  ).values()
]

const conditionOf = (node: Node, parent: string): Condition | undefined => {
  const exists: Condition = { $result: parent, path: "/n", exists: true }
  const greater: Condition = { $result: parent, path: "/n", greater: 1 }
  if (node.step === "greater") return greater
  if (node.step === "exists") return exists
  if (node.step === "not") return { any: [{ not: greater }, { all: [exists, { not: exists }] }] }
  return node.step === "conditional map" ? { $result: parent, path: "/n", in: [1, 2, 3] } : undefined
}

const isMap = (node: Node) => node.step === "map" || node.step === "conditional map"

const graphOf = (nodes: ReadonlyArray<Node>, failFast: boolean): SubmitGraph =>
  submitGraph({
    on_failure: failFast ? "fail_fast" : "continue",
    tasks: Object.fromEntries(
      nodes.map((node, index) => {
        const dependencies = edgesOf(nodes, index)
        const first = dependencies[0]?.task
        const when = first === undefined ? undefined : conditionOf(node, first)
        const map = { over: { $result: first, path: "/items" }, on_failure: node.on_failure, max_parallel: node.limit }
        return [
          key(index),
          {
            agent: "model",
            payload: first !== undefined && isMap(node) ? { ok: { $item: "" } } : { key: index },
            configuration: { retry: { max_attempts: 1 } },
            dependencies,
            ...(when !== undefined && { when }),
            ...(first !== undefined && isMap(node) && { map })
          }
        ]
      })
    )
  })

/** What a task can come to, by how its parents ended: more than one when the order of their ends decides. */
const allowed = (
  nodes: ReadonlyArray<Node>,
  index: number,
  ended: ReadonlyMap<string, Graph["tasks"][number]>
): ReadonlyArray<TaskStatus> => {
  const node = nodes[index]
  if (node === undefined) return []
  const edges = edgesOf(nodes, index)
  const broken = edges.flatMap(({ if_skipped, on, required, task }): ReadonlyArray<TaskStatus> => {
    const parent = ended.get(task)
    const skipped = parent?.status === "cancelled"
    if (parent?.status === "completed" || on === "ended" || (skipped && if_skipped === "run")) return []
    return [skipped || !required ? "cancelled" : "failed"]
  })
  if (broken.length > 0) return broken
  const plain: TaskStatus = node.completes ? "completed" : "failed"
  const [first] = edges
  if (first === undefined) return [plain]
  const parent = nodes[Number(first.task.slice(1))]
  const wasMap = ended.get(first.task)?.map !== undefined
  const hasData = ended.get(first.task)?.status === "completed" && !wasMap
  const n = hasData ? parent?.n : undefined
  const condition: Partial<Record<Node["step"], boolean>> = {
    greater: n !== undefined && n > 1,
    exists: n !== undefined,
    not: !(n !== undefined && n > 1),
    "conditional map": n !== undefined && n >= 1
  }
  if (condition[node.step] === false) return ["cancelled"]
  if (!isMap(node)) return [plain]
  if (!hasData) return ["failed"]
  return [node.on_failure === "continue" || parent?.elements.every(Boolean) === true ? "completed" : "failed"]
}

/** Crashes about a third of the time: half of them before the commit, half after it. */
const unreliable = (graphs: GraphLedger): GraphLedger => {
  const crash = Effect.fail(new LedgerUnavailable({ operation: "crash", message: "a crash, on purpose" }))
  const shaky = <A>(commit: Effect.Effect<A, LedgerUnavailable>) =>
    Effect.flatMap(Random.nextIntBetween(0, 6), (draw) =>
      draw === 0 ? crash : draw === 1 ? Effect.andThen(commit, crash) : commit
    )
  return {
    ...graphs,
    decide: (id, decision) => shaky(graphs.decide(id, decision)),
    expand: (id, portion) => shaky(graphs.expand(id, portion)),
    advance: (id) => shaky(graphs.advance(id)),
    cancelRest: (id, limit) => shaky(graphs.cancelRest(id, limit)),
    cancelGraph: (id, limit) => shaky(graphs.cancelGraph(id, limit))
  }
}

const runner = Layer.unwrap(
  Effect.map(Ledger, (ledger) =>
    GraphRunner.layer.pipe(
      Layer.provide(Layer.succeed(Ledger, Ledger.of({ ...ledger, graphs: unreliable(ledger.graphs) }))),
      Layer.provide(
        Layer.effect(
          GraphRunner.GraphRunnerLimits,
          Effect.map(GraphRunner.GraphRunnerLimits, (limits) => ({
            ...limits,
            portionTasks: 2,
            sweepEvery: Duration.millis(5)
          }))
        )
      )
    )
  )
)

/** Claims what is queued, a few at a time and in any order, and ends it as the graph says, until all has ended. */
const carryOut = Effect.fnUntraced(function* (slot: Slot, graph: Graph["id"], nodes: ReadonlyArray<Node>) {
  const ledger = yield* Ledger
  const sql = yield* SqlClient.SqlClient
  const begun = new Map<string, number>()
  for (let round = 0; round < 2_000; round++) {
    const open = yield* sql<{ readonly id: TaskId; readonly status: TaskStatus; readonly payload: unknown }>`
      select id, status, payload from tasks where graph_id = ${graph} and status in ('pending', 'queued', 'running')
    `
    if (open.length === 0) return begun
    const wanted = (yield* Random.shuffle(open.filter(({ status }) => status === "queued"))).slice(0, 3)
    if (wanted.length === 0) {
      yield* Effect.sleep("2 millis")
      continue
    }
    const order = { namespace: home, name: "x", type: "echo" as TaskType, lane: "normal", max_attempts: 1 } as const
    const { claimed } = yield* ledger.claim(
      slot,
      wanted.map(({ id }) => ({ id, ...order }))
    )
    for (const { attempt, id } of yield* Random.shuffle(claimed)) {
      begun.set(id, (begun.get(id) ?? 0) + 1)
      const [early] = yield* sql`
        select 1 from task_dependencies d join tasks p on p.id = d.parent_id
        where d.child_id = ${id} and p.completed_at is null
      `
      expect(early, "a task began before its parents had ended").toBeUndefined()
      const payload = Plan.make(wanted.find((task) => task.id === id)?.payload)
      const node = "key" in payload ? nodes[payload.key] : undefined
      const completes = "ok" in payload ? payload.ok : node?.completes === true
      const data = node === undefined ? {} : { n: node.n, items: node.elements }
      yield* ledger.settle(slot, { id, namespace: home, attempt, trace: undefined }, completes ? done(data) : failed)
    }
  }
  return yield* Effect.die(new Error("a graph did not end"))
})

/** Codes and statuses of all tasks of all graphs: that the model was asked about what matters. */
const seen = new Set<string>()

const Plan = {
  make: Schema.decodeUnknownSync(
    Schema.Union([Schema.Struct({ ok: Schema.Boolean }), Schema.Struct({ key: Schema.Int })])
  )
}
const done = (data: Schema.Json): Settlement => ({ _tag: "Completed", data, dataBytes: 20, executionMillis: 1 })
const failed: Settlement = { _tag: "Failed", error: { code: "no", message: "as planned" }, executionMillis: 1 }

/** Two of them, as on two nodes, which find the same things due. */
const runners = Layer.mergeAll(runner, Layer.fresh(runner))

layer(runners.pipe(Layer.provideMerge(cases)), { excludeTestServices: true, timeout: "60 seconds" })(
  "any graph of steps",
  (it) => {
    it.effect.prop(
      "ends as a naive model says, each task begun at most once and never before its parents",
      {
        nodes: Schema.Array(Node).check(Schema.isBetweenLength(6, 14)),
        failFast: Schema.Literals([true, false, false])
      },
      ({ failFast, nodes }) =>
        Effect.gen(function* () {
          const tasks = yield* Tasks
          const ledger = yield* Ledger
          const agent = yield* Effect.orElseSucceed(echoAgent("model"), () => undefined)
          const sql = yield* SqlClient.SqlClient
          const [row] = yield* sql<{ readonly id: string }>`select id from agents where name = 'model'`
          const agentId = AgentId.make(agent?.id ?? row?.id ?? "")
          const { epoch } = yield* ledger.takeOver({ agentId, index: 0 })
          const accepted = yield* tasks.submitGraph(graphOf(nodes, failFast))
          const begun = yield* carryOut({ namespace: home, agentId, index: 0, epoch }, accepted.id, nodes)
          const graph = yield* tasks.graph(accepted.id)
          const ended = new Map(graph.tasks.map((task) => [task.key as string, task]))
          const isFailed = ({ status }: { readonly status: TaskStatus }) => status === "failed" || status === "timeout"
          for (const { error, map, status } of graph.tasks) {
            seen.add(error?.code ?? status)
            if (map !== undefined) seen.add(`map of ${map.total} ${status}`)
          }
          for (const [index, node] of nodes.entries()) {
            const task = ended.get(key(index))
            expect(isTerminal(task?.status ?? "pending")).toBe(true)
            const cut = task?.error?.code === "graph_failed"
            if (cut) {
              expect(failFast && graph.tasks.some(isFailed)).toBe(true)
              continue
            }
            const behindCut = edgesOf(nodes, index).some((edge) => ended.get(edge.task)?.error?.code === "graph_failed")
            if (!behindCut)
              expect(allowed(nodes, index, ended), `${key(index)} of ${JSON.stringify(nodes)}`).toContain(task?.status)
            if (task?.map !== undefined && task.status === "completed") {
              const total = Object.values(task.map.counts).reduce((sum, count) => sum + count, 0)
              expect(total).toBe(task.map.total)
            }
            expect(node.step === "none" && task?.status === "completed" ? begun.get(task.id) : 1).toBe(1)
          }
          for (const count of begun.values()) expect(count).toBe(1)
          const doubled = yield* sql`
            select m.map_id, m.index from map_elements m join tasks t on t.id = m.task_id join tasks p on p.id = m.map_id
            where p.graph_id = ${accepted.id} and (t.parent_id <> m.map_id or t.name <> p.name || '[' || m.index || ']')
          `
          expect(doubled).toEqual([])
        }).pipe(as(admin)),
      { arbitrary: { runs: 120 }, timeout: 60_000 }
    )

    it.effect("came to everything that a graph can come to", () =>
      Effect.sync(() => {
        const kinds = [
          "completed",
          "no",
          "dependency_failed",
          "skipped",
          "map_failed",
          "map_not_a_list",
          "graph_failed"
        ]
        const maps = ["map of 0 completed", "map of 3 completed", "map of 5 completed", "map of 4 failed"]
        expect([...seen]).toEqual(expect.arrayContaining([...kinds, ...maps]))
      })
    )

    it.effect("leaves histories without a gap, and nothing due", () =>
      Effect.gen(function* () {
        expect(yield* brokenHistories).toEqual([])
        yield* Effect.sleep("200 millis")
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select task_id from graph_steps where due`).toEqual([])
        expect(yield* sql`select id from graphs where ending is not null`).toEqual([])
      })
    )
  }
)
