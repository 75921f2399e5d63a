/** Limits by key, on Postgres: never more than allowed, in fair order, whatever ends how and wherever. */
import { expect, layer } from "@effect/vitest"
import { Clock, Effect, Layer, Random, Result } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask, type Slot, type TaskLimit } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { type AgentId, LimitId, LimitName } from "../../protocol/Ids.ts"
import { priorities } from "../../protocol/Task.ts"
import { LimitRegistry } from "../../src/ledger/LimitRegistry.ts"
import {
  agent,
  brokenHistories,
  claim,
  completed,
  eventsOf,
  failed,
  layer as harness,
  home,
  lease,
  otherNode,
  released,
  retryAfter,
  row,
  statuses,
  task,
  tasks
} from "./LedgerHarness.ts"

const ledgers = LimitRegistry.layer.pipe(Layer.provideMerge(harness))
const by = { actor: "key:test", reason: undefined }

const inMillis = (millis: number) => new Date(Date.now() + millis).toISOString()

let made = 0
const limit = Effect.fnUntraced(function* (over: {
  readonly concurrency?: number
  readonly rate?: { readonly limit: number; readonly window_ms: number; readonly burst: number }
  readonly agentId?: AgentId
}) {
  const registry = yield* LimitRegistry
  const created = yield* registry.create({
    id: LimitId.make((yield* UuidV7).next()),
    namespace: home,
    name: LimitName.make(`limit-${++made}`),
    description: undefined,
    agentId: over.agentId,
    type: undefined,
    key: "labels.k",
    fairBy: over.agentId === undefined ? undefined : "labels.f",
    concurrency: over.concurrency,
    rate: over.rate
  })
  if (typeof created === "string") return yield* Effect.die(new Error(created))
  return created
})

const on = (id: LimitId, key = "a", fair = ""): TaskLimit => ({ limitId: id, key, fair })

/** Waits for what the ledger does by itself, at most 10 s. */
const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    while (!(yield* condition)) {
      if ((yield* Clock.currentTimeMillis) - began > 10_000) return yield* Effect.die(new Error("it never came"))
      yield* Effect.sleep(5)
    }
  })

const becomes = (ids: ReadonlyArray<{ readonly id: string }>, expected: ReadonlyArray<string>) =>
  until(Effect.map(statuses(ids.map(({ id }) => id)), (now) => JSON.stringify(now) === JSON.stringify(expected)))

/** Keys whose count is not that of the tasks that hold them. Should always be none. */
const miscounted = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.flatMap(ledgerSchema, (schema) => sql.unsafe<object>(`select * from ${schema}.limits_verify()`))
)
const ledgerSchema = Effect.map(
  Effect.promise(() => import("../../src/ledger/LedgerFunctions.ts")),
  ({ ledger }) => ledger
)

