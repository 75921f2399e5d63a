/** Dependencies: a child starts once, after all its parents ended as its policy says, whatever ends at the same moment. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Layer, Random, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask, type RunningTask, type Settlement, type Slot } from "../../actors/ports/Ledger.ts"
import { NodeName, type TaskId } from "../../protocol/Ids.ts"
import type { Dependency, TaskStatus } from "../../protocol/Task.ts"
import { LedgerLimits } from "../../src/ledger/Committing.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import {
  agent,
  brokenHistories,
  claim,
  completed,
  eventsOf,
  eventTypes,
  failed,
  home,
  layer as Live,
  lease,
  otherNode,
  row,
  rows,
  running,
  statuses,
  task,
  tasks,
  timedOut
} from "./LedgerHarness.ts"

const ids = (all: ReadonlyArray<{ readonly id: TaskId }>) => all.map(({ id }) => id)
const by = { actor: "key:test", reason: "enough" }

/** A ledger that commits a few rows at a time, so that what ends together ends in many transactions. */
const inSmallBatches = Effect.gen(function* () {
  const limits = yield* LedgerLimits
  const context = yield* Layer.build(Layer.fresh(PostgresLedger.layer(NodeName.make("n3")))).pipe(
    Effect.provideService(LedgerLimits, { ...limits, rowsMax: 7, lanes: 8 })
  )
  return yield* Ledger.pipe(Effect.provide(context))
})

