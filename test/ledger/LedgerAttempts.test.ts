/** Claims, ends and takeovers: each attempt is won once, ended once, and fenced when its instance was taken over. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask, type Settlement } from "../../actors/ports/Ledger.ts"
import type { TaskId } from "../../protocol/Ids.ts"
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
  orderOf,
  otherNode,
  released,
  retryAfter,
  row,
  rows,
  running,
  statuses,
  task,
  tasks,
  timedOut
} from "./LedgerHarness.ts"

const ids = (all: ReadonlyArray<{ readonly id: TaskId }>) => all.map(({ id }) => id)

const first = <A>(all: ReadonlyArray<A>) => Effect.fromNullishOr(all[0]).pipe(Effect.orDie)

/** What lies in `ready` now. */
const readyNow = Effect.flatMap(Ledger, ({ ready }) => Queue.clear(ready))

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("attempts", (it) => {
  describe("a claim", () => {
    it.effect("wins queued tasks of its agent and nothing else", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const queued = yield* tasks(2, () => ({ agentId }))
        const others = yield* running(1)
        const waiting = yield* task({ agentId, runAt: "2099-01-01T00:00:00Z" })
        const cancelled = yield* task({ agentId })
        const unknown = yield* task({ agentId })
        yield* ledger.accept([...queued, waiting, cancelled, yield* task({ agentId: others.agentId })])
        yield* ledger.cancel(home, [cancelled.id], { actor: "key:test", reason: undefined })
        const wanted = [...queued, ...others.tasks, waiting, cancelled, unknown]
        const answer = yield* ledger.claim(
          slot,
          wanted.map((each) => orderOf(each))
        )
        expect(answer.fenced).toBe(false)
        expect(new Set(ids(answer.claimed))).toEqual(new Set(ids(queued)))
        expect((yield* claim(slot, wanted)).length).toBe(0)
        const stored = yield* row((yield* first(queued)).id)
        expect(stored).toMatchObject({ status: "running", attempt: 1, epoch: slot.epoch, version: 2 })
        expect((yield* eventsOf((yield* first(queued)).id))[1]).toMatchObject({
          number: 2,
          type: "TaskStarted",
          actor: "node:n1"
        })
      })
    )

    it.effect("brings the payload that stayed behind, and only that", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const [large, small] = yield* tasks(2, () => ({ agentId, payload: '{"n":[1,2]}' }))
        if (large === undefined || small === undefined) return
        yield* ledger.accept([large, small])
        const { claimed } = yield* ledger.claim(slot, [orderOf(large, { payload_behind: true }), orderOf(small)])
        const payloads = new Map(claimed.map(({ id, payload }) => [id, payload] as const))
        expect([payloads.get(large.id), payloads.get(small.id)]).toEqual([{ n: [1, 2] }, undefined])
      })
    )

    it.effect("under an outdated epoch, or none, is told so and wins nothing", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const old = yield* lease(agentId)
        const present = yield* lease(agentId)
        expect(present.epoch).toBe(old.epoch + 1)
        const queued = yield* task({ agentId })
        yield* ledger.accept([queued])
        expect(yield* ledger.claim(old, [orderOf(queued)])).toEqual({ fenced: true, claimed: [] })
        expect(yield* ledger.claim({ ...present, index: 7 }, [orderOf(queued)])).toEqual({ fenced: true, claimed: [] })
        // Both in one batch: each gets its own answer.
        const [fenced, won] = yield* Effect.all(
          [ledger.claim(old, [orderOf(queued)]), ledger.claim(present, [orderOf(queued)])],
          { concurrency: 2 }
        )
        expect([fenced.fenced, won.fenced, ids(won.claimed)]).toEqual([true, false, [queued.id]])
      })
    )

    it.effect("wins nothing with an order that knows of fewer attempts: it may come late, for nobody", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot, tasks: given } = yield* running(1)
        for (const run of runs) yield* ledger.settle(slot, run, retryAfter(0))
        yield* ledger.queueDue(1_000)
        const claimed = yield* Effect.forEach(given, (each) => ledger.claim(slot, [orderOf(each)]))
        expect(claimed).toEqual([{ fenced: false, claimed: [] }])
        const again = yield* Effect.forEach(given, (each) => ledger.claim(slot, [orderOf(each, { attempts: 1 })]))
        expect(again.flatMap(({ claimed: won }) => won.map(({ attempt }) => attempt))).toEqual([2])
      })
    )

    it.effect("is won by one of many instances, on whichever node", () =>
      Effect.gen(function* () {
        const nodes = [yield* Ledger, yield* otherNode]
        const agentId = yield* agent
        const wanted = yield* tasks(200, () => ({ agentId }))
        yield* (yield* Ledger).accept(wanted)
        const slots = yield* Effect.forEach([0, 1, 2, 3], (index) => lease(agentId, index))
        const answers = yield* Effect.forEach(
          slots.flatMap((slot) => [0, 50, 100, 150].map((from) => [slot, wanted.slice(from, from + 100)] as const)),
          ([slot, some]) =>
            Effect.flatMap(Effect.fromNullishOr(nodes[slot.index % 2]), (ledger) =>
              ledger.claim(
                slot,
                some.map((each) => orderOf(each))
              )
            ),
          { concurrency: "unbounded" }
        )
        const won = answers.flatMap(({ claimed }) => claimed)
        expect(won).toHaveLength(200)
        expect(new Set(ids(won)).size).toBe(200)
        expect(won.every(({ attempt }) => attempt === 1)).toBe(true)
      })
    )

    it.effect("never passes the bound of attempts", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const spent = yield* task({ agentId, maxAttempts: 2 })
        yield* ledger.accept([spent])
        yield* sql`update tasks set attempt = 2 where id = ${spent.id}`
        expect(yield* claim(slot, [spent])).toEqual([])
        // It never had these attempts, which would be found.
        yield* sql`update tasks set attempt = 0 where id = ${spent.id}`
      })
    )
  })

  describe("an end", () => {
    const cases: ReadonlyArray<readonly [Settlement, string, string]> = [
      [completed, "completed", "TaskCompleted"],
      [failed, "failed", "TaskFailed"],
      [timedOut, "timeout", "TaskTimedOut"]
    ]
    it.effect("is recorded with its result and its event", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot } = yield* running(cases.length)
        for (const [index, [end, status, event]] of cases.entries()) {
          const run = yield* first(runs.slice(index))
          expect(yield* ledger.settle(slot, run, end)).toEqual({ recorded: true })
          const stored = yield* row(run.id)
          expect(stored).toMatchObject({ status, version: 3, waiting_for: null })
          expect(stored?.result).toMatchObject(
            end._tag === "Completed" ? { success: true, data: end.data } : { success: false, error: { code: "no" } }
          )
          expect((yield* eventTypes(run.id))[2]).toBe(event)
        }
      })
    )

    it.effect("is final: what comes later is fenced", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot } = yield* running(cases.length)
        for (const [index, [end]] of cases.entries()) {
          const run = yield* first(runs.slice(index))
          yield* ledger.settle(slot, run, end)
          for (const later of [completed, failed, timedOut, released, retryAfter(0)]) {
            expect(yield* ledger.settle(slot, run, later)).toEqual({ recorded: false })
          }
          expect(yield* ledger.cancel(home, [run.id], { actor: "key:test", reason: undefined })).toEqual([])
          expect((yield* row(run.id))?.version).toBe(3)
        }
      })
    )

    it.effect("of two rivals for one attempt is recorded once", () =>
      Effect.gen(function* () {
        const nodes = [yield* Ledger, yield* otherNode]
        const { runs, slot } = yield* running(50)
        const answers = yield* Effect.forEach(
          runs.flatMap((run) => nodes.map((ledger) => [run, ledger] as const)),
          ([run, ledger]) => ledger.settle(slot, run, completed),
          { concurrency: "unbounded" }
        )
        expect(answers.filter(({ recorded }) => recorded)).toHaveLength(50)
      })
    )

    it.effect("of an old attempt or epoch, or of a cancelled task, changes nothing", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot } = yield* running(3)
        const [again, moved, cancelled] = runs
        if (again === undefined || moved === undefined || cancelled === undefined) return
        expect(yield* ledger.settle(slot, { ...again, attempt: 2 }, completed)).toEqual({ recorded: false })
        expect(yield* ledger.settle({ ...slot, epoch: slot.epoch + 1 }, moved, completed)).toEqual({ recorded: false })
        yield* ledger.cancel(home, [cancelled.id], { actor: "key:test", reason: undefined })
        expect(yield* ledger.settle(slot, cancelled, completed)).toEqual({ recorded: false })
        expect(yield* statuses(ids(runs))).toEqual(["running", "running", "cancelled"])
      })
    )

    it.effect("that Postgres will not store still ends its task, and its neighbours' are recorded as they are", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { runs, slot } = yield* running(20)
        const ends = new Map<number, Settlement>([
          [3, { _tag: "Completed", data: "a\u0000b", dataBytes: 10, executionMillis: 1 }],
          [4, { _tag: "Completed", data: { half: "\ud83d" }, dataBytes: 10, executionMillis: 1 }],
          [5, { _tag: "Failed", error: { code: "half", message: "cut in the middle of \ud83d" }, executionMillis: 1 }],
          [6, { _tag: "TimedOut", error: { code: "nul", message: "\u0000" }, executionMillis: 1 }],
          [
            7,
            {
              _tag: "Retry",
              error: { code: "details", message: "", details: { x: "\ud83d" } },
              delayMillis: 0,
              executionMillis: 1
            }
          ]
        ])
        const answers = yield* Effect.forEach(
          runs.entries(),
          ([index, run]) => ledger.settle(slot, run, ends.get(index) ?? completed),
          { concurrency: "unbounded" }
        )
        expect(answers.every(({ recorded }) => recorded)).toBe(true)
        const stored = yield* rows(ids(runs))
        expect(stored.map(({ status }) => status)).toEqual(
          runs.map((_, index) =>
            index === 6 ? "timeout" : index === 7 ? "pending" : index >= 3 && index <= 5 ? "failed" : "completed"
          )
        )
        expect([stored[3], stored[4], stored[5]].map((each) => each?.result?.error?.code)).toEqual([
          "result_refused",
          "result_refused",
          "half"
        ])
        expect(stored[5]?.result?.error?.message).toBe("cut in the middle of \ufffd")
      })
    )
  })

  describe("a retry", () => {
    it.effect("waits for its delay, then is queued and offered, and runs as the next attempt", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const { runs, slot, tasks: all } = yield* running(2)
        const [soon, late] = runs
        if (soon === undefined || late === undefined) return
        yield* ledger.settle(slot, soon, retryAfter(0))
        yield* ledger.settle(slot, late, retryAfter(60_000))
        expect(yield* row(late.id)).toMatchObject({ status: "pending", waiting_for: "retry", attempt: 1, result: null })
        yield* readyNow
        expect(yield* ledger.queueDue(1_000)).toBeGreaterThanOrEqual(1)
        expect(yield* statuses([soon.id, late.id])).toEqual(["queued", "pending"])
        const offered = (yield* readyNow).map(({ order }) => order.id)
        expect([offered.includes(soon.id), offered.includes(late.id)]).toEqual([true, false])
        yield* sql`update tasks set run_at = run_at - interval '61 seconds' where id = ${late.id}`
        yield* ledger.queueDue(1_000)
        expect((yield* claim(slot, all)).map(({ attempt }) => attempt)).toEqual([2, 2])
        expect(yield* ledger.settle(slot, soon, completed)).toEqual({ recorded: false })
        expect(yield* ledger.settle(slot, { ...soon, attempt: 2 }, completed)).toEqual({ recorded: true })
        expect(yield* eventTypes(soon.id)).toEqual([
          "TaskCreated",
          "TaskStarted",
          "TaskRetried",
          "TaskQueued",
          "TaskStarted",
          "TaskCompleted"
        ])
      })
    )

    it.effect("is due by Postgres's clock, for run_at as well, a batch at a time", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const waiting = yield* tasks(25, () => ({ agentId, runAt: "2099-01-01T00:00:00Z" }))
        const forNobody = yield* task({ runAt: "2099-01-01T00:00:00Z" })
        yield* ledger.accept([...waiting, forNobody])
        yield* sql`update tasks set run_at = now() - interval '1 second' where id = any (${ids(waiting)}::uuid[]) or id = ${forNobody.id}`
        const nodes = [ledger, yield* otherNode]
        const queued = yield* Effect.forEach(
          [0, 1, 0, 1],
          (node) => Effect.flatMap(Effect.fromNullishOr(nodes[node]), (each) => each.queueDue(10)),
          {
            concurrency: "unbounded"
          }
        )
        const more = yield* ledger.queueDue(1_000)
        expect(queued.every((count) => count <= 10)).toBe(true)
        expect(queued.reduce((sum, count) => sum + count, more)).toBe(26)
        expect(new Set(yield* statuses(ids(waiting)))).toEqual(new Set(["queued"]))
        expect(yield* row(forNobody.id)).toMatchObject({ status: "pending", waiting_for: "agent" })
      })
    )
  })

  it.effect("a release gives the attempt back and offers the task again", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { runs, slot, tasks: all } = yield* running(1, () => ({ maxAttempts: 1 }))
      const run = yield* first(runs)
      yield* readyNow
      expect(yield* ledger.settle(slot, run, released)).toEqual({ recorded: true })
      expect(yield* row(run.id)).toMatchObject({ status: "queued", attempt: 0, result: null })
      expect((yield* readyNow).map(({ order }) => order.id)).toEqual([run.id])
      expect((yield* claim(slot, all)).map(({ attempt }) => attempt)).toEqual([1])
    })
  )

  describe("a takeover", () => {
    it.effect("queues what ran again, fails what may not run again, and leaves other instances alone", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const over: ReadonlyArray<Partial<NewTask>> = [{}, { atMostOnce: true }, { maxAttempts: 1 }]
        const { agentId, runs, slot, tasks: all } = yield* running(3, (index) => ({ ...over[index] }))
        const neighbour = yield* lease(agentId, 1)
        const elsewhere = yield* task({ agentId })
        yield* ledger.accept([elsewhere])
        yield* claim(neighbour, [elsewhere])
        yield* readyNow
        expect(yield* ledger.takeOver({ agentId, index: 0 })).toEqual({ epoch: slot.epoch + 1, requeued: 1, failed: 2 })
        const stored = yield* rows([...ids(all), elsewhere.id])
        expect(stored.map(({ status }) => status)).toEqual(["queued", "failed", "failed", "running"])
        expect(stored.map(({ result }) => result?.error?.code)).toEqual([
          undefined,
          "unknown_outcome",
          "instance_lost",
          undefined
        ])
        expect((yield* readyNow).map(({ order }) => order.id)).toEqual([all[0]?.id])
        for (const run of runs) expect(yield* ledger.settle(slot, run, completed)).toEqual({ recorded: false })
        const again = yield* claim({ ...slot, epoch: slot.epoch + 1 }, all)
        expect(again.map(({ attempt }) => attempt)).toEqual([2])
      })
    )

    it.effect("resolves what depends on what it failed", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs } = yield* running(1, () => ({ atMostOnce: true }))
        const parent = (yield* first(runs)).id
        const strict = yield* task({ agentId, dependencies: [{ task_id: parent }] })
        const lenient = yield* task({ agentId, dependencies: [{ task_id: parent, on: "ended" }] })
        yield* ledger.accept([strict, lenient])
        yield* ledger.takeOver({ agentId, index: 0 })
        expect(yield* statuses([parent, strict.id, lenient.id])).toEqual(["failed", "failed", "queued"])
      })
    )

    it.effect("and a claim at the same moment: whoever comes second sees the first", () =>
      Effect.gen(function* () {
        const nodes = [yield* Ledger, yield* otherNode] as const
        const agentId = yield* agent
        let slot = yield* lease(agentId)
        let fencedClaims = 0
        for (let round = 0; round < 60; round++) {
          const wanted = yield* tasks(5, (index) => ({
            agentId,
            lane: index % 2 === 0 ? "normal" : "critical",
            maxAttempts: 100
          }))
          yield* nodes[0].accept(wanted)
          const [answer, taken] = yield* Effect.all(
            [
              nodes[0].claim(
                slot,
                wanted.map((each) => orderOf(each))
              ),
              // A claim waits some turns of the event loop for others to share its transaction.
              Effect.andThen(
                Effect.repeat(Effect.yieldNow, { times: round % 20 }),
                nodes[1].takeOver({ agentId, index: 0 })
              )
            ],
            { concurrency: 2 }
          )
          if (answer.fenced) {
            fencedClaims++
            expect(answer.claimed).toEqual([])
          } else expect(answer.claimed).toHaveLength(5)
          // Nothing may still run under the old epoch: it would run for ever.
          expect(new Set(yield* statuses(ids(wanted)))).toEqual(new Set(["queued"]))
          for (const { id, attempt } of answer.claimed) {
            const late = yield* nodes[0].settle(slot, { id, namespace: home, attempt, trace: undefined }, completed)
            expect(late).toEqual({ recorded: false })
          }
          slot = { ...slot, epoch: taken.epoch }
        }
        expect(slot.epoch).toBe(61)
        expect(fencedClaims).toBeGreaterThan(0)
        expect(fencedClaims).toBeLessThan(60)
      })
    )

    it.effect("of one instance by many at once gives each its own epoch", () =>
      Effect.gen(function* () {
        const nodes = [yield* Ledger, yield* otherNode] as const
        const { agentId, tasks: all } = yield* running(10, () => ({ maxAttempts: 3 }))
        const taken = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) => index),
          (index) => nodes[index % 2 === 0 ? 0 : 1].takeOver({ agentId, index: 0 }),
          { concurrency: "unbounded" }
        )
        expect(new Set(taken.map(({ epoch }) => epoch)).size).toBe(20)
        expect(taken.reduce((sum, { requeued }) => sum + requeued, 0)).toBe(10)
        expect(new Set((yield* rows(ids(all))).map(({ attempt }) => attempt))).toEqual(new Set([1]))
      })
    )
  })

  describe("progress", () => {
    it.effect("is recorded while the attempt runs, and not after", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs, slot, tasks: all } = yield* running(1)
        const run = yield* first(runs)
        yield* ledger.progress(slot, run, { percentage: 10, current_step: "first" })
        yield* ledger.progress(slot, { ...run, attempt: 2 }, { percentage: 99 })
        yield* ledger.progress({ ...slot, epoch: slot.epoch + 1 }, run, { percentage: 99 })
        expect(yield* row(run.id)).toMatchObject({ progress: { percentage: 10, current_step: "first" }, version: 3 })
        yield* ledger.settle(slot, run, retryAfter(0))
        yield* ledger.progress(slot, run, { percentage: 99 })
        yield* ledger.queueDue(1_000)
        yield* claim(yield* lease(agentId), all)
        expect((yield* row(run.id))?.progress).toBeNull()
        expect((yield* eventTypes(run.id)).filter((type) => type === "TaskProgressed")).toHaveLength(1)
      })
    )
  })

  it.effect("what no longer runs under a lease is found lost", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { runs, slot } = yield* running(4)
      const [running0, done, cancelled, retried] = ids(runs)
      if (running0 === undefined || done === undefined || cancelled === undefined || retried === undefined) return
      yield* ledger.settle(slot, { ...(yield* first(runs)), id: done }, completed)
      yield* ledger.cancel(home, [cancelled], { actor: "key:test", reason: undefined })
      yield* ledger.settle(slot, { ...(yield* first(runs)), id: retried }, retryAfter(0))
      expect(yield* ledger.lost(slot, ids(runs))).toEqual([done, cancelled, retried])
      yield* lease(slot.agentId)
      expect(yield* ledger.lost(slot, [running0])).toEqual([running0])
    })
  )

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})
