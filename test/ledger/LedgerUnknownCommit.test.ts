/** Commits whose answer is lost: each is recorded once and answered rightly, whether the first try was carried out or not. */

import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, expect, layer } from "@effect/vitest"
import { Cause, Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Redacted, References } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { GraphId, NodeName } from "../../protocol/Ids.ts"
import { LedgerLimits } from "../../src/ledger/Committing.ts"
import { migrate } from "../../src/ledger/Migrations.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import { freshDatabase } from "../support/Servers.ts"
import * as FaultProxy from "./FaultProxy.ts"
import {
  agent,
  brokenHistories,
  claim,
  completed,
  eventTypes,
  home,
  lease,
  orderOf,
  released,
  retryAfter,
  row,
  running,
  statuses,
  task,
  tasks
} from "./LedgerHarness.ts"

class Proxy extends Context.Service<Proxy, FaultProxy.FaultProxy>()("datamcp/test/Proxy") {}
/** A ledger that reaches Postgres through the proxy. */
class Shaken extends Context.Service<Shaken, Ledger["Service"]>()("datamcp/test/Shaken") {}

/** `SqlClient` and `Ledger` are undisturbed and look at the truth; `Shaken` is what is tested. */
const Live = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* freshDatabase()
    const proxy = yield* FaultProxy.make(Number(new URL(Redacted.value(url)).port))
    const through = new URL(Redacted.value(url))
    through.port = String(proxy.port)
    const options = { connectionsMax: 6, applicationName: "unknown-commit" }
    const limits = yield* LedgerLimits
    const shaken = Layer.effect(
      Shaken,
      Effect.map(
        Layer.build(Layer.fresh(PostgresLedger.layer(NodeName.make("n1")))).pipe(
          Effect.provideService(LedgerLimits, {
            ...limits,
            patience: Duration.millis(700),
            answerWithin: Duration.millis(400)
          })
        ),
        Context.get(Ledger)
      )
    ).pipe(Layer.provide(Layer.fresh(Postgres.layer({ ...options, url: Redacted.make(through.href) }))))
    return Layer.mergeAll(shaken, Layer.succeed(Proxy, proxy)).pipe(
      Layer.provideMerge(PostgresLedger.layer(NodeName.make("n2"))),
      Layer.provideMerge(MemoryBus.layer),
      Layer.provideMerge(Layer.effectDiscard(migrate())),
      Layer.provideMerge(Layer.mergeAll(Postgres.layer({ ...options, url }), NodeServices.layer, UuidV7.layer)),
      Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
    )
  })
)

/** Loses the answer to what this sends. Fails when nothing was lost. */
const unanswered = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const proxy = yield* Proxy
    const before = proxy.faults()
    proxy.cutNextAnswer()
    const answer = yield* effect
    expect(proxy.faults()).toBe(before + 1)
    return answer
  })

/** Runs `during` while Postgres carries out what `effect` sent and the connection it was sent on is cut. */
const underWay = Effect.fnUntraced(function* <A, E, R>(lockedTask: string, effect: Effect.Effect<A, E, R>) {
  const sql = yield* SqlClient.SqlClient
  const proxy = yield* Proxy
  const before = proxy.faults()
  const locked = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const holder = yield* sql`select 1 from tasks where id = ${lockedTask} for update`.pipe(
    Effect.andThen(Deferred.succeed(locked, undefined)),
    Effect.andThen(Deferred.await(release)),
    sql.withTransaction,
    Effect.forkChild
  )
  yield* Deferred.await(locked)
  proxy.cutNextQuestion()
  const fiber = yield* Effect.forkChild(effect)
  // Both the first statement and its repetition wait for the lock.
  const waiting = sql<{ count: number }>`
    select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
  `
  yield* Effect.repeat(waiting, { until: ([found]) => (found?.count ?? 0) >= 2, times: 2_000 })
  yield* Deferred.succeed(release, undefined)
  yield* Fiber.join(holder)
  const answer = yield* Fiber.join(fiber)
  expect(proxy.faults()).toBe(before + 1)
  return answer
})