layer(ledgers, { excludeTestServices: true, timeout: "60 seconds" })("limits", (it) => {
  it.effect("tasks within a limit are queued at once, the others wait for capacity", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const { id } = yield* limit({ concurrency: 2 })
      const all = yield* tasks(4, () => ({ agentId, limits: [on(id)] }))
      const outcomes = yield* ledger.accept(all)
      expect(outcomes.map((outcome) => (outcome._tag === "Accepted" ? outcome.waitingFor : outcome))).toEqual([
        undefined,
        undefined,
        "capacity",
        "capacity"
      ])
      expect(yield* miscounted).toEqual([])
    })
  )

  it.effect(
    "a batch of tasks with and without a time, an agent and limits: each waits for what it lacks, and no place is taken twice",
    () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const wide = yield* limit({ concurrency: 5 })
        const narrow = yield* limit({ concurrency: 1 })
        const now = yield* task({ agentId, limits: [on(wide.id), on(narrow.id, "b")] })
        const unlimited = yield* task({ agentId })
        const due = yield* task({ agentId, limits: [on(wide.id)], runAt: inMillis(-60_000) })
        const later = yield* task({ agentId, limits: [on(wide.id)], runAt: inMillis(60_000) })
        const nobodys = yield* task({ agentId: undefined, limits: [on(wide.id)] })
        const outcomes = yield* ledger.accept([now, unlimited, due, later, nobodys])
        const waiting = outcomes.map((outcome) => (outcome._tag === "Accepted" ? outcome.waitingFor : outcome))
        expect(waiting).toEqual([undefined, undefined, "capacity", "time", "agent"])
        yield* becomes([now, unlimited, due, later, nobodys], ["queued", "queued", "queued", "pending", "pending"])
        // One of them does not fit: the others still do.
        const full = yield* task({ agentId, limits: [on(wide.id), on(narrow.id, "b")] })
        const fits = yield* task({ agentId, limits: [on(wide.id)] })
        const [first, second] = yield* ledger.accept([full, fits])
        expect([first, second]).toMatchObject([{ waitingFor: "capacity" }, { status: "queued" }])
        expect(yield* miscounted).toEqual([])
      })
  )

  it.effect("the end of a task lets the next one in, with its event", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const { id } = yield* limit({ concurrency: 1 })
      const all = yield* tasks(3, () => ({ agentId, limits: [on(id)] }))
      yield* ledger.accept(all)
      for (const end of [completed, failed]) {
        const [run] = yield* claim(slot, all)
        if (run === undefined) return yield* Effect.die(new Error("nothing was claimed"))
        yield* ledger.settle(slot, { ...run, limited: true }, end)
        yield* until(
          Effect.map(statuses(all.map((each) => each.id)), (now) => now.filter((s) => s === "queued").length === 1)
        )
      }
      expect(yield* statuses(all.map((each) => each.id))).toEqual(["completed", "failed", "queued"])
      expect((yield* eventsOf(all[2]?.id ?? "")).map(({ data, type }) => [type, data])).toEqual([
        ["TaskCreated", { waiting_for: "capacity" }],
        ["TaskQueued", null]
      ])
      expect(yield* brokenHistories).toEqual([])
      expect(yield* miscounted).toEqual([])
    })
  )

  it.effect("a retry, a cancellation and a deadline give back; a release and a takeover keep", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const { id } = yield* limit({ concurrency: 1 })
      const all = yield* tasks(5, (index) => ({
        agentId,
        limits: [on(id)],
        ...(index === 2 && { deadline: inMillis(700) })
      }))
      const [first, second, third, fourth, fifth] = all
      if (!first || !second || !third || !fourth || !fifth) return
      yield* ledger.accept(all)
      const slot = yield* lease(agentId)
      const settle = Effect.fnUntraced(function* (on: Slot, of: NewTask, end: typeof completed) {
        const [run] = yield* claim(on, [of])
        if (run === undefined) return yield* Effect.die(new Error("it was not claimed"))
        yield* ledger.settle(on, { ...run, limited: true }, end)
      })
      yield* settle(slot, first, released)
      expect(yield* statuses([first.id, second.id])).toEqual(["queued", "pending"])
      yield* claim(slot, [first])
      const taken = yield* lease(agentId)
      expect(yield* statuses([first.id, second.id])).toEqual(["queued", "pending"])
      yield* settle(taken, first, retryAfter(600_000))
      yield* becomes(all, ["pending", "queued", "pending", "pending", "pending"])
      expect((yield* row(first.id))?.waiting_for).toBe("retry")
      yield* ledger.cancel(home, [second.id], by)
      yield* becomes(all, ["pending", "cancelled", "queued", "pending", "pending"])
      yield* until(Effect.as(ledger.expire(10), true))
      yield* until(Effect.map(ledger.expire(10), ({ ended }) => ended > 0))
      yield* becomes(all, ["pending", "cancelled", "timeout", "queued", "pending"])
      // The retry is due, and waits its turn like everybody; older than the fifth, it comes before that.
      yield* (yield* SqlClient.SqlClient)`update tasks set run_at = now() where id = ${first.id}`
      yield* ledger.queueDue(10)
      expect((yield* row(first.id))?.waiting_for).toBe("capacity")
      yield* settle(taken, fourth, completed)
      yield* becomes(all, ["queued", "cancelled", "timeout", "completed", "pending"])
      yield* settle(taken, first, completed)
      yield* settle(taken, fifth, completed).pipe(
        Effect.retry({ times: 0 }),
        Effect.catchCause(() => Effect.void)
      )
      yield* becomes([first], ["completed"])
      expect(yield* brokenHistories).toEqual([])
      expect(yield* miscounted).toEqual([])
    })
  )

  it.effect("of several limits all hold, and a task that waits for one takes nothing of the other", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const one = yield* limit({ concurrency: 2 })
      const two = yield* limit({ concurrency: 1 })
      const both = yield* tasks(3, () => ({ agentId, limits: [on(one.id), on(two.id)] }))
      yield* ledger.accept(both)
      yield* becomes(both, ["queued", "pending", "pending"])
      // What waits for `two` does not stand before a task that needs `one` alone.
      const single = yield* task({ agentId, limits: [on(one.id)] })
      yield* ledger.accept([single])
      yield* becomes([single], ["queued"])
      const runs = yield* claim(slot, [...both, single])
      expect(runs).toHaveLength(2)
      for (const run of runs) yield* ledger.settle(slot, { ...run, limited: true }, completed)
      yield* becomes(both, ["completed", "queued", "pending"])
      expect(yield* miscounted).toEqual([])
    })
  )

  it.effect("groups of a key take turns, so that few tasks never wait behind many", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const { id } = yield* limit({ concurrency: 2 })
      const many = yield* tasks(200, () => ({ agentId, limits: [on(id, "a", "big")] }))
      yield* ledger.accept(many)
      const few = yield* tasks(5, () => ({ agentId, limits: [on(id, "a", "small")] }))
      yield* ledger.accept(few)
      const fewIds = new Set<string>(few.map((each) => each.id))
      const started: Array<string> = []
      for (let round = 0; round < 8; round++) {
        const all = [...few, ...many]
        yield* until(
          Effect.map(statuses(all.map((each) => each.id)), (now) => now.filter((s) => s === "queued").length === 2)
        )
        const runs = yield* claim(slot, all)
        started.push(...runs.map((run) => (fewIds.has(run.id) ? "small" : "big")))
        for (const run of runs) yield* ledger.settle(slot, { ...run, limited: true }, completed)
      }
      // The first two were in before the others came; from then on each small one waits for at most one big one.
      const after = started.slice(2)
      let small = 0
      for (const [index, group] of after.entries()) {
        if (group === "small") small++
        if (small < few.length) expect(small).toBeGreaterThanOrEqual(Math.floor((index + 1) / 2) - 1)
      }
      expect(small).toBe(few.length)
    })
  )

  it.effect("within a group, critical comes first and then the oldest", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const { id } = yield* limit({ concurrency: 0 })
      const all = yield* tasks(8, (index) => ({
        agentId,
        lane: priorities[3 - (index % 4)] ?? "low",
        limits: [on(id)]
      }))
      yield* ledger.accept(all)
      yield* becomes(
        all,
        all.map(() => "pending")
      )
      yield* (yield* LimitRegistry).change(home, id, () =>
        Result.succeed({ description: undefined, concurrency: 1, rate: undefined })
      )
      yield* ledger.admit(home)
      const order: Array<string> = []
      while (order.length < all.length) {
        const runs = yield* claim(slot, all)
        order.push(...runs.map((run) => run.id))
        for (const run of runs) yield* ledger.settle(slot, { ...run, limited: true }, completed)
      }
      const lane = new Map(all.map((each, index) => [each.id as string, 3 - (index % 4)] as const))
      const sorted = all.toSorted((a, b) => (lane.get(a.id) ?? 0) - (lane.get(b.id) ?? 0) || (a.id < b.id ? -1 : 1))
      expect(order).toEqual(sorted.map((each) => each.id))
    })
  )

  it.effect("a task that waits for capacity and is moved to another lane waits in its new lane", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const { id } = yield* limit({ concurrency: 1 })
      const [first, second, third] = yield* tasks(3, () => ({ agentId, lane: "normal", limits: [on(id)] }))
      if (first === undefined || second === undefined || third === undefined) return yield* Effect.die("no tasks")
      yield* ledger.accept([first, second, third])
      yield* becomes([first, second, third], ["queued", "pending", "pending"])
      const moved = yield* ledger.control(
        home,
        [third.id],
        { _tag: "Move", priority: "critical", agentId: undefined },
        by
      )
      expect(moved.done).toEqual([third.id])
      const [run] = yield* claim(slot, [first])
      if (run === undefined) return yield* Effect.die("nothing was claimed")
      yield* ledger.settle(slot, { ...run, limited: true }, completed)
      yield* becomes([first, second, third], ["completed", "pending", "queued"])
      expect(yield* miscounted).toEqual([])
    })
  )

  it.effect(
    "a task that waits for any agent and is given one waits for capacity, and says so, until it is its turn",
    () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const { id } = yield* limit({ concurrency: 1 })
        const first = yield* task({ agentId, limits: [on(id)] })
        const second = yield* task({ agentId: undefined, limits: [on(id)] })
        yield* ledger.accept([first, second])
        yield* becomes([first, second], ["queued", "pending"])
        const moved = yield* ledger.control(home, [second.id], { _tag: "Move", priority: undefined, agentId }, by)
        expect(moved.done).toEqual([second.id])
        expect(yield* row(second.id)).toMatchObject({ status: "pending", waiting_for: "capacity", agent_id: agentId })
        expect((yield* eventsOf(second.id)).at(-1)).toMatchObject({
          type: "TaskQueued",
          data: { agent_id: agentId, waiting_for: "capacity" }
        })
        const [run] = yield* claim(slot, [first])
        if (run === undefined) return yield* Effect.die("nothing was claimed")
        yield* ledger.settle(slot, { ...run, limited: true }, completed)
        yield* becomes([first, second], ["completed", "queued"])
        expect(yield* miscounted).toEqual([])
        expect(yield* brokenHistories).toEqual([])
      })
  )

  it.effect("a rate lets a burst through and then one per interval, by Postgres's clock, on two nodes", () =>
    Effect.gen(function* () {
      const nodes = [yield* Ledger, yield* otherNode]
      const agentId = yield* agent
      const rate = { limit: 50, window_ms: 1_000, burst: 10 }
      const { id } = yield* limit({ rate })
      const all = yield* tasks(60, () => ({ agentId, limits: [on(id)] }))
      yield* Effect.forEach(all, (each, index) => nodes[index % 2]?.accept([each]) ?? Effect.void, {
        concurrency: "unbounded"
      })
      yield* becomes(
        all,
        all.map(() => "queued")
      )
      const sql = yield* SqlClient.SqlClient
      const times = yield* sql<{ readonly at: number }>`
        select extract(epoch from queued_at)::float8 * 1000 as at from tasks
        where id = any (${all.map((each) => each.id)}::uuid[]) order by queued_at
      `
      const at = times.map((time) => time.at)
      for (let from = 0; from < at.length; from++) {
        for (let until = from; until < at.length; until++) {
          const window = (at[until] ?? 0) - (at[from] ?? 0)
          // `queued_at` is when the transaction began, a little before its tokens were counted.
          expect(until - from + 1).toBeLessThanOrEqual(rate.burst + ((window + 60) * rate.limit) / rate.window_ms)
        }
      }
      expect((at.at(-1) ?? 0) - (at[0] ?? 0)).toBeGreaterThan(850)
      expect((at.at(-1) ?? 0) - (at[0] ?? 0)).toBeLessThan(3_000)
    })
  )

  it.effect("tasks with keys, dependencies and times are counted when they become ready", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const { id } = yield* limit({ concurrency: 1 })
      const parent = yield* task({ agentId })
      const child = yield* task({ agentId, dependencies: [{ task_id: parent.id }], limits: [on(id)] })
      const keyed = yield* task({ agentId, idempotency: { key: `k-${id}`, fingerprint: "00" }, limits: [on(id)] })
      const later = yield* task({ agentId, runAt: inMillis(60_000), limits: [on(id)] })
      const unrouted = yield* task({ limits: [on(id)] })
      yield* ledger.accept([parent, child])
      yield* ledger.accept([keyed])
      yield* ledger.accept([later, unrouted])
      yield* becomes([child, keyed, later, unrouted], ["pending", "queued", "pending", "pending"])
      const [again] = yield* ledger.accept([{ ...keyed, id: (yield* task()).id }])
      expect(again).toMatchObject({ _tag: "Existing", id: keyed.id })
      const [run] = yield* claim(slot, [parent])
      if (run !== undefined) yield* ledger.settle(slot, run, completed)
      expect(yield* row(child.id)).toMatchObject({ status: "pending", waiting_for: "capacity", version: 2 })
      yield* ledger.assign({ namespace: home, type: unrouted.type, agentId }, 100)
      expect(yield* row(unrouted.id)).toMatchObject({ status: "pending", waiting_for: "capacity", agent_id: agentId })
      yield* ledger.cancel(home, [keyed.id, later.id], by)
      yield* becomes([child, unrouted], ["queued", "pending"])
      expect(yield* brokenHistories).toEqual([])
      expect(yield* miscounted).toEqual([])
    })
  )

  it.effect("a limit that goes lets its tasks go, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const registry = yield* LimitRegistry
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const { id } = yield* limit({ concurrency: 1 })
      const all = yield* tasks(4, (index) => ({ agentId, limits: [on(id, `key-${index % 2}`)] }))
      yield* ledger.accept(all)
      yield* becomes(all, ["queued", "queued", "pending", "pending"])
      yield* registry.remove(home, id)
      yield* ledger.admit(home)
      yield* becomes(all, ["queued", "queued", "queued", "queued"])
      // A node that has not heard of it yet.
      const late = yield* task({ agentId, limits: [on(id, "key-0")] })
      yield* ledger.accept([late])
      yield* becomes([late], ["queued"])
      const runs = yield* claim(slot, [...all, late])
      for (const run of runs) yield* ledger.settle(slot, { ...run, limited: true }, completed)
      const sql = yield* SqlClient.SqlClient
      expect(yield* sql`select * from task_limits where limit_id = ${id}`).toEqual([])
      yield* until(Effect.map(sql`select * from limit_marks where limit_id = ${id}`, (left) => left.length === 0))
      yield* ledger.tidy(1_000)
      expect(yield* sql`select * from limit_keys where limit_id = ${id}`).toEqual([])
    })
  )

  it.effect("an agent's slots are shared between groups without any number", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const agentId = yield* agent
      const { id } = yield* limit({ agentId })
      const many = yield* tasks(100, () => ({ agentId, limits: [on(id, "*", "big")] }))
      yield* ledger.accept(many)
      // One instance of ten slots: twice ten are in, and no more.
      yield* until(
        Effect.map(statuses(many.map((each) => each.id)), (now) => now.filter((s) => s === "queued").length === 20)
      )
      const few = yield* tasks(3, () => ({ agentId, limits: [on(id, "*", "small")] }))
      yield* ledger.accept(few)
      yield* ledger.cancel(
        home,
        many.slice(0, 6).map((each) => each.id),
        by
      )
      yield* becomes(few, ["queued", "queued", "queued"])
    })
  )

  it.effect("whatever happens on two nodes at once, no key is ever exceeded and every count is right", () =>
    Effect.gen(function* () {
      const nodes = [yield* Ledger, yield* otherNode] as const
      const sql = yield* SqlClient.SqlClient
      const schema = yield* ledgerSchema
      const agents = yield* Effect.replicateEffect(agent, 2)
      const slots = new Map<string, Slot>()
      for (const agentId of agents) slots.set(agentId, yield* lease(agentId))
      const limits = [
        yield* limit({ concurrency: 3 }),
        yield* limit({ concurrency: 5 }),
        yield* limit({ rate: { limit: 1_000, window_ms: 100, burst: 50 } })
      ]
      const exceeded = sql`
        select h.l, h.k, count(*) from tasks t cross join lateral json_to_recordset(t.held_limits) as h (l uuid, k text)
          join limits l on l.id = h.l
        where t.status in ('queued', 'running', 'paused') and l.concurrency is not null
        group by 1, 2 having count(*) > min(l.concurrency)
      `
      const unheld = sql`
        select t.id from tasks t where t.limited and t.status in ('queued', 'running')
          and (t.held_limits is null or exists (select from task_limits e where e.task_id = t.id))
      `
      const all: Array<NewTask> = []
      const ends = [completed, completed, failed, released, retryAfter(0), retryAfter(30)]
      for (let round = 0; round < 15; round++) {
        const fresh = yield* Effect.forEach(Array.from({ length: 40 }), () =>
          Effect.gen(function* () {
            const pick = yield* Random.nextIntBetween(1, 7)
            const key = `k${yield* Random.nextIntBetween(0, 2)}`
            const fair = `f${yield* Random.nextIntBetween(0, 2)}`
            const of = limits.filter((_, index) => (pick & (1 << index)) !== 0)
            return yield* task({
              agentId: agents[yield* Random.nextIntBetween(0, 1)],
              lane: priorities[yield* Random.nextIntBetween(0, 3)] ?? "low",
              maxAttempts: 50,
              limits: of.map((each) => on(each.id, key, fair))
            })
          })
        )
        all.push(...fresh)
        const work = [...slots.values()].map((slot, which) =>
          Effect.gen(function* () {
            const runs = yield* claim(
              slot,
              yield* Random.shuffle(all.filter(({ agentId }) => agentId === slot.agentId))
            )
            yield* Effect.forEach(
              runs,
              (run) =>
                Effect.flatMap(Random.nextIntBetween(0, ends.length - 1), (end) =>
                  nodes[which === 0 ? 0 : 1].settle(slot, { ...run, limited: true }, ends[end] ?? completed)
                ),
              { concurrency: "unbounded" }
            )
          })
        )
        const unlucky = (yield* Random.shuffle(all)).slice(0, 6).map((each) => each.id)
        const outside: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          nodes[0].accept(fresh.slice(0, 20)),
          nodes[1].accept(fresh.slice(20)),
          nodes[0].cancel(home, unlucky, by),
          nodes[1].queueDue(100),
          nodes[0].admit(home),
          nodes[1].admit(home),
          Effect.gen(function* () {
            const agentId = agents[round % 2]
            if (agentId === undefined) return
            const { epoch } = yield* nodes[1].takeOver({ agentId, index: 0 })
            slots.set(agentId, { namespace: home, agentId, index: 0, epoch })
          })
        ]
        yield* Effect.all(yield* Random.shuffle<Effect.Effect<unknown, unknown, Ledger>>([...work, ...outside]), {
          concurrency: "unbounded"
        })
        expect(yield* exceeded).toEqual([])
        expect(yield* unheld).toEqual([])
        expect(yield* sql.unsafe(`select * from ${schema}.limits_verify()`)).toEqual([])
      }
      // Everything ends: nobody is forgotten in a queue.
      yield* until(
        Effect.gen(function* () {
          yield* nodes[0].queueDue(1_000)
          for (const slot of slots.values()) {
            const runs = yield* claim(
              slot,
              all.filter(({ agentId }) => agentId === slot.agentId)
            )
            yield* Effect.forEach(runs, (run) => nodes[0].settle(slot, { ...run, limited: true }, completed), {
              concurrency: "unbounded"
            })
            // What a takeover left with nobody to run it.
            const { epoch } = yield* nodes[0].takeOver({ agentId: slot.agentId, index: 0 })
            slots.set(slot.agentId, { ...slot, epoch })
          }
          const now = yield* statuses(all.map((each) => each.id))
          return now.every((status) => status === "completed" || status === "failed" || status === "cancelled")
        })
      )
      expect(
        yield* sql`select * from task_limits where limit_id = any (${limits.map(({ id }) => id)}::uuid[])`
      ).toEqual([])
      expect(yield* brokenHistories).toEqual([])
      expect(yield* miscounted).toEqual([])
    })
  )
})
