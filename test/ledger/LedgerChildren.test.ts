/** Parents wait for the ends of their children, whoever ends them and at whatever moment, and are queued once by the last one. */
import { expect, it, layer as suite } from "@effect/vitest"
import { Effect, Layer, Random } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask, type RunningTask, type Slot } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { NodeName, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import { TaskReader } from "../../src/ledger/TaskReader.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import {
  agent,
  brokenHistories,
  claim,
  completed,
  eventTypes,
  failed,
  home,
  layer,
  lease,
  otherNode,
  retryAfter,
  row,
  running,
  statuses,
  task,
  tasks
} from "./LedgerHarness.ts"
import { oneSession, rowsRead, withoutAutovacuum } from "./PlanHarness.ts"

const by = { actor: "key:test", reason: undefined }

const take = (slot: Slot, run: RunningTask, children?: ReadonlyArray<TaskId>, position = 1) =>
  Effect.flatMap(Ledger, (ledger) => ledger.children.take(slot, run, { position, children }))

/** A running task with children that run too, on an instance of their own. */
const family = Effect.fnUntraced(function* (count: number, over: (index: number) => Partial<NewTask> = () => ({})) {
  const parent = yield* running(1)
  const [run] = parent.runs
  if (run === undefined) return yield* Effect.die("no run")
  const children = yield* running(count, (index) => ({ parentId: run.id, ...over(index) }))
  return { slot: parent.slot, run, children, ids: children.runs.map(({ id }) => id), parent: parent.tasks }
})

const parkedFamily = Effect.fnUntraced(function* (count: number) {
  const made = yield* family(count)
  const ledger = yield* Ledger
  expect(yield* take(made.slot, made.run, made.ids)).toEqual({ _tag: "Waiting", open: count })
  yield* ledger.signals.park(made.slot, made.run, 1)
  expect(yield* row(made.run.id)).toMatchObject({ status: "paused", waiting_for: "children", attempt: 0 })
  return made
})