const ids = <A extends { readonly id: string }>(all: ReadonlyArray<A>) => all.map(({ id }) => id)

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("an unknown commit", (it) => {
  describe("of an accept", () => {
    it.effect("accepts each task once and says so, key or not", () =>
      Effect.gen(function* () {
        const ledger = yield* Shaken
        const agentId = yield* agent
        for (let round = 0; round < 4; round++) {
          const key = { idempotency: { key: `unknown-${round}`, fingerprint: "ab".repeat(32) } }
          const batch = [yield* task({ agentId }), yield* task({ agentId, ...key })]
          const outcomes = yield* unanswered(ledger.accept(batch))
          expect(outcomes).toMatchObject([
            { _tag: "Accepted", status: "queued" },
            { _tag: "Accepted", status: "queued" }
          ])
          for (const { id } of batch) expect(yield* eventTypes(id)).toEqual(["TaskCreated"])
          const [repeated] = yield* ledger.accept([yield* task({ agentId, ...key })])
          expect(repeated).toMatchObject({ _tag: "Existing", id: batch[1]?.id, same: true })
        }
      })
    )

    it.effect(
      "joins a waiting task once, and takes a unique key once, also when the first try is still under way",
      () =>
        Effect.gen(function* () {
          const [shaken, ledger] = [yield* Shaken, yield* Ledger]
          const sql = yield* SqlClient.SqlClient
          const item = (payload: string) =>
            task({
              payload,
              conditions: {
                coalesce: {
                  ...{ key: "unknown", keep: "all", quietMillis: undefined, waitMillisMax: 3_600_000, itemsMax: 5 },
                  agentId: undefined
                }
              }
            })
          const first = yield* item("1")
          expect(yield* unanswered(shaken.accept([first]))).toMatchObject([{ _tag: "Accepted", waitingFor: "time" }])
          const joined = [{ _tag: "Coalesced", id: first.id }]
          expect(yield* unanswered(shaken.accept([yield* item("2")]))).toMatchObject(joined)
          expect(yield* underWay(first.id, shaken.accept([yield* item("3")]))).toMatchObject(joined)
          const last = [yield* item("4"), yield* item("5"), yield* item("6")]
          const outcomes = yield* unanswered(shaken.accept(last))
          expect(outcomes).toMatchObject([...joined, ...joined, { _tag: "Accepted" }])
          yield* ledger.queueDue(100)
          const payloads = yield* sql<{ payload: unknown }>`select payload from tasks where id = ${first.id}`
          expect(payloads).toEqual([{ payload: [1, 2, 3, 4, 5] }])
          const updates = ["TaskUpdated", "TaskUpdated", "TaskUpdated"]
          expect(yield* eventTypes(first.id)).toEqual(["TaskCreated", ...updates, "TaskQueued"])

          const holder = yield* task({ conditions: { unique: { key: "unknown", onConflict: "refuse" } } })
          expect(yield* unanswered(shaken.accept([holder]))).toMatchObject([{ _tag: "Accepted" }])
          // It has ended before the first try is repeated: the repetition takes nothing again.
          const again = yield* task({ conditions: { unique: { key: "unknown-ended", onConflict: "refuse" } } })
          yield* ledger.accept([again])
          yield* ledger.cancel(home, [again.id], { actor: "key:test", reason: undefined })
          expect(yield* ledger.accept([again])).toMatchObject([{ _tag: "Accepted", status: "cancelled" }])
          expect(yield* sql`select key, task_id from unique_keys`).toEqual([{ key: "unknown", task_id: holder.id }])
          expect(yield* brokenHistories).toEqual([])
        })
    )

    it.effect("accepts a graph once and says so", () =>
      Effect.gen(function* () {
        const ledger = yield* Shaken
        const ids = yield* UuidV7
        const agentId = yield* agent
        const id = GraphId.make(ids.next())
        const root = yield* task({ agentId, graphId: id })
        const leaf = yield* task({ agentId, graphId: id, dependencies: [{ task_id: root.id }] })
        const graph = {
          id,
          namespace: home,
          name: undefined,
          idempotency: { key: "graph", fingerprint: "ab".repeat(32) }
        }
        const outcomes = yield* unanswered(ledger.accept([leaf, root], { atomic: true, graph }))
        expect(outcomes).toMatchObject([
          { _tag: "Accepted", status: "pending", waitingFor: "dependencies" },
          { _tag: "Accepted", status: "queued" }
        ])
        expect(yield* row(leaf.id)).toMatchObject({ dependencies_open: 1 })
      })
    )

    it.effect("tells the status of now when the task went on in the meantime", () =>
      Effect.gen(function* () {
        const [shaken, ledger] = [yield* Shaken, yield* Ledger]
        const sql = yield* SqlClient.SqlClient
        const proxy = yield* Proxy
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const given = yield* task({ agentId })
        proxy.cutNextAnswer()
        const fiber = yield* Effect.forkChild(shaken.accept([given]))
        yield* Effect.repeat(sql`select 1 from tasks where id = ${given.id}`, {
          until: (found) => found.length > 0,
          times: 2_000
        })
        proxy.refuse(true)
        const [run] = yield* claim(slot, [given])
        if (run === undefined) return expect(run).toBeDefined()
        yield* ledger.settle(slot, run, completed)
        proxy.refuse(false)
        expect(yield* Fiber.join(fiber)).toMatchObject([{ _tag: "Accepted", status: "completed" }])
        expect(yield* eventTypes(given.id)).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
      })
    )

    it.effect("that stays unknown is said to be so in time", () =>
      Effect.gen(function* () {
        const ledger = yield* Shaken
        const proxy = yield* Proxy
        proxy.refuse(true)
        const given = yield* task({ agentId: yield* agent })
        const [elapsed, exit] = yield* Effect.timed(Effect.exit(ledger.accept([given])))
        proxy.refuse(false)
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({
          _tag: "LedgerUnavailable",
          operation: "accept"
        })
        expect(Duration.toMillis(elapsed)).toBeLessThan(1_700)
      })
    )

    it.effect("on a connection that fell silent is said to be so in time, or answered by another", () =>
      Effect.gen(function* () {
        const ledger = yield* Shaken
        const proxy = yield* Proxy
        yield* ledger.agentsWithWork(1)
        proxy.silence()
        const given = yield* task({ agentId: yield* agent })
        const [elapsed, exit] = yield* Effect.timed(Effect.exit(ledger.accept([given])))
        expect(Duration.toMillis(elapsed)).toBeLessThan(1_700)
        if (Exit.isSuccess(exit)) expect(yield* statuses([given.id])).toEqual(["queued"])
      })
    )
  })

  describe("of a claim", () => {
    it.effect("wins what the first try won, once, with what it needs", () =>
      Effect.gen(function* () {
        const [shaken, ledger] = [yield* Shaken, yield* Ledger]
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        for (let round = 0; round < 4; round++) {
          const all = yield* tasks(5, () => ({ agentId, payload: `{"round":${round}}` }))
          const lost = yield* task({ agentId })
          yield* ledger.accept([...all, lost])
          yield* ledger.cancel(home, [lost.id], { actor: "key:test", reason: undefined })
          const answer = yield* unanswered(
            shaken.claim(
              slot,
              [...all, lost].map((each) => orderOf(each, { payload_behind: true }))
            )
          )
          expect(answer.fenced).toBe(false)
          expect(new Set(ids(answer.claimed))).toEqual(new Set(ids(all)))
          expect(answer.claimed).toHaveLength(5)
          for (const each of answer.claimed) expect(each).toMatchObject({ attempt: 1, payload: { round } })
          for (const { id } of all) expect(yield* eventTypes(id)).toEqual(["TaskCreated", "TaskStarted"])
        }
      })
    )

    it.effect("does not win again what an earlier claim of the same instance already runs", () =>
      Effect.gen(function* () {
        const shaken = yield* Shaken
        const { slot, tasks: all } = yield* running(2)
        const fresh = yield* task({ agentId: slot.agentId })
        yield* (yield* Ledger).accept([fresh])
        const answer = yield* unanswered(
          shaken.claim(
            slot,
            [...all, fresh].map((each) => orderOf(each))
          )
        )
        expect(ids(answer.claimed)).toContain(fresh.id)
        // The ledger cannot tell them apart; the instance can, because it holds them.
        expect(new Set(ids(answer.claimed)).size).toBe(answer.claimed.length)
      })
    )

    it.effect("that a takeover overtook is fenced and wins nothing", () =>
      Effect.gen(function* () {
        const [shaken, ledger] = [yield* Shaken, yield* Ledger]
        const proxy = yield* Proxy
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const given = yield* task({ agentId })
        yield* ledger.accept([given])
        proxy.cutNextAnswer()
        const fiber = yield* Effect.forkChild(shaken.claim(slot, [orderOf(given)]))
        yield* Effect.repeat(statuses([given.id]), { until: ([status]) => status === "running", times: 2_000 })
        proxy.refuse(true)
        yield* ledger.takeOver({ agentId, index: 0 })
        proxy.refuse(false)
        expect(yield* Fiber.join(fiber)).toEqual({ fenced: true, claimed: [] })
      })
    )

    it.effect("whose first try is still under way waits for it", () =>
      Effect.gen(function* () {
        const shaken = yield* Shaken
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const given = yield* task({ agentId })
        yield* (yield* Ledger).accept([given])
        const answer = yield* underWay(given.id, shaken.claim(slot, [orderOf(given)]))
        expect(answer).toMatchObject({ fenced: false, claimed: [{ id: given.id, attempt: 1 }] })
        expect(yield* eventTypes(given.id)).toEqual(["TaskCreated", "TaskStarted"])
      })
    )

    it.effect("is answered however long Postgres is away: nobody else would run what it won", () =>
      Effect.gen(function* () {
        const shaken = yield* Shaken
        const proxy = yield* Proxy
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const given = yield* task({ agentId })
        yield* (yield* Ledger).accept([given])
        proxy.cutNextAnswer()
        const fiber = yield* Effect.forkChild(shaken.claim(slot, [orderOf(given)]))
        yield* Effect.repeat(statuses([given.id]), { until: ([status]) => status === "running", times: 2_000 })
        proxy.refuse(true)
        // Longer than the patience of an accept.
        const early = yield* Effect.timeoutOption(Fiber.await(fiber), "1000 millis")
        proxy.refuse(false)
        expect(early._tag).toBe("None")
        expect(yield* Fiber.join(fiber)).toMatchObject({ fenced: false, claimed: [{ id: given.id, attempt: 1 }] })
      })
    )
  })

  describe("of an end", () => {
    it.effect("is recorded once, tallied once, and starts dependents once", () =>
      Effect.gen(function* () {
        const [shaken, ledger] = [yield* Shaken, yield* Ledger]
        const sql = yield* SqlClient.SqlClient
        const { agentId, runs, slot } = yield* running(4)
        const children = yield* Effect.forEach(runs, ({ id }) => task({ agentId, dependencies: [{ task_id: id }] }))
        yield* ledger.accept(children)
        for (const run of runs)
          expect(yield* unanswered(shaken.settle(slot, run, completed))).toEqual({ recorded: true })
        for (const { id } of runs)
          expect(yield* eventTypes(id)).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
        for (const { id } of children) expect(yield* eventTypes(id)).toEqual(["TaskCreated", "TaskQueued"])
        const [tally] =
          yield* sql`select sum(completed)::int as completed from agent_tallies where agent_id = ${agentId}`
        expect(tally).toEqual({ completed: 4 })
      })
    )

    it.effect("as a retry or a release is recorded once", () =>
      Effect.gen(function* () {
        const shaken = yield* Shaken
        const { runs, slot } = yield* running(2)
        const [retried, given] = runs
        if (retried === undefined || given === undefined) return
        expect(yield* unanswered(shaken.settle(slot, retried, retryAfter(60_000)))).toEqual({ recorded: true })
        expect(yield* unanswered(shaken.settle(slot, given, released))).toEqual({ recorded: true })
        expect(yield* row(retried.id)).toMatchObject({ status: "pending", attempt: 1 })
        expect(yield* row(given.id)).toMatchObject({ status: "queued", attempt: 0 })
      })
    )

    it.effect("that was fenced before is not taken for its own", () =>
      Effect.gen(function* () {
        const [shaken, ledger] = [yield* Shaken, yield* Ledger]
        const { agentId, runs, slot } = yield* running(1)
        yield* ledger.takeOver({ agentId, index: 0 })
        for (const run of runs)
          expect(yield* unanswered(shaken.settle(slot, run, completed))).toEqual({ recorded: false })
      })
    )

    it.effect("whose first try is still under way waits for it", () =>
      Effect.gen(function* () {
        const shaken = yield* Shaken
        const { runs, slot } = yield* running(1)
        for (const run of runs) {
          expect(yield* underWay(run.id, shaken.settle(slot, run, completed))).toEqual({ recorded: true })
          expect(yield* eventTypes(run.id)).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
        }
      })
    )

    it.effect("on a connection that fell silent goes another way, although all of the pool fell silent with it", () =>
      Effect.gen(function* () {
        const shaken = yield* Shaken
        const proxy = yield* Proxy
        const { runs, slot } = yield* running(12)
        // Opens every connection that the pool may have.
        yield* Effect.replicateEffect(shaken.agentsWithWork(1), 12, { concurrency: "unbounded" })
        proxy.silence()
        const settling = Effect.forEach(runs, (run) => shaken.settle(slot, run, completed), {
          concurrency: "unbounded"
        })
        const [took, settled] = yield* Effect.timed(settling)
        expect(settled.every(({ recorded }) => recorded)).toBe(true)
        // Not one connection after the other, each with its own silence.
        expect(Duration.toMillis(took)).toBeLessThan(8_000)
        for (const { id } of runs)
          expect(yield* eventTypes(id)).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
      })
    )
  })

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})
