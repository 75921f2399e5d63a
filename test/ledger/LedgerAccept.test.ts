/** Accepting tasks: what waits and what is queued, keys that answer again, refusals that store nothing. */
import { describe, expect, layer } from "@effect/vitest"
import { DateTime, Effect, Latch } from "effect"
import { SqlClient } from "effect/sql"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger, type NewGraph, type NewTask } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { Event } from "../../protocol/Event.ts"
import { GraphId, TaskId } from "../../protocol/Ids.ts"
import { insertNamespace } from "./Database.ts"
import {
  agent,
  brokenHistories,
  completed,
  countRows,
  eventsOf,
  failed,
  home,
  layer as Live,
  otherNode,
  row,
  rows,
  running,
  statuses,
  task,
  tasks
} from "./LedgerHarness.ts"

const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString()
const anHourAgo = () => new Date(Date.now() - 3_600_000).toISOString()
const key = (name: string, body = "ab") => ({ idempotency: { key: name, fingerprint: body.repeat(32) } })

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("accepting tasks", (it) => {
  describe("what a task waits for", () => {
    it.effect("nothing: it is queued; else its first obstacle is told", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs } = yield* running(1)
        const dependencies = [{ task_id: runs[0]?.id ?? TaskId.make("") }]
        const cases: ReadonlyArray<readonly [Partial<NewTask>, string]> = [
          [{ agentId }, "queued"],
          [{ agentId, runAt: anHourAgo() }, "queued"],
          [{ agentId, runAt: inAnHour() }, "pending time"],
          [{}, "pending agent"],
          [{ runAt: inAnHour() }, "pending time"],
          [{ agentId, dependencies }, "pending dependencies"],
          [{ dependencies, runAt: inAnHour() }, "pending dependencies"]
        ]
        const handed = yield* Effect.forEach(cases, ([over]) => task(over))
        const outcomes = yield* ledger.accept(handed)
        const said = outcomes.map((outcome) =>
          outcome._tag === "Accepted" ? [outcome.status, outcome.waitingFor].filter(Boolean).join(" ") : outcome._tag
        )
        expect(said).toEqual(cases.map(([, expected]) => expected))
        const stored = yield* rows(handed.map(({ id }) => id))
        expect(stored.map((each) => [each.status, each.waiting_for].filter(Boolean).join(" "))).toEqual(said)
      })
    )

    it.effect("all that was submitted is stored as it was", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const payload = '{"z":1.0,"a":1e400,"\\u00e9":[null,{"q":"\\"$datamcp_file$\'"}]}'
        const given = yield* task({
          agentId,
          name: 'Übung "1"; drop table tasks',
          description: "long\nlines",
          lane: "critical",
          payload,
          configuration: '{"timeout_ms":5}',
          labels: '{"k":"v"}',
          metadata: '{"m":[1]}',
          maxAttempts: 3,
          atMostOnce: true,
          deadline: "2099-01-02T03:04:05.678Z",
          trace: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`
        })
        yield* ledger.accept([given])
        const [stored] = yield* sql`
          select name, description, lane, payload::text as payload, configuration, labels, metadata, max_attempts, at_most_once,
            deadline, trace, actor, retry_of from tasks where id = ${given.id}
        `
        expect(stored).toEqual({
          name: given.name,
          description: given.description,
          lane: "critical",
          payload,
          configuration: { timeout_ms: 5 },
          labels: { k: "v" },
          metadata: { m: [1] },
          max_attempts: 3,
          at_most_once: true,
          deadline: DateTime.toDateUtc(DateTime.makeUnsafe("2099-01-02T03:04:05.678Z")),
          trace: given.trace,
          actor: "key:test",
          retry_of: null
        })
      })
    )

    it.effect("a parent that ended before its child came decides at once", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const { agentId, runs, slot } = yield* running(2)
        const [good, bad] = runs
        if (good === undefined || bad === undefined) return
        yield* ledger.settle(slot, good, completed)
        yield* ledger.settle(slot, bad, failed)
        const children = yield* Effect.forEach(
          [
            { task_id: good.id },
            { task_id: bad.id },
            { task_id: bad.id, required: false },
            { task_id: bad.id, on: "ended" }
          ] as const,
          (dependency) => task({ agentId, dependencies: [dependency] })
        )
        const outcomes = yield* ledger.accept(children)
        expect(outcomes.map((outcome) => outcome._tag === "Accepted" && outcome.status)).toEqual([
          "queued",
          "failed",
          "cancelled",
          "queued"
        ])
      })
    )
  })

  describe("its event", () => {
    it.effect("is number 1, stored with it, and published after it", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const bus = yield* Bus
        const heard: Array<Event> = []
        const arrived = yield* Latch.make()
        yield* bus.onEvents(home, (events) => {
          heard.push(...events)
          arrived.openUnsafe()
        })
        const agentId = yield* agent
        const [now, later] = [yield* task({ agentId }), yield* task({ agentId, runAt: inAnHour() })]
        yield* ledger.accept([now, later])
        yield* arrived.await
        for (const [given, data] of [
          [now, null],
          [later, { waiting_for: "time" }]
        ] as const) {
          const [stored, ...more] = yield* eventsOf(given.id)
          expect(more).toEqual([])
          expect(stored).toEqual({ number: 1, type: "TaskCreated", data, actor: "key:test" })
          const said = heard.find((event) => event.aggregate === given.id)
          expect(said).toMatchObject({ number: 1, type: "TaskCreated", data, actor: "key:test", namespace: home })
          expect(said?.at).toBe((yield* row(given.id))?.created_at.toISOString())
        }
      })
    )
  })

  describe("an idempotency key", () => {
    it.effect("answers the first task again, and refuses another body", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const first = yield* task({ agentId, ...key("again") })
        const second = yield* task({ agentId, ...key("again") })
        const other = yield* task({ agentId, ...key("again", "cd") })
        const [made] = yield* ledger.accept([first])
        expect(made?._tag).toBe("Accepted")
        const [repeated] = yield* ledger.accept([second])
        expect(repeated).toMatchObject({ _tag: "Existing", id: first.id, same: true, status: "queued" })
        expect(repeated).toHaveProperty("createdAt", (yield* row(first.id))?.created_at.toISOString())
        const [refused] = yield* ledger.accept([other])
        expect(refused).toMatchObject({ _tag: "Existing", id: first.id, same: false })
        expect(yield* rows([second.id, other.id])).toEqual([])
      })
    )

    it.effect("belongs to its namespace", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const elsewhere = yield* insertNamespace("elsewhere")
        const outcomes = yield* ledger.accept([
          yield* task(key("per-namespace")),
          yield* task({ namespace: elsewhere, ...key("per-namespace", "ef") })
        ])
        expect(outcomes.map(({ _tag }) => _tag)).toEqual(["Accepted", "Accepted"])
      })
    )

    it.effect("makes one task however many submit it at once, on whichever node", () =>
      Effect.gen(function* () {
        const nodes = [yield* Ledger, yield* otherNode]
        const rivals = yield* tasks(50, () => key("contended"))
        const outcomes = yield* Effect.forEach(
          rivals.entries(),
          ([index, rival]) =>
            Effect.flatMap(Effect.fromNullishOr(nodes[index % 2]), (ledger) => ledger.accept([rival])),
          { concurrency: "unbounded" }
        )
        const flat = outcomes.flat()
        expect(flat.filter(({ _tag }) => _tag === "Accepted")).toHaveLength(1)
        const [made] = yield* rows(rivals.map(({ id }) => id))
        expect(
          flat.filter((outcome) => outcome._tag === "Existing" && outcome.same && outcome.id === made?.id)
        ).toHaveLength(49)
      })
    )

    it.effect("used twice in one batch makes one task", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const batch = [
          yield* task(key("twice")),
          yield* task(),
          yield* task(key("twice")),
          yield* task(key("twice", "cd"))
        ]
        const outcomes = yield* ledger.accept(batch)
        expect(outcomes).toMatchObject([
          { _tag: "Accepted" },
          { _tag: "Accepted" },
          { _tag: "Existing", id: batch[0]?.id, same: true, status: "pending" },
          { _tag: "Existing", id: batch[0]?.id, same: false }
        ])
        expect(yield* rows(batch.map(({ id }) => id))).toHaveLength(2)
      })
    )

    it.effect("is free again after 72 hours", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const age = (hours: number) =>
          sql`update idempotency_keys set created_at = now() - ${hours} * interval '1 hour' where key = 'old'`
        yield* ledger.accept([yield* task(key("old"))])
        yield* age(71.9)
        const [remembered] = yield* ledger.accept([yield* task(key("old"))])
        expect(remembered?._tag).toBe("Existing")
        yield* age(72.1)
        const renewed = yield* task(key("old", "cd"))
        expect((yield* ledger.accept([renewed]))[0]?._tag).toBe("Accepted")
        expect((yield* ledger.accept([yield* task(key("old", "cd"))]))[0]).toMatchObject({ id: renewed.id, same: true })
      })
    )
  })

  describe("what is refused", () => {
    it.effect("an unknown parent or dependency stores nothing and leaves its neighbours alone", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const ids = yield* UuidV7
        const nowhere = TaskId.make(ids.next())
        const elsewhere = yield* insertNamespace("elsewhere")
        const foreign = yield* task({ namespace: elsewhere })
        yield* ledger.accept([foreign])
        const batch = [
          yield* task({ parentId: nowhere, ...key("orphan") }),
          yield* task({ dependencies: [{ task_id: nowhere }] }),
          yield* task({ parentId: foreign.id }),
          yield* task({ dependencies: [{ task_id: foreign.id }] }),
          yield* task({ parentId: foreign.id, namespace: elsewhere })
        ]
        const outcomes = yield* ledger.accept(batch)
        expect(outcomes).toMatchObject([
          { _tag: "UnknownTask", field: "parent_id", id: nowhere },
          { _tag: "UnknownTask", field: "dependencies", id: nowhere },
          { _tag: "UnknownTask", field: "parent_id", id: foreign.id },
          { _tag: "UnknownTask", field: "dependencies", id: foreign.id },
          { _tag: "Accepted" }
        ])
        const stored = yield* rows(batch.map(({ id }) => id))
        expect(stored.map(({ id }) => id)).toEqual([batch[4]?.id])
        expect(outcomes[4]).toHaveProperty("createdAt", stored[0]?.created_at.toISOString())
        const retried = yield* ledger.accept([yield* task(key("orphan", "cd"))])
        expect(retried[0]?._tag).toBe("Accepted")
      })
    )

    it.effect("the time of an accepted task is its own, not that of an older one in its batch", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const first = yield* task(key("elder"))
        yield* ledger.accept([first])
        yield* sql`update tasks set created_at = now() - interval '1 hour' where id = ${first.id}`
        const fresh = yield* task()
        const outcomes = yield* ledger.accept([yield* task(key("elder")), fresh])
        expect(outcomes[1]).toHaveProperty("createdAt", (yield* row(fresh.id))?.created_at.toISOString())
      })
    )

    it.effect("a row that Postgres will not store costs only itself", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const batch = yield* tasks(40, (index) => ({
          agentId,
          ...(index === 7 && { name: "with\u0000inside" }),
          ...(index === 23 && { payload: '{"half":"\\ud800"}' })
        }))
        const outcomes = yield* ledger.accept(batch)
        const refused = outcomes.flatMap((outcome, index) => (outcome._tag === "Refused" ? [index] : []))
        expect(refused).toEqual([7, 23])
        expect(outcomes.filter(({ _tag }) => _tag === "Accepted")).toHaveLength(38)
        expect(yield* rows(batch.map(({ id }) => id))).toHaveLength(38)
      })
    )
  })

  describe("all or none", () => {
    const graph = Effect.fnUntraced(function* (over: Partial<NewGraph> = {}) {
      const ids = yield* UuidV7
      return {
        id: GraphId.make(ids.next()),
        namespace: home,
        name: undefined,
        idempotency: undefined,
        ...over
      } satisfies NewGraph
    })

    it.effect("one refusal takes everything back, keys and graph included", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const ids = yield* UuidV7
        const before = [yield* countRows("tasks"), yield* countRows("graphs"), yield* countRows("idempotency_keys")]
        const nowhere = TaskId.make(ids.next())
        const batch = [
          yield* task(key("taken-back")),
          yield* task({ dependencies: [{ task_id: nowhere }] }),
          yield* task()
        ]
        const outcomes = yield* ledger.accept(batch, {
          atomic: true,
          graph: yield* graph({ idempotency: { key: "graph-taken-back", fingerprint: "ab".repeat(32) } })
        })
        const refusal = { _tag: "UnknownTask", field: "dependencies", id: nowhere }
        expect(outcomes).toMatchObject([{ _tag: "Undone" }, refusal, { _tag: "Undone" }])
        expect([yield* countRows("tasks"), yield* countRows("graphs"), yield* countRows("idempotency_keys")]).toEqual(
          before
        )
      })
    )

    it.effect("a key of an earlier task with another body refuses all, with the same body none", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const first = yield* task(key("earlier"))
        yield* ledger.accept([first])
        const refused = [yield* task(), yield* task(key("earlier", "cd"))]
        const answers = yield* ledger.accept(refused, { atomic: true })
        expect(answers).toMatchObject([{ _tag: "Undone" }, { _tag: "Existing", same: false }])
        expect(yield* rows(refused.map(({ id }) => id))).toEqual([])
        const kept = [yield* task(), yield* task(key("earlier"))]
        expect(yield* ledger.accept(kept, { atomic: true })).toMatchObject([
          { _tag: "Accepted" },
          { _tag: "Existing", id: first.id, same: true }
        ])
      })
    )

    it.effect("a row that Postgres will not store refuses all", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const batch = [yield* task(), yield* task({ name: "with\u0000inside" })]
        const outcomes = yield* ledger.accept(batch, { atomic: true })
        expect(outcomes.map(({ _tag }) => _tag)).toEqual(["Refused", "Refused"])
        expect(yield* rows(batch.map(({ id }) => id))).toEqual([])
      })
    )

    it.effect("a graph of 1,000 tasks is accepted once, however often its key comes", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const make = Effect.fnUntraced(function* () {
          const described = yield* graph({ idempotency: { key: "thousand", fingerprint: "ab".repeat(32) } })
          const all = yield* tasks(1_000, (index) => ({ agentId, graphId: described.id, graphKey: `t${index}` }))
          // Every task but the first ten waits for one of them, and names are in no particular order.
          const linked = all.map((each, index) =>
            index < 10 ? each : { ...each, dependencies: [{ task_id: all[index % 10]?.id ?? each.id }] }
          )
          return { described, all: linked.reverse() }
        })
        const rivals = yield* Effect.replicateEffect(make(), 4)
        const answers = yield* Effect.forEach(
          rivals,
          ({ all, described }) => ledger.accept(all, { atomic: true, graph: described }),
          { concurrency: "unbounded" }
        )
        const winner = answers.findIndex((outcomes) => outcomes[0]?._tag === "Accepted")
        const made = rivals[winner]
        if (made === undefined) return expect(winner).toBeGreaterThanOrEqual(0)
        for (const [index, outcomes] of answers.entries()) {
          expect(outcomes).toHaveLength(1_000)
          if (index !== winner)
            expect(outcomes[0]).toMatchObject({ _tag: "Existing", id: made.described.id, same: true })
        }
        const found = yield* statuses(made.all.map(({ id }) => id))
        expect(found.filter((status) => status === "queued")).toHaveLength(10)
        expect(found.filter((status) => status === "pending")).toHaveLength(990)
        const other = yield* ledger.accept([yield* task()], {
          atomic: true,
          graph: yield* graph({ idempotency: { key: "thousand", fingerprint: "cd".repeat(32) } })
        })
        expect(other).toMatchObject([{ _tag: "Existing", id: made.described.id, same: false }])
      })
    )
  })

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})