suite(layer, { excludeTestServices: true, timeout: "60 seconds" })("a parent", (test) => {
  test.effect("is queued by the last end, and finds all of them in the order in which it asked", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { children, ids, parent, run, slot } = yield* parkedFamily(4)
      const [first, second, third, fourth] = children.runs
      if (first === undefined || second === undefined || third === undefined || fourth === undefined) return
      yield* ledger.settle(children.slot, third, completed)
      yield* ledger.settle(children.slot, second, failed)
      // Neither is an end.
      yield* ledger.settle(children.slot, first, retryAfter(0))
      yield* ledger.cancel(home, [fourth.id], by)
      expect(yield* statuses([run.id])).toEqual(["paused"])
      yield* ledger.cancel(home, [first.id], by)
      expect(yield* statuses([run.id])).toEqual(["queued"])
      const [again] = yield* claim(slot, parent)
      if (again === undefined) return yield* Effect.die("it cannot be claimed")
      expect(again.attempt).toBe(1)
      for (let look = 0; look < 2; look++) {
        expect(yield* take(slot, again, ids)).toMatchObject({
          _tag: "Ended",
          children: [
            { id: ids[0], status: "cancelled", error: { code: "cancelled" } },
            { id: ids[1], status: "failed", error: { code: "no" } },
            { id: ids[2], status: "completed", data: { ok: true } },
            { id: ids[3], status: "cancelled" }
          ]
        })
      }
      expect((yield* eventTypes(run.id)).filter((type) => type === "TaskResumed")).toHaveLength(1)
      expect(yield* ledger.children.heal(100)).toBe(0)
    })
  )

  test.effect("does not park when the last of them has ended meanwhile, or when it is fenced", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { children, ids, run, slot } = yield* family(1)
      const [child] = children.runs
      if (child === undefined) return
      const stale = { ...slot, epoch: slot.epoch + 1 }
      expect(yield* take(stale, run, ids)).toEqual({ _tag: "Fenced" })
      expect(yield* take(slot, run, ids)).toEqual({ _tag: "Waiting", open: 1 })
      yield* ledger.signals.park(stale, run, 1)
      expect(yield* statuses([run.id])).toEqual(["running"])
      yield* ledger.settle(children.slot, child, completed)
      yield* ledger.signals.park(slot, run, 1)
      expect(yield* statuses([run.id])).toEqual(["queued"])
    })
  )

  test.effect(
    "is refused what is not its child, what waits for it, and too many; and told when it asks for others",
    () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { ids, run, slot } = yield* family(2)
        const [stranger] = (yield* running(1)).runs
        const own = yield* task({ parentId: run.id, dependencies: [{ task_id: run.id }] })
        yield* ledger.accept([own])
        if (stranger === undefined) return
        const missing = TaskId.make((yield* UuidV7).next())
        for (const child of [stranger.id, missing]) {
          const answer = yield* take(slot, run, [...ids, child])
          expect(answer).toEqual({ _tag: "Refused", why: "unknown", child })
        }
        expect(yield* take(slot, run, [own.id])).toEqual({ _tag: "Refused", why: "circular", child: own.id })
        expect(yield* take(slot, run)).toEqual({ _tag: "Refused", why: "circular", child: own.id })
        expect(yield* take(slot, run, ids.toReversed())).toMatchObject({ _tag: "Waiting" })
        expect(yield* take(slot, run, ids)).toEqual({ _tag: "Diverged" })
        const signal = { position: 1, name: "go", timeoutMillis: undefined, terms: {} }
        expect(yield* ledger.signals.take(slot, run, signal)).toMatchObject({ _tag: "Diverged" })
        yield* ledger.signals.take(slot, run, { ...signal, position: 2 })
        expect(yield* take(slot, run, ids, 2)).toEqual({ _tag: "Diverged" })
        yield* ledger.accept(yield* tasks(Limits.awaitedChildrenMax, () => ({ parentId: run.id })))
        expect(yield* take(slot, run, undefined, 3)).toEqual({ _tag: "Refused", why: "too_many" })
      })
  )

  test.effect("that awaits a signal and its children at a time is woken by either", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const send = (taskId: TaskId) =>
        ledger.signals.send({
          ...{ namespace: home, taskId, name: "go", payload: 1, actor: "key:test", request: `once:${taskId}` },
          ...{ fingerprint: "ab".repeat(32), checked: 2, isAnswer: false }
        })
      const signal = { position: 2, name: "go", timeoutMillis: undefined, terms: {} }
      for (const [position, wakes] of [
        [1, "signal"],
        [2, "child"]
      ] as const) {
        const { children, ids, run, slot } = yield* family(1)
        yield* take(slot, run, ids)
        yield* ledger.signals.take(slot, run, signal)
        yield* ledger.signals.park(slot, run, position)
        expect(yield* statuses([run.id])).toEqual(["paused"])
        if (wakes === "signal") yield* send(run.id)
        else yield* Effect.forEach(children.runs, (child) => ledger.settle(children.slot, child, completed))
        expect(yield* statuses([run.id])).toEqual(["queued"])
      }
    })
  )

  test.effect("whose children were ended by a node that tells nobody, or are gone, is found by the sweep", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const sql = yield* SqlClient.SqlClient
      const ended = yield* parkedFamily(1)
      const gone = yield* parkedFamily(1)
      expect(yield* ledger.children.heal(100)).toBe(0)
      yield* sql`update tasks set status = 'completed', completed_at = now() where id in ${sql.in(ended.ids)}`
      yield* sql`delete from tasks where id in ${sql.in(gone.ids)}`
      let healed = 0
      // One at a time, so that it comes round.
      for (let look = 0; look < 200 && healed < 2; look++) healed += yield* ledger.children.heal(1)
      expect(yield* statuses([ended.run.id, gone.run.id])).toEqual(["queued", "queued"])
      const [again] = yield* claim(gone.slot, gone.parent)
      if (again === undefined) return yield* Effect.die("it cannot be claimed")
      expect(yield* take(gone.slot, again, gone.ids)).toEqual({ _tag: "Refused", why: "gone", child: gone.ids[0] })
    })
  )

  test.effect("gets the same children and the same results however long it was parked", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const sql = yield* SqlClient.SqlClient
      const { children, ids, run, slot } = yield* family(2, (index) => ({
        configuration: JSON.stringify({ result_ttl_ms: 1000 + index })
      }))
      const [id] = ids
      if (id === undefined) return
      yield* sql`insert into idempotency_keys (namespace, key, fingerprint, resource_id, created_at)
        values (${home}, ${`task:${run.id}/step/0`}, '\\x01', ${id}, now() - interval '80 hours'),
          (${home}, ${`other:${run.id}`}, '\\x01', ${id}, now() - interval '80 hours')`
      yield* take(slot, run, ids)
      yield* Effect.forEach(children.runs, (child) => ledger.settle(children.slot, child, completed))
      yield* sql`update tasks set completed_at = now() - interval '1 hour' where id in ${sql.in(ids)}`
      const remembered = Effect.map(
        sql<{ readonly key: string }>`select key from idempotency_keys where resource_id = ${id}`,
        (rows) => rows.map(({ key }) => key)
      )
      yield* ledger.tidy(1000)
      yield* ledger.expireResults(100)
      expect(yield* remembered).toEqual([`task:${run.id}/step/0`])
      expect(yield* ledger.earlier(home, { key: `task:${run.id}/step/0`, fingerprint: "01" })).toMatchObject({ id })
      const again = { key: `task:${run.id}/step/0`, fingerprint: "01" }
      const outcomes = yield* ledger.accept(yield* tasks(1, () => ({ parentId: run.id, idempotency: again })))
      expect(outcomes).toMatchObject([{ _tag: "Existing", id }])
      expect(yield* take(slot, run, ids)).toMatchObject({ _tag: "Ended", children: [{ data: { ok: true } }, {}] })
      yield* ledger.settle(slot, run, completed)
      yield* ledger.tidy(1000)
      expect(yield* ledger.expireResults(100)).toBe(2)
      expect(yield* remembered).toEqual([])
    })
  )

  test.effect("is spared results that are too large together, and told that they were left out", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { children, ids, run, slot } = yield* family(5)
      const data = { text: "x".repeat(Limits.awaitedResultBytesMax / 4) }
      yield* Effect.forEach(children.runs, (child, index) =>
        ledger.settle(
          children.slot,
          child,
          index === 4 ? failed : { _tag: "Completed", data, dataBytes: data.text.length, executionMillis: 1 }
        )
      )
      const answer = yield* take(slot, run, ids)
      if (answer._tag !== "Ended") return yield* Effect.die("they have ended")
      expect(answer.children.map(({ data, left_out }) => [data !== undefined, left_out])).toEqual([
        [true, undefined],
        [true, undefined],
        [true, undefined],
        [false, true],
        [false, undefined]
      ])
      expect(answer.children[4]).toMatchObject({ status: "failed", error: { code: "no", message: "it did not work" } })
    })
  )
})