/** Claims and settles all that is queued among these tasks until nothing is; `endOf` decides. */
const carryOn = Effect.fnUntraced(function* (
  slot: Slot,
  all: ReadonlyArray<NewTask>,
  ledgers: ReadonlyArray<Ledger["Service"]>,
  endOf: (id: TaskId) => Settlement
) {
  while (true) {
    const queued = new Set((yield* rows(ids(all))).flatMap(({ id, status }) => (status === "queued" ? [id] : [])))
    if (queued.size === 0) return
    const runs = yield* Random.shuffle(
      yield* claim(
        slot,
        all.filter(({ id }) => queued.has(id))
      )
    )
    yield* Effect.forEach(
      runs.entries(),
      ([index, run]) =>
        Effect.flatMap(Effect.fromNullishOr(ledgers[index % ledgers.length]), (ledger) =>
          ledger.settle(slot, run, endOf(run.id))
        ),
      { concurrency: "unbounded" }
    )
  }
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("dependencies", (it) => {
  describe("what a parent's end means for its child", () => {
    const ends: ReadonlyArray<readonly [Settlement | "cancel", ReadonlyArray<TaskStatus>]> = [
      [completed, ["queued", "queued", "queued", "queued"]],
      [failed, ["failed", "cancelled", "queued", "queued"]],
      [timedOut, ["failed", "cancelled", "queued", "queued"]],
      ["cancel", ["failed", "cancelled", "queued", "queued"]]
    ]
    const policies: ReadonlyArray<Omit<Dependency, "task_id">> = [
      {},
      { required: false },
      { on: "ended" },
      { on: "ended", required: false }
    ]
    for (const [end, expected] of ends) {
      it.effect(`when it is ${end === "cancel" ? "cancelled" : end._tag}`, () =>
        Effect.gen(function* () {
          const ledger = yield* Ledger
          const { agentId, runs, slot } = yield* running(1)
          const parent = yield* Effect.fromNullishOr(runs[0])
          const children = yield* tasks(4, (index) => ({
            agentId,
            dependencies: [{ task_id: parent.id, ...policies[index] }]
          }))
          yield* ledger.accept(children)
          expect(new Set(yield* statuses(ids(children)))).toEqual(new Set(["pending"]))
          if (end === "cancel") yield* ledger.cancel(home, [parent.id], by)
          else yield* ledger.settle(slot, parent, end)
          expect(yield* statuses(ids(children))).toEqual(expected)
          for (const child of yield* rows(ids(children))) {
            expect(child.waiting_for).toBeNull()
            const codes = { failed: "dependency_failed", cancelled: "skipped" }
            if (child.status === "failed" || child.status === "cancelled") {
              expect(child.result?.error).toMatchObject({ code: codes[child.status], details: { task_id: parent.id } })
            } else expect(child.result).toBeNull()
          }
        })
      )
    }

    it.effect("a retry or a release of the parent is no end", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs, slot } = yield* running(2)
        const children = yield* Effect.forEach(runs, ({ id }) =>
          task({ agentId, dependencies: [{ task_id: id, on: "ended" }] })
        )
        yield* ledger.accept(children)
        const [one, two] = runs
        if (one === undefined || two === undefined) return
        yield* ledger.settle(slot, one, {
          _tag: "Retry",
          error: { code: "x", message: "" },
          delayMillis: 60_000,
          executionMillis: 1
        })
        yield* ledger.settle(slot, two, { _tag: "Released" })
        expect(yield* statuses(ids(children))).toEqual(["pending", "pending"])
      })
    )

    it.effect("a child that is released waits for its time or its agent next", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs, slot } = yield* running(1)
        const parent = yield* Effect.fromNullishOr(runs[0])
        const dependencies = [{ task_id: parent.id }]
        const children = yield* Effect.forEach(
          [
            { agentId, runAt: "2099-01-01T00:00:00Z" },
            { agentId: undefined },
            { runAt: "2020-01-01T00:00:00Z", agentId }
          ],
          (over) => task({ dependencies, ...over })
        )
        yield* ledger.accept(children)
        yield* ledger.settle(slot, parent, completed)
        expect((yield* rows(ids(children))).map((each) => [each.status, each.waiting_for])).toEqual([
          ["pending", "time"],
          ["pending", "agent"],
          ["queued", null]
        ])
        expect((yield* eventsOf(children[0]?.id ?? ""))[1]).toMatchObject({
          type: "TaskQueued",
          data: { waiting_for: "time" }
        })
      })
    )
  })

  describe("at the same moment", () => {
    it.effect("200 parents that end in many transactions start their child once", () =>
      Effect.gen(function* () {
        const ledgers = [yield* inSmallBatches, yield* otherNode]
        const ledger = yield* Ledger
        const { agentId, runs, slot } = yield* running(200)
        const children = yield* tasks(3, () => ({ agentId, dependencies: runs.map(({ id }) => ({ task_id: id })) }))
        yield* ledger.accept(children)
        const settled = yield* Effect.forEach(
          (yield* Random.shuffle(runs)).entries(),
          ([index, run]) =>
            Effect.flatMap(Effect.fromNullishOr(ledgers[index % 2]), (each) => each.settle(slot, run, completed)),
          { concurrency: "unbounded" }
        )
        expect(settled.every(({ recorded }) => recorded)).toBe(true)
        for (const child of yield* rows(ids(children))) {
          expect(child).toMatchObject({ status: "queued", dependencies_open: 0, version: 2 })
          expect(yield* eventTypes(child.id)).toEqual(["TaskCreated", "TaskQueued"])
        }
      })
    )

    it.effect("200 parents of which one fails fail their child once, whenever the others end", () =>
      Effect.gen(function* () {
        const ledger = yield* inSmallBatches
        const { agentId, runs, slot } = yield* running(200)
        const child = yield* task({ agentId, dependencies: runs.map(({ id }) => ({ task_id: id })) })
        yield* ledger.accept([child])
        yield* Effect.forEach(
          (yield* Random.shuffle(runs)).entries(),
          ([index, run]) => ledger.settle(slot, run, index % 97 === 50 ? failed : completed),
          { concurrency: "unbounded" }
        )
        expect(yield* eventTypes(child.id)).toEqual(["TaskCreated", "TaskFailed"])
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select from task_dependencies where child_id = ${child.id} and not resolved`).toEqual([])
      })
    )

    it.effect("a child that is accepted while its parent ends is never stuck", () =>
      Effect.gen(function* () {
        const [ledger, other] = [yield* Ledger, yield* otherNode]
        const { agentId, runs, slot } = yield* running(150)
        const seen = new Set<TaskStatus>()
        yield* Effect.forEach(
          runs,
          Effect.fnUntraced(function* (run: RunningTask) {
            const child = yield* task({ agentId, dependencies: [{ task_id: run.id }] })
            const [, [accepted]] = yield* Effect.all([ledger.settle(slot, run, completed), other.accept([child])], {
              concurrency: 2
            })
            if (accepted?._tag === "Accepted") seen.add(accepted.status)
            expect(yield* row(child.id)).toMatchObject({ status: "queued", dependencies_open: 0 })
          }),
          // One at a time: an end that waited for the transaction of others would always come second.
          { concurrency: 1 }
        )
        // Both orders happened, or the test shows nothing.
        expect(seen).toEqual(new Set(["pending", "queued"]))
      })
    )

    it.effect("a child that is cancelled while its parents end stays cancelled", () =>
      Effect.gen(function* () {
        const [ledger, other] = [yield* Ledger, yield* otherNode]
        const { agentId, runs, slot } = yield* running(60)
        yield* Effect.forEach(
          runs,
          Effect.fnUntraced(function* (run: RunningTask) {
            const child = yield* task({ agentId, dependencies: [{ task_id: run.id }] })
            yield* ledger.accept([child])
            const [, ended] = yield* Effect.all(
              [ledger.settle(slot, run, completed), other.cancel(home, [child.id], by)],
              { concurrency: 2 }
            )
            expect(ended).toEqual([{ id: child.id, ranOn: undefined }])
            expect((yield* row(child.id))?.status).toBe("cancelled")
          }),
          { concurrency: 4 }
        )
      })
    )
  })

  describe("down the graph", () => {
    const chainBelow = Effect.fnUntraced(function* (root: TaskId, length: number, agentId: NewTask["agentId"]) {
      const chain = yield* tasks(length, () => ({ agentId }))
      const linked = chain.map((each, index) => ({
        ...each,
        dependencies: [{ task_id: index === 0 ? root : (chain[index - 1]?.id ?? root) }]
      }))
      yield* (yield* Ledger).accept(linked, { atomic: true })
      return linked
    })

    it.effect("a failure ends a chain of 150 with it, each by its own parent", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs, slot } = yield* running(1)
        const root = yield* Effect.fromNullishOr(runs[0])
        const chain = yield* chainBelow(root.id, 150, agentId)
        yield* ledger.settle(slot, root, failed)
        const stored = yield* rows(ids(chain))
        expect(new Set(stored.map(({ status }) => status))).toEqual(new Set(["failed"]))
        expect(stored.map(({ result }) => result?.error?.details)).toEqual(
          chain.map(({ dependencies }) => ({ task_id: dependencies[0]?.task_id }))
        )
      })
    )

    it.effect("a chain that is longer than one transaction takes is carried on with, by whoever comes, once", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const nodes = [ledger, yield* otherNode] as const
        const { agentId, runs, slot } = yield* running(1)
        const root = yield* Effect.fromNullishOr(runs[0])
        const chain = yield* chainBelow(root.id, 900, agentId)
        const last = yield* Effect.fromNullishOr(chain.at(-1))
        const cleanUp = yield* task({ agentId, dependencies: [{ task_id: last.id, on: "ended" }] })
        yield* ledger.accept([cleanUp])
        yield* ledger.settle(slot, root, failed)
        const open = Effect.map(statuses(ids(chain)), (found) => found.filter((status) => status === "pending").length)
        const left = yield* open
        expect(left).toBeGreaterThan(0)
        expect(left).toBeLessThan(900)
        while ((yield* open) > 0) {
          const changed = yield* Effect.forEach([0, 1, 0, 1] as const, (node) => nodes[node].resume(100), {
            concurrency: 4
          })
          expect(changed.some((count) => count > 0)).toBe(true)
        }
        yield* ledger.resume(100)
        expect(yield* ledger.resume(100)).toBe(0)
        expect(new Set(yield* statuses(ids(chain)))).toEqual(new Set(["failed"]))
        expect(yield* eventTypes(last.id)).toEqual(["TaskCreated", "TaskFailed"])
        expect(yield* eventTypes(cleanUp.id)).toEqual(["TaskCreated", "TaskQueued"])
      })
    )

    it.effect("children of parents that end together are many: each is counted once, over transactions", () =>
      Effect.gen(function* () {
        const ledger = yield* inSmallBatches
        const { agentId, runs, slot } = yield* running(8)
        // 8 parents with 1,500 children each, every child of all of them: 12,000 edges.
        const children = yield* tasks(1_500, () => ({ agentId, dependencies: runs.map(({ id }) => ({ task_id: id })) }))
        for (let from = 0; from < children.length; from += 500) yield* ledger.accept(children.slice(from, from + 500))
        yield* Effect.forEach(runs, (run) => ledger.settle(slot, run, completed), { concurrency: "unbounded" })
        yield* Effect.repeat(ledger.resume(100), { until: (changed) => changed === 0 })
        const found = yield* rows(ids(children))
        expect(
          found.every(
            ({ dependencies_open, status, version }) => status === "queued" && dependencies_open === 0 && version === 2
          )
        ).toBe(true)
      })
    )

    it.effect("a graph as large as one may be is accepted, and its root's end starts all that waits for it", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const all = yield* tasks(10_000, () => ({ agentId }))
        const root = yield* Effect.fromNullishOr(all[0])
        const fan = all.map((each, index) => (index === 0 ? each : { ...each, dependencies: [{ task_id: root.id }] }))
        const outcomes = yield* ledger.accept(fan, { atomic: true })
        expect(outcomes.every(({ _tag }) => _tag === "Accepted")).toBe(true)
        const slot = yield* lease(agentId)
        const [run] = yield* claim(slot, [root])
        if (run === undefined) return expect(run).toBeDefined()
        yield* ledger.settle(slot, run, completed)
        const waiting = Effect.map(statuses(ids(all)), (found) => found.filter((status) => status === "pending").length)
        expect(yield* waiting).toBe(4_999)
        while ((yield* waiting) > 0) expect(yield* ledger.resume(100)).toBeGreaterThan(0)
        expect(new Set((yield* statuses(ids(all))).slice(1))).toEqual(new Set(["queued"]))
      })
    )

    it.effect("cancelling a parent cancels no child that only waits for its end", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const root = yield* task({ agentId, runAt: "2099-01-01T00:00:00Z" })
        const strict = yield* task({ agentId, dependencies: [{ task_id: root.id }] })
        const cleanUp = yield* task({ agentId, dependencies: [{ task_id: strict.id, on: "ended" }] })
        yield* ledger.accept([root, strict, cleanUp], { atomic: true })
        expect(ids(yield* ledger.cancel(home, [root.id], by))).toEqual([root.id])
        expect(yield* statuses([root.id, strict.id, cleanUp.id])).toEqual(["cancelled", "failed", "queued"])
      })
    )

    const Node = Schema.Struct({
      end: Schema.Literals(["completed", "completed", "completed", "failed", "timeout"]),
      parents: Schema.Array(
        Schema.Struct({
          back: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 11 })),
          on: Schema.Literals(["completed", "ended"]),
          required: Schema.Boolean
        })
      ).check(Schema.isMaxLength(4))
    })
    const ends: Record<(typeof Node)["Type"]["end"], Settlement> = { completed, failed, timeout: timedOut }

    it.effect.prop(
      "any graph ends as a naive model says",
      { nodes: Schema.Array(Node).check(Schema.isBetweenLength(2, 12)) },
      ({ nodes }) =>
        Effect.gen(function* () {
          const ledger = yield* Ledger
          const agentId = yield* agent
          const slot = yield* lease(agentId)
          const all = yield* tasks(nodes.length, () => ({ agentId }))
          const parentsOf = nodes.map(({ parents }, index) => {
            const edges = new Map(
              parents.filter(({ back }) => back <= index).map((edge) => [index - edge.back, edge] as const)
            )
            return [...edges]
          })
          const linked = all.map((each, index) => ({
            ...each,
            dependencies: (parentsOf[index] ?? []).flatMap(([parent, { on, required }]) => {
              const id = all[parent]?.id
              return id === undefined ? [] : [{ task_id: id, on, required }]
            })
          }))
          yield* ledger.accept(yield* Random.shuffle(linked), { atomic: true })
          const endOf = new Map(all.map(({ id }, index) => [id, ends[nodes[index]?.end ?? "completed"]] as const))
          yield* carryOn(slot, all, [ledger, ledger], (id) => endOf.get(id) ?? completed)

          const model: Array<ReadonlySet<TaskStatus>> = []
          for (const [index, { end }] of nodes.entries()) {
            const broken = (parentsOf[index] ?? []).filter(
              ([parent, { on }]) => on === "completed" && model[parent]?.has("completed") !== true
            )
            // Whoever depends on a skipped one is skipped too.
            const because = ([parent, { required }]: (typeof broken)[number]) =>
              [...(model[parent] ?? [])].map((was) => (was !== "cancelled" && required ? "failed" : "cancelled"))
            model.push(new Set(broken.length === 0 ? [end] : broken.flatMap(because)))
          }
          const found = yield* statuses(ids(all))
          for (const [index, status] of found.entries()) expect(model[index]).toContain(status)
        }),
      { arbitrary: { runs: 40 }, timeout: 30_000 }
    )
  })

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})
