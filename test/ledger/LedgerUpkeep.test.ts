/** What is done to tasks from outside and from time to time: cancelled, expired, assigned, listed, counted, tidied. */
import { describe, expect, layer } from "@effect/vitest"
import { Duration, Effect, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask } from "../../actors/ports/Ledger.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import { priorities } from "../../protocol/Task.ts"
import * as Database from "./Database.ts"
import {
  agent,
  brokenHistories,
  completed,
  eventsOf,
  failed,
  home,
  layer as Live,
  lease,
  otherNode,
  retryAfter,
  row,
  running,
  statuses,
  task,
  tasks,
  timedOut
} from "./LedgerHarness.ts"

const ids = (all: ReadonlyArray<{ readonly id: TaskId }>) => all.map(({ id }) => id)
const by = { actor: "key:test", reason: "enough" }
const never = "2099-01-01T00:00:00Z"

const tally = Effect.fnUntraced(function* (agentId: string) {
  const sql = yield* SqlClient.SqlClient
  const [sums] = yield* sql`
    select coalesce(sum(completed), 0)::int as completed, coalesce(sum(failed), 0)::int as failed,
      coalesce(sum(timed_out), 0)::int as timed_out, coalesce(sum(cancelled), 0)::int as cancelled,
      coalesce(sum(attempts), 0)::int as attempts, coalesce(sum(millis_sum), 0) as millis, coalesce(max(millis_max), 0) as longest
    from agent_tallies where agent_id = ${agentId}
  `
  return sums
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("upkeep", (it) => {
  describe("cancelling", () => {
    it.effect("ends whatever has not ended, and says what was running where", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs, slot } = yield* running(2)
        const [ran, done] = ids(runs)
        if (ran === undefined || done === undefined || runs[1] === undefined) return
        yield* ledger.settle(slot, runs[1], completed)
        const queued = yield* task({ agentId })
        const later = yield* task({ agentId, runAt: never })
        const forNobody = yield* task()
        const elsewhere = yield* Database.insertNamespace("elsewhere")
        const foreign = yield* task({ namespace: elsewhere })
        yield* ledger.accept([queued, later, forNobody, foreign])
        const asked = [foreign.id, ran, done, queued.id, later.id, forNobody.id]
        const ended = yield* ledger.cancel(home, asked, by)
        expect(new Map(ended.map(({ id, ranOn }) => [id, ranOn]))).toEqual(
          new Map([
            [ran, agentId],
            [queued.id, undefined],
            [later.id, undefined],
            [forNobody.id, undefined]
          ])
        )
        expect(yield* statuses(asked)).toEqual([
          "pending",
          "cancelled",
          "completed",
          "cancelled",
          "cancelled",
          "cancelled"
        ])
        expect((yield* row(queued.id))?.result).toEqual({
          success: false,
          error: { code: "cancelled", message: "enough" }
        })
        const [, event] = yield* eventsOf(queued.id)
        expect(event).toEqual({ number: 2, type: "TaskCancelled", data: { reason: "enough" }, actor: "key:test" })
        expect(yield* ledger.cancel(home, asked, by)).toEqual([])
      })
    )

    it.effect("by many at once ends each task once", () =>
      Effect.gen(function* () {
        const nodes = [yield* Ledger, yield* otherNode] as const
        const { tasks: all } = yield* running(40)
        const ended = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, index) => index),
          (index) =>
            nodes[index % 2 === 0 ? 0 : 1].cancel(home, index % 3 === 0 ? ids(all) : ids(all).toReversed(), by),
          { concurrency: "unbounded" }
        )
        expect(new Set(ended.flat().map(({ id }) => id)).size).toBe(40)
        expect(ended.flat()).toHaveLength(40)
      })
    )
  })

  describe("deadlines", () => {
    it.effect("end what has not ended as timeout, whatever it does, and its dependents", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const { agentId, runs } = yield* running(1, () => ({ deadline: never }))
        const queued = yield* task({ agentId, deadline: never })
        const later = yield* task({ agentId, deadline: never, runAt: never })
        const inTime = yield* task({ agentId, deadline: never })
        const child = yield* task({ agentId, dependencies: [{ task_id: queued.id }] })
        yield* ledger.accept([queued, later, inTime])
        yield* ledger.accept([child])
        const due = [...ids(runs), queued.id, later.id]
        yield* sql`update tasks set deadline = now() where id = any (${due}::uuid[])`
        const answers = yield* Effect.all([ledger.expire(2), (yield* otherNode).expire(2), ledger.expire(10)], {
          concurrency: 3
        })
        const last = yield* ledger.expire(10)
        const all = [...answers, last]
        expect(all.reduce((sum, { ended }) => sum + ended, 0)).toBe(3)
        expect(all.flatMap((answer) => answer.running)).toEqual([{ id: due[0], agentId }])
        expect(yield* statuses([...due, inTime.id, child.id])).toEqual([
          "timeout",
          "timeout",
          "timeout",
          "queued",
          "failed"
        ])
        expect((yield* row(queued.id))?.result?.error?.code).toBe("deadline")
      })
    )
  })

  describe("tasks without an agent", () => {
    it.effect("are listed by type and given one, a batch at a time", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const waiting = yield* tasks(7, () => ({ type: "lonely.work" }))
        yield* ledger.accept([
          ...waiting,
          ...(yield* tasks(2, () => ({ type: "other.work" }))),
          yield* task({ type: "lonely.work", agentId })
        ])
        const listed = yield* ledger.withoutAgent(undefined, 100)
        expect(listed.filter(({ type }) => type.endsWith(".work"))).toEqual([
          { namespace: home, type: "lonely.work" },
          { namespace: home, type: "other.work" }
        ])
        expect(yield* ledger.withoutAgent({ namespace: home, type: "lonely.work" }, 1)).toEqual([
          { namespace: home, type: "other.work" }
        ])
        yield* Queue.clear(ledger.ready)
        expect(yield* ledger.assign({ namespace: home, type: "lonely.work", agentId }, 5)).toBe(5)
        expect(yield* statuses(ids(waiting))).toEqual([
          ...Array.from({ length: 5 }, () => "queued"),
          "pending",
          "pending"
        ])
        expect((yield* Queue.clear(ledger.ready)).map(({ order }) => order.id)).toEqual(ids(waiting).slice(0, 5))
        expect(yield* ledger.assign({ namespace: home, type: "lonely.work", agentId }, 5)).toBe(2)
        expect(yield* ledger.assign({ namespace: home, type: "lonely.work", agentId }, 5)).toBe(0)
      })
    )

    it.effect("are all listed in turn, however many types there are", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        yield* ledger.accept(yield* tasks(25, (index) => ({ type: `rare.${index % 23}` })))
        const seen = new Set<string>()
        let after: { readonly namespace: NewTask["namespace"]; readonly type: string } | undefined
        while (true) {
          const page = yield* ledger.withoutAgent(after, 10)
          for (const { type } of page) seen.add(type)
          after = page.at(-1)
          if (page.length < 10) break
        }
        expect([...seen].filter((type) => type.startsWith("rare."))).toHaveLength(23)
      })
    )
  })

  describe("what there is to do", () => {
    it.effect("an agent's backlog holds the first of each lane in routing order, ready to run", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const all = yield* tasks(40, (index) => ({
          agentId,
          lane: priorities[(index * 7) % 4] ?? "normal",
          payload: `{"n":${index}}`
        }))
        const large = yield* task({ agentId, lane: "low", payload: JSON.stringify("x".repeat(9_000)), deadline: never })
        yield* ledger.accept([...all, large])
        const some = yield* ledger.backlog(agentId, { limit: 3 })
        const expected = priorities.flatMap((lane) => all.filter((each) => each.lane === lane).slice(0, 3))
        expect(ids(some)).toEqual(ids(expected))
        expect(some[0]).toMatchObject({
          lane: "critical",
          payload: { n: all.findIndex(({ id }) => id === some[0]?.id) }
        })
        const low = (yield* ledger.backlog(agentId, { limit: 50 })).at(-1)
        expect(low).toMatchObject({ id: large.id, payload_behind: true, deadline: "2099-01-01T00:00:00+00:00" })
        expect(low).not.toHaveProperty("payload")
      })
    )

    it.effect("agents with queued or running tasks are found, others are not", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const busy = yield* running(3)
        const idle = yield* running(1)
        const waits = yield* agent
        const queues = yield* agent
        for (const run of idle.runs) yield* ledger.settle(idle.slot, run, completed)
        yield* ledger.accept([
          yield* task({ agentId: waits, runAt: never }),
          ...(yield* tasks(5, () => ({ agentId: queues })))
        ])
        const found = yield* ledger.agentsWithWork(1_000)
        expect(found.filter((id) => [busy.agentId, idle.agentId, waits, queues].includes(id))).toEqual([
          busy.agentId,
          queues
        ])
        expect(new Set(found).size).toBe(found.length)
        expect(yield* ledger.agentsWithWork(1)).toHaveLength(1)
      })
    )

    it.effect("results are those of the namespace, with what failed as null", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot } = yield* running(3)
        const [good, bad, open] = runs
        if (good === undefined || bad === undefined || open === undefined) return
        yield* ledger.settle(slot, good, completed)
        yield* ledger.settle(slot, bad, failed)
        const elsewhere = yield* Database.insertNamespace("elsewhere")
        const refs = [good, bad, open].map(({ id }) => ({ id }))
        const found = new Map((yield* ledger.results(home, refs)).map((result) => [result.id, result]))
        expect(found.get(good.id)).toEqual({ id: good.id, status: "completed", data: { ok: true } })
        expect(found.get(bad.id)).toEqual({ id: bad.id, status: "failed", data: null })
        expect(yield* ledger.results(elsewhere, refs)).toEqual([])
      })
    )
  })

  describe("leases", () => {
    it.effect(
      "that fell silent while tasks run under them are orphans; a heartbeat under the present epoch prevents it",
      () =>
        Effect.gen(function* () {
          const ledger = yield* Ledger
          const sql = yield* SqlClient.SqlClient
          const [silent, alive, idle, stale] = yield* Effect.forEach([1, 1, 0, 1], (count) => running(count))
          if (silent === undefined || alive === undefined || idle === undefined || stale === undefined) return
          const mine = [silent, alive, idle, stale]
          yield* sql`update agent_instances set heartbeat = now() - interval '20 seconds' where agent_id = any (${mine.map(({ agentId }) => agentId)}::uuid[])`
          yield* ledger.heartbeat([alive.slot, idle.slot, { ...stale.slot, epoch: 0 }])
          const orphans = yield* ledger.orphans(Duration.seconds(15), 100)
          expect(new Set(orphans)).toEqual(new Set([silent, stale].map(({ agentId }) => ({ agentId, index: 0 }))))
          yield* ledger.takeOver({ agentId: silent.agentId, index: 0 })
          expect((yield* ledger.orphans(Duration.seconds(15), 100)).map(({ agentId }) => agentId)).toEqual([
            stale.agentId
          ])
        })
    )

    it.effect("hibernate only under their present epoch", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const old = yield* lease(agentId)
        const status = Effect.map(
          sql<{ status: string }>`select status from agent_instances where agent_id = ${agentId}`,
          ([each]) => each?.status
        )
        const present = yield* lease(agentId)
        yield* ledger.hibernate(old)
        expect(yield* status).toBe("active")
        yield* ledger.hibernate(present)
        expect(yield* status).toBe("hibernating")
        yield* lease(agentId)
        expect(yield* status).toBe("active")
      })
    )
  })

  describe("tallies", () => {
    it.effect("add up to the recorded ends, whatever caused them", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const { agentId, runs, slot } = yield* running(9, (index) => ({
          ...(index === 7 && { atMostOnce: true }),
          ...(index === 6 && { deadline: never })
        }))
        const ends = [completed, completed, failed, timedOut, retryAfter(60_000)]
        const children = yield* tasks(3, (index) => ({
          agentId,
          dependencies: [{ task_id: runs[2]?.id ?? raise(), ...(index === 0 && { required: false }) }]
        }))
        yield* ledger.accept(children)
        yield* Effect.forEach(ends.entries(), ([index, end]) => ledger.settle(slot, runs[index] ?? raise(), end), {
          concurrency: "unbounded"
        })
        yield* ledger.cancel(home, ids(runs.slice(5, 6)), by)
        yield* sql`update tasks set deadline = now() where id = ${runs[6]?.id}`
        yield* ledger.expire(100)
        yield* ledger.takeOver({ agentId, index: 0 })
        const counted = yield* sql<{ readonly status: string; readonly count: number }>`
          select status, count(*)::int as count from tasks where agent_id = ${agentId} group by status
        `
        const recorded = new Map(counted.map(({ count, status }) => [status, count]))
        expect(yield* tally(agentId)).toMatchObject({
          completed: recorded.get("completed"),
          failed: recorded.get("failed"),
          timed_out: recorded.get("timeout"),
          cancelled: recorded.get("cancelled")
        })
        expect(yield* tally(agentId)).toMatchObject({
          completed: 2,
          failed: 4,
          timed_out: 2,
          cancelled: 2,
          attempts: 5,
          longest: 4
        })
      })
    )

    it.effect("keep their sums when they are folded", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const { agentId, runs, slot } = yield* running(60)
        for (const run of runs.slice(0, 30)) yield* ledger.settle(slot, run, completed)
        const before = yield* tally(agentId)
        const count = Effect.map(
          sql<{ count: number }>`select count(*)::int as count from agent_tallies where agent_id = ${agentId}`,
          ([each]) => each?.count ?? 0
        )
        expect(yield* count).toBe(30)
        yield* ledger.tidy(1_000)
        expect(yield* count).toBe(30)
        yield* sql`update agent_tallies set at = at - interval '2 minutes'`
        // While others add to them.
        yield* Effect.all(
          [
            ledger.tidy(1_000),
            (yield* otherNode).tidy(1_000),
            Effect.forEach(runs.slice(30), (run) => ledger.settle(slot, run, failed), { concurrency: "unbounded" })
          ],
          { concurrency: 3 }
        )
        yield* ledger.tidy(1_000)
        expect(yield* count).toBeLessThan(30)
        expect(yield* tally(agentId)).toEqual({
          ...before,
          failed: 30,
          attempts: 60,
          millis: 30 * 1.5 + 30 * 2,
          longest: 2
        })
      })
    )

    it.effect("tidying forgets idempotency keys after 72 hours and not before, a bounded number at a time", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          insert into idempotency_keys (namespace, key, fingerprint, resource_id, created_at)
          select 'tidy', n::text, '\\x00', gen_random_uuid(), now() - interval '71 hours' - n * interval '10 minutes' from generate_series(0, 19) n
        `
        const left = Effect.map(sql`select key from idempotency_keys where namespace = 'tidy'`, (found) => found.length)
        expect(yield* left).toBe(20)
        expect(yield* ledger.tidy(4)).toBeGreaterThanOrEqual(4)
        expect(yield* left).toBe(16)
        yield* ledger.tidy(1_000)
        expect(yield* left).toBe(6)
      })
    )
  })

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})

const raise = (): never => {
  throw new Error("the fixture is incomplete")
}