/** Parents, their children, and whatever may happen to them at the same time, from two nodes. */
const storm = Effect.gen(function* () {
  const nodes = [yield* Ledger, yield* otherNode] as const
  const node = Effect.map(Random.nextBoolean, (first) => (first ? nodes[0] : nodes[1]))
  const sql = yield* SqlClient.SqlClient
  for (let round = 0; round < 6; round++) {
    const agentId = yield* agent
    let slot = yield* lease(agentId)
    const parents = yield* tasks(8, () => ({ agentId, maxAttempts: 100 }))
    yield* nodes[0].accept(parents)
    const runs = yield* claim(slot, parents)
    const families = yield* Effect.forEach(runs, (run) =>
      Effect.map(
        running(6, () => ({ parentId: run.id })),
        (children) => ({ run, children })
      )
    )
    const idsOf = (id: TaskId) =>
      families.flatMap(({ children, run }) => (run.id === id ? children.tasks.map((child) => child.id) : []))
    /** What a run does: looks, and parks, or ends. Says whether it ended. */
    const perform = Effect.fnUntraced(function* (run: RunningTask) {
      const answer = yield* (yield* node).children.take(slot, run, { position: 1, children: idsOf(run.id) })
      if (answer._tag === "Waiting") yield* (yield* node).signals.park(slot, run, 1)
      if (answer._tag !== "Ended") return
      expect(answer.children.map(({ id, status }) => [id, status])).toEqual(
        idsOf(run.id).map((id) => [id, expect.stringMatching(/completed|failed|cancelled/u)])
      )
      yield* (yield* node).settle(slot, run, completed)
    })
    const perhaps = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
      Effect.flatMap(Random.next, (chance) => Effect.delay(effect, `${Math.floor(chance * 60)} millis`))
    const ends = families.flatMap(({ children }) =>
      children.runs.map((child) =>
        perhaps(
          Effect.gen(function* () {
            const chance = yield* Random.next
            if (chance < 0.2) return yield* (yield* node).cancel(home, [child.id], by)
            return yield* (yield* node).settle(children.slot, child, chance < 0.7 ? completed : failed)
          })
        )
      )
    )
    const set = runs.slice(0, 3).map(({ id }) =>
      perhaps(
        Effect.gen(function* () {
          yield* (yield* node).signals.pause(home, id, by)
          yield* Effect.sleep("15 millis")
          yield* (yield* node).signals.resume(home, id, by.actor)
        })
      )
    )
    const crash = perhaps(
      Effect.gen(function* () {
        const { epoch } = yield* (yield* node).takeOver({ agentId, index: 0 })
        slot = { ...slot, epoch }
      })
    )
    yield* Effect.all(
      yield* Random.shuffle<Effect.Effect<unknown, unknown, Ledger>>([
        ...runs.map((run) => perhaps(perform(run))),
        ...ends,
        ...set,
        crash
      ]),
      { concurrency: "unbounded" }
    )
    // All children have ended: from here on nothing but claims and what long cascades left, and no sweep.
    for (let turn = 0; turn < 50; turn++) {
      yield* nodes[1].resume(500)
      const left = yield* sql<{ readonly id: TaskId; readonly status: string }>`
        select id, status from tasks where agent_id = ${agentId} and completed_at is null`
      if (left.length === 0) break
      const queued = parents.filter(({ id }) => left.some((each) => each.id === id && each.status === "queued"))
      // Runs that were under way when they were cut off by the end of the storm.
      const cut = left.filter(({ status }) => status === "running")
      if (queued.length === 0 && cut.length > 0) {
        const { epoch } = yield* nodes[0].takeOver({ agentId, index: 0 })
        slot = { ...slot, epoch }
      }
      yield* Effect.forEach(yield* claim(slot, queued), perform, { concurrency: "unbounded" })
    }
    expect(yield* statuses(parents.map(({ id }) => id))).toEqual(parents.map(() => "completed"))
    expect(yield* nodes[0].children.heal(10_000)).toBe(0)
  }
  expect(yield* brokenHistories).toEqual([])
  expect(yield* sql`select from awaited_children where not ended`).toEqual([])
})

suite(layer, { excludeTestServices: true, timeout: "60 seconds" })("parents and children", (test) => {
  test.effect("of which everything happens at once come to their ends, each told once, without the sweep", () =>
    storm.pipe(Effect.scoped)
  )
})

const relations = [
  "tasks",
  "child_awaits",
  "awaited_children",
  "task_awaits",
  "task_dependencies",
  "dependency_frontier"
]

const ledgerOfOneSession = Layer.mergeAll(PostgresLedger.layer(NodeName.make("n1")), TaskReader.layer).pipe(
  Layer.provideMerge(MemoryBus.layer),
  Layer.provideMerge(oneSession)
)

it.live(
  "every step reads a few rows, also by plans that were made on empty tables",
  () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const reader = yield* TaskReader
      const sql = yield* SqlClient.SqlClient
      yield* withoutAutovacuum(relations)
      const read = new Map<string, number>()
      const measured = Effect.fnUntraced(function* <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) {
        const before = yield* rowsRead(relations)
        const answer = yield* effect
        read.set(name, (yield* rowsRead(relations)) - before)
        return answer
      })
      const everything = Effect.gen(function* () {
        const { children, ids, parent, run, slot } = yield* family(3)
        const [first, second, third] = children.runs
        if (first === undefined || second === undefined || third === undefined) return yield* Effect.die("no runs")
        yield* measured("open", take(slot, run, ids))
        yield* measured("look", take(slot, run))
        yield* measured("park", ledger.signals.park(slot, run, 1))
        yield* measured("view", reader.get(home, run.id))
        yield* measured("end", ledger.settle(children.slot, first, completed))
        yield* measured("cancel", ledger.cancel(home, [second.id], by))
        yield* measured("last end", ledger.settle(children.slot, third, completed))
        yield* measured("deletable", ledger.deletable(home, ids))
        const [again] = yield* claim(slot, parent)
        if (again === undefined) return yield* Effect.die("it cannot be claimed")
        yield* measured("answer", take(slot, again))
        yield* measured("heal", ledger.children.heal(10))
        yield* ledger.settle(slot, again, completed)
      })
      for (let warmUp = 0; warmUp < 7; warmUp++) yield* everything
      yield* sql`
        insert into tasks (id, namespace, name, type, status, lane, max_attempts, completed_at, awaited)
        select gen_random_uuid(), ${home}, 'x', 'echo.say', 'completed', 'normal', 5, now(), true from generate_series(1, 4000)`
      yield* sql`insert into child_awaits (task_id, position, closed) select id, 1, true from tasks where name = 'x'`
      yield* sql`
        insert into awaited_children (task_id, position, place, child_id, ended)
        select id, 1, n, gen_random_uuid(), true from tasks, generate_series(1, 3) n where name = 'x'`
      yield* everything
      expect([...read].filter(([, count]) => count > 100)).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(ledgerOfOneSession)),
  60_000
)
