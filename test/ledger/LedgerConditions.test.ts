/**
 * Accepting under a condition: a key that one live task has, a key under which submissions join a waiting task, and a start in time. With
 * histories of many at once, on two nodes, that no order of them may break.
 */
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Queue, Random } from "effect"
import { SqlClient } from "effect/sql"
import { type AcceptOutcome, type Conditions, Ledger, type NewTask } from "../../actors/ports/Ledger.ts"
import { TaskId } from "../../protocol/Ids.ts"
import { invariants } from "../../src/ledger/Invariants.ts"
import { insertNamespace } from "./Database.ts"
import {
  agent,
  brokenHistories,
  claim,
  completed,
  countRows,
  eventsOf,
  eventTypes,
  failed,
  home,
  layer as Live,
  lease,
  otherNode,
  row,
  running,
  statuses,
  task,
  tasks
} from "./LedgerHarness.ts"

const unique = (key: string, onConflict: "refuse" | "existing" = "refuse") => ({
  conditions: { unique: { key, onConflict } }
})

type Coalesce = NonNullable<Conditions["coalesce"]>
const coalesce = (key: string, over: Partial<Coalesce> = {}) => ({
  conditions: {
    coalesce: {
      ...{
        key,
        keep: "all" as const,
        quietMillis: undefined,
        waitMillisMax: 3_600_000,
        itemsMax: 1_000,
        agentId: undefined
      },
      ...over
    }
  }
})
const debounce = (key: string, over: Partial<Coalesce> = {}) => coalesce(key, { keep: "latest", ...over })

const key = (name: string, body = "ab") => ({ idempotency: { key: name, fingerprint: body.repeat(32) } })

/** What was said, in short. */
const said = (outcomes: ReadonlyArray<AcceptOutcome>) => outcomes.map(({ _tag }) => _tag)
const idOf = (outcome: AcceptOutcome | undefined) => (outcome !== undefined && "id" in outcome ? outcome.id : undefined)

const payloadOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{ readonly payload: unknown }>`select payload from tasks where id = ${id}`
  return found?.payload
})

/** What `datamcp verify` would say of all tasks and of conditions. Should always be nothing. */
const brokenState = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const found = yield* Effect.forEach(
    invariants.filter(({ guarantee, over }) => guarantee === "Conditions" && over === "database"),
    ({ id, query }) =>
      Effect.map(sql.unsafe<object>(query, [null]), (rows) => rows.map((each) => ({ check: id, ...each })))
  )
  return [...found.flat(), ...(yield* brokenHistories)]
})

/** Lets the clock of these waiting tasks run out. */
const makeDue = Effect.fnUntraced(function* (...ids: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`update tasks set run_at = now() - interval '1 second' where id = any (${ids}::uuid[])`
})

/** As if so many seconds had gone by for these tasks. */
const pass = Effect.fnUntraced(function* (seconds: number, ids: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`update events set at = at - ${seconds} * interval '1 second' where aggregate = any (${ids}::uuid[])`
  yield* sql`update start_deadlines set at = at - ${seconds} * interval '1 second' where task_id = any (${ids}::uuid[])`
})

/** Accepts each by itself, one after the other. */
const acceptInTurn = Effect.fnUntraced(function* (handed: ReadonlyArray<NewTask>) {
  const ledger = yield* Ledger
  return (yield* Effect.forEach(handed, (each) => ledger.accept([each]))).flat()
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("conditions", (it) => {
  describe("a unique key", () => {
    it.effect("is one live task's: others are refused with its id, or answered with it, until it ends", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const [first, second, third, fourth, fifth] = yield* tasks(5, (index) => ({
          agentId,
          ...unique("report-42", index === 2 ? "existing" : "refuse")
        }))
        if (first === undefined || second === undefined || third === undefined) return
        expect(said(yield* ledger.accept([first]))).toEqual(["Accepted"])
        const refused = yield* ledger.accept([second, third])
        expect(refused.map((outcome) => [outcome._tag, idOf(outcome)])).toEqual([
          ["Held", first.id],
          ["Held", first.id]
        ])
        expect(refused[0]).toMatchObject({ status: "queued", routed: { name: "a task", type: "echo.say", agentId } })
        expect(yield* statuses([second.id, third.id])).toEqual([])
        const [run] = yield* claim(slot, [first])
        if (run === undefined || fourth === undefined || fifth === undefined) return
        expect(said(yield* ledger.accept([fourth]))).toEqual(["Held"])
        yield* ledger.settle(slot, run, completed)
        expect(said(yield* ledger.accept([fifth]))).toEqual(["Accepted"])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("is free again whatever ended its task: failure, cancel, deadline, a parent that failed", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const parent = yield* task({ agentId })
        yield* ledger.accept([parent])
        const ends: ReadonlyArray<
          readonly [Partial<NewTask>, (id: TaskId, made: NewTask) => Effect.Effect<unknown, unknown>]
        > = [
          [
            {},
            (_, made) =>
              Effect.flatMap(claim(slot, [made]), ([run]) =>
                run === undefined ? Effect.die("lost") : ledger.settle(slot, run, failed)
              ).pipe(Effect.provideService(Ledger, ledger))
          ],
          [{}, (id) => ledger.cancel(home, [id], { actor: "key:test", reason: undefined })],
          [
            { deadline: "2099-01-01T00:00:00Z" },
            (id) => Effect.andThen(sql`update tasks set deadline = now() where id = ${id}`, ledger.expire(100))
          ],
          [
            { dependencies: [{ task_id: parent.id }] },
            () => ledger.cancel(home, [parent.id], { actor: "key:test", reason: undefined })
          ]
        ]
        for (const [index, [over, end]] of ends.entries()) {
          const [first, again, next] = yield* tasks(3, () => ({ agentId, ...unique(`ends-${index}`), ...over }))
          if (first === undefined || again === undefined || next === undefined) return
          expect(said(yield* acceptInTurn([first, again]))).toEqual(["Accepted", "Held"])
          yield* end(first.id, first)
          expect((yield* row(first.id))?.status).not.toBe("pending")
          expect(said(yield* ledger.accept([{ ...next, dependencies: [] }]))).toEqual(["Accepted"])
        }
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("within one batch belongs to the first that is accepted, and to another namespace not at all", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const elsewhere = yield* insertNamespace("unique-elsewhere")
        const nobody = TaskId.make("00000000-0000-7000-8000-000000000000")
        const batch = yield* tasks(6, (index) => ({
          agentId,
          ...(index === 1 ? {} : unique("batch")),
          ...(index === 0 && { parentId: nobody }),
          ...(index === 4 && { namespace: elsewhere, agentId: undefined }),
          ...(index === 5 && { ...unique("batch", "existing") })
        }))
        const outcomes = yield* ledger.accept(batch)
        expect(said(outcomes)).toEqual(["UnknownTask", "Accepted", "Accepted", "Held", "Accepted", "Held"])
        expect([idOf(outcomes[3]), idOf(outcomes[5])]).toEqual([batch[2]?.id, batch[2]?.id])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("that is held undoes an atomic batch, keys and all, unless the holder is wanted", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* agent
        const [holder, ...batch] = yield* tasks(5, (index) => ({
          agentId,
          ...[unique("atomic"), unique("atomic-other"), key("atomic-key"), coalesce("atomic-joins"), unique("atomic")][
            index
          ]
        }))
        if (holder === undefined) return
        yield* ledger.accept([holder])
        expect(said(yield* ledger.accept(batch, { atomic: true }))).toEqual(["Undone", "Undone", "Undone", "Held"])
        expect(yield* statuses(batch.map(({ id }) => id))).toEqual([])
        const wanted = batch.map((each, index) => (index === 3 ? { ...each, ...unique("atomic", "existing") } : each))
        expect(said(yield* ledger.accept(wanted, { atomic: true }))).toEqual([
          "Accepted",
          "Accepted",
          "Accepted",
          "Held"
        ])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("goes after an idempotency key: a repetition gets its first answer, whoever has the key by then", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const {
          agentId,
          runs,
          slot,
          tasks: [holder]
        } = yield* running(1, () => unique("both"))
        const run = runs[0]
        if (run === undefined || holder === undefined) return
        const ask = (over: Partial<NewTask>) =>
          Effect.flatMap(task({ agentId, ...over }), (made) => ledger.accept([made]))
        expect(said(yield* ask({ ...unique("both"), ...key("refused") }))).toEqual(["Held"])
        const joined = yield* ask({ ...unique("both", "existing"), ...key("joined") })
        expect([said(joined), idOf(joined[0])]).toEqual([["Held"], holder.id])
        yield* ledger.settle(slot, run, completed)
        const again = yield* ask({ ...unique("both", "existing"), ...key("joined") })
        expect(again).toMatchObject([{ _tag: "Existing", same: true, id: holder.id, status: "completed" }])
        expect(yield* ask({ ...unique("both", "existing"), ...key("joined", "cd") })).toMatchObject([
          { _tag: "Existing", same: false }
        ])
        const next = yield* ask({ ...unique("both"), ...key("refused") })
        expect(said(next)).toEqual(["Accepted"])
        expect(said(yield* ask({ ...unique("both"), ...key("refused") }))).toEqual(["Existing"])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("has one holder at a time, however many want it on two nodes and however fast holders end", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const other = yield* otherNode
        const names = ["hot-a", "hot-b", "hot-c"]
        let refusals = 0
        /** Who has been told that it has the key, and has not yet given it up. */
        const holders = new Map<string, number>()
        const hold = (batch: ReadonlyArray<NewTask>, by: number) => {
          for (const { conditions } of batch) {
            const name = conditions?.unique?.key ?? ""
            holders.set(name, (holders.get(name) ?? 0) + by)
            expect(holders.get(name)).toBe(by > 0 ? 1 : 0)
          }
        }
        const worker = (node: Ledger["Service"]) =>
          Effect.gen(function* () {
            for (let round = 0; round < 12; round++) {
              const order = round % 2 === 0 ? names : [...names].reverse()
              const batch = yield* Effect.forEach(order, (name) => task(unique(name)))
              const outcomes = yield* node.accept(batch)
              refusals += outcomes.filter(({ _tag }) => _tag === "Held").length
              const mine = batch.filter((_, index) => outcomes[index]?._tag === "Accepted")
              hold(mine, 1)
              // No outcome but these two, and every refusal names somebody.
              expect(outcomes.filter((outcome) => outcome._tag !== "Accepted" && idOf(outcome) === undefined)).toEqual(
                []
              )
              hold(mine, -1)
              const ids = mine.map(({ id }) => id)
              if (mine.length > 0) yield* node.cancel(home, ids, { actor: "key:test", reason: undefined })
            }
          })
        yield* Effect.all(
          Array.from({ length: 8 }, (_, index) => worker(index % 2 === 0 ? ledger : other)),
          { concurrency: "unbounded" }
        )
        expect(refusals).toBeGreaterThan(0)
        const sql = yield* SqlClient.SqlClient
        expect(yield* sql`select key from unique_keys where key like 'hot-%'`).toEqual([])
        expect(yield* brokenState).toEqual([])
      })
    )
  })

  describe("submissions that coalesce", () => {
    it.effect("keep the latest payload, push the start up to the longest wait, and say so in events", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const handed = yield* tasks(3, (index) => ({
          agentId,
          payload: `{"n": ${index}}`,
          ...debounce("typing", { quietMillis: 60_000, waitMillisMax: 90_000 })
        }))
        const [first, second, third] = handed
        if (first === undefined || second === undefined || third === undefined) return
        const outcomes = yield* acceptInTurn([first, second])
        expect(outcomes).toMatchObject([
          { _tag: "Accepted", status: "pending", waitingFor: "time" },
          { _tag: "Coalesced", id: first.id, status: "pending", waitingFor: "time", routed: { agentId } }
        ])
        const wait = Effect.map(
          sql<{
            seconds: number
          }>`select extract(epoch from run_at - created_at)::float8 as seconds from tasks where id = ${first.id}`,
          ([found]) => found?.seconds ?? 0
        )
        expect(yield* wait).toBeGreaterThan(59)
        yield* sql`update tasks set run_at = now() + interval '1 second' where id = ${first.id}`
        yield* sql`update coalescing set closes_at = now() + interval '10 seconds' where task_id = ${first.id}`
        yield* ledger.accept([third])
        expect(yield* wait).toBeLessThan(11)
        expect(yield* wait).toBeGreaterThan(9)
        expect(yield* payloadOf(first.id)).toEqual({ n: 2 })
        expect(yield* statuses(handed.map(({ id }) => id))).toEqual(["pending"])
        expect(yield* eventsOf(first.id)).toMatchObject([
          { type: "TaskCreated" },
          { type: "TaskUpdated", actor: "key:test", data: { keep: "latest", joined: 1, submissions: 2 } },
          { type: "TaskUpdated", data: { submissions: 3 } }
        ])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("that keep all become one list, in their order and as they were written", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const payloads = ['{"b":1.0,"a":1e3}', undefined, '"\\u00e9 [,]"', "[]", "null"]
        const handed = yield* tasks(5, (index) => ({ agentId, payload: payloads[index], ...coalesce("list") }))
        const [first] = handed
        if (first === undefined) return
        yield* acceptInTurn(handed.slice(0, 2))
        expect(said(yield* ledger.accept(handed.slice(2)))).toEqual(["Coalesced", "Coalesced", "Coalesced"])
        yield* makeDue(first.id)
        yield* Queue.takeAll(ledger.ready).pipe(Effect.timeoutOption("1 millis"))
        yield* ledger.queueDue(100)
        const [stored] = yield* sql<{ text: string }>`select payload::text as text from tasks where id = ${first.id}`
        expect(stored?.text).toBe('[{"b":1.0,"a":1e3},null,"é [,]",[],null]')
        // It is handed to its agent with the whole list.
        const order = yield* Queue.take(ledger.ready)
        expect([order.order.id, order.order.payload]).toEqual([first.id, [{ b: 1, a: 1000 }, null, "é [,]", [], null]])
        expect(yield* eventTypes(first.id)).toEqual(["TaskCreated", "TaskUpdated", "TaskUpdated", "TaskQueued"])
        // What comes then begins another.
        const later = yield* task({ agentId, ...coalesce("list") })
        expect(said(yield* ledger.accept([later]))).toEqual(["Accepted"])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("start when they are full, by number or by bytes, and the next one begins", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const handed = yield* tasks(7, (index) => ({ payload: `${index}`, ...coalesce("full", { itemsMax: 3 }) }))
        const outcomes = yield* ledger.accept(handed)
        expect(said(outcomes)).toEqual([
          "Accepted",
          "Coalesced",
          "Coalesced",
          "Accepted",
          "Coalesced",
          "Coalesced",
          "Accepted"
        ])
        expect([idOf(outcomes[2]), idOf(outcomes[5])]).toEqual([handed[0]?.id, handed[3]?.id])
        const large = yield* tasks(3, (index) => ({
          payload: JSON.stringify(String(index).repeat(index === 1 ? 200_000 : 100_000)),
          ...coalesce("bytes")
        }))
        const byBytes = yield* ledger.accept(large)
        expect(said(byBytes)).toEqual(["Accepted", "Accepted", "Accepted"])
        yield* ledger.queueDue(100)
        expect(yield* Effect.forEach([0, 3], (index) => payloadOf(handed[index]?.id ?? ""))).toEqual([
          [0, 1, 2],
          [3, 4, 5]
        ])
        expect(yield* statuses(large.map(({ id }) => id))).toEqual(["pending", "pending", "pending"])
        expect(yield* Effect.forEach(large, ({ id }) => Effect.map(eventTypes(id), (types) => types.at(-1)))).toEqual([
          "TaskQueued",
          "TaskQueued",
          "TaskCreated"
        ])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("must ask for the same as the task that waits", () =>
      Effect.gen(function* () {
        const agentId = yield* agent
        const first = yield* task({ agentId, ...coalesce("same", { agentId }) })
        const others = yield* Effect.all([
          task({
            agentId,
            ...coalesce("same", { agentId }),
            type: first.type.replace("say", "shout") as NewTask["type"]
          }),
          task({ agentId, ...coalesce("same") }),
          task({ agentId, ...debounce("same", { agentId }) })
        ])
        const outcomes = yield* acceptInTurn([first, ...others])
        expect(outcomes.slice(1)).toEqual(
          ["type", "agent", "coalesce.keep"].map((field) => ({ _tag: "Unlike", id: first.id, field }))
        )
        expect((yield* row(first.id))?.version).toBe(1)
      })
    )

    it.effect("are found again by their idempotency key, which goes with the task", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const ask = (name: string, body?: string) =>
          Effect.flatMap(task({ payload: '"x"', ...coalesce("keyed"), ...key(name, body) }), (made) =>
            ledger.accept([made])
          )
        const first = yield* task({ ...coalesce("keyed"), ...key("keyed-1") })
        yield* ledger.accept([first])
        expect(said(yield* ask("keyed-2"))).toEqual(["Coalesced"])
        expect(yield* ask("keyed-2")).toMatchObject([{ _tag: "Existing", same: true, id: first.id }])
        expect(yield* ask("keyed-1")).toMatchObject([{ _tag: "Existing", id: first.id }])
        expect(yield* ask("keyed-2", "cd")).toMatchObject([{ _tag: "Existing", same: false }])
        expect((yield* row(first.id))?.version).toBe(2)
        yield* ledger.cancel(home, [first.id], { actor: "key:test", reason: undefined })
        expect(yield* payloadOf(first.id)).toEqual([null, "x"])
        const kept = yield* ledger.control(home, [first.id], { _tag: "Delete", keepKeyed: true }, { actor: "key:test" })
        expect(kept.done).toEqual([])
        const gone = yield* ledger.control(
          home,
          [first.id],
          { _tag: "Delete", keepKeyed: false },
          { actor: "key:test" }
        )
        expect(gone.done).toEqual([first.id])
        expect(said(yield* ask("keyed-2"))).toEqual(["Accepted"])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("are each in one payload that runs, while tasks start under them on two nodes", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const other = yield* otherNode
        const sql = yield* SqlClient.SqlClient
        const names = ["storm-a", "storm-b"]
        const counts = { accepted: 0, coalesced: 0 }
        let submitting = true
        const submitter = (node: Ledger["Service"], from: number) =>
          Effect.gen(function* () {
            for (let round = 0; round < 25; round++) {
              const pause = yield* Random.nextIntBetween(0, 4)
              const batch = yield* tasks(3, (index) => ({
                payload: `${from + round * 3 + index}`,
                ...coalesce(names[(round + index) % 2] ?? "", { itemsMax: 9, waitMillisMax: 15 })
              }))
              for (const outcome of yield* node.accept(batch)) {
                if (outcome._tag === "Accepted") counts.accepted++
                else if (outcome._tag === "Coalesced") counts.coalesced++
                else expect(outcome).toBe("accepted or coalesced")
              }
              yield* Effect.sleep(pause)
            }
          })
        const sweeper = (node: Ledger["Service"]) =>
          Effect.gen(function* () {
            while (submitting) {
              yield* node.queueDue(50)
              yield* Effect.sleep(2)
            }
          })
        const all = Effect.all(
          Array.from({ length: 8 }, (_, index) => submitter(index % 2 === 0 ? ledger : other, index * 1_000)),
          { concurrency: "unbounded" }
        )
        yield* Effect.all(
          [
            Effect.ensuring(
              all,
              Effect.sync(() => (submitting = false))
            ),
            sweeper(ledger),
            sweeper(other)
          ],
          { concurrency: "unbounded" }
        )
        yield* Effect.sleep(20)
        yield* ledger.queueDue(1_000)
        const stored = yield* sql<{ items: ReadonlyArray<number> }>`
          select payload as items from tasks where coalesce_key = any (${names})`
        const sent = Array.from({ length: 8 }, (_, node) =>
          Array.from({ length: 75 }, (__, index) => node * 1_000 + index)
        ).flat()
        expect(stored.flatMap(({ items }) => items).toSorted((a, b) => a - b)).toEqual(sent)
        expect(Math.max(...stored.map(({ items }) => items.length))).toBeLessThanOrEqual(9)
        expect(stored.length).toBe(counts.accepted)
        expect(counts.accepted + counts.coalesced).toBe(600)
        expect(counts.coalesced).toBeGreaterThan(0)
        expect(yield* countRows("coalesced_items")).toBe(
          (yield* sql<{
            n: number
          }>`select count(*)::int as n from coalesced_items i join tasks t on t.id = i.task_id where t.coalesce_key <> all (${names})`)[0]
            ?.n
        )
        expect(yield* brokenState).toEqual([])
      })
    )
  })

  describe("a start in time", () => {
    it.effect("ends what was not started: queued, without an agent, or waiting for capacity; not what has begun", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const slot = yield* lease(agentId)
        const within = { conditions: { queueTimeoutMillis: 60_000 } }
        const [queued, nobody, begun, done] = yield* tasks(4, (index) => ({
          ...(index !== 1 && { agentId }),
          ...within
        }))
        if (queued === undefined || nobody === undefined || begun === undefined || done === undefined) return
        const child = yield* task({ agentId, dependencies: [{ task_id: queued.id, on: "ended" }] })
        yield* ledger.accept([queued, nobody, begun, done])
        yield* ledger.accept([child])
        const [first, second] = yield* claim(slot, [begun, done])
        if (second === undefined || first === undefined) return
        yield* ledger.settle(slot, second, completed)
        expect((yield* ledger.expire(100)).ended).toBe(0)
        yield* pass(61, [queued.id, nobody.id, begun.id, done.id])
        expect(yield* ledger.expire(100)).toEqual({ ended: 2, running: [] })
        expect(yield* statuses([queued.id, nobody.id, begun.id, done.id, child.id])).toEqual([
          "timeout",
          "timeout",
          "running",
          "completed",
          "queued"
        ])
        expect((yield* row(queued.id))?.result?.error?.code).toBe("queue_timeout")
        expect((yield* eventsOf(queued.id)).at(-1)).toMatchObject({
          type: "TaskTimedOut",
          data: { error: { code: "queue_timeout" } }
        })
        expect(yield* claim(slot, [queued])).toEqual([])
        expect(
          yield* sql`select task_id from start_deadlines where task_id = any (${[queued.id, nobody.id, begun.id, done.id]}::uuid[])`
        ).toEqual([])
        expect(yield* brokenState).toEqual([])
      })
    )

    it.effect("counts from when its dependencies have ended, its time has come, and nobody keeps it paused", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const sql = yield* SqlClient.SqlClient
        const agentId = yield* agent
        const parent = yield* task({ agentId })
        yield* ledger.accept([parent])
        const within = { agentId, conditions: { queueTimeoutMillis: 60_000 } }
        const child = yield* task({ ...within, dependencies: [{ task_id: parent.id, on: "ended" }] })
        const later = yield* task({ ...within, runAt: "2099-01-01T00:00:00Z" })
        const paused = yield* task(within)
        yield* ledger.accept([child, later, paused])
        yield* ledger.signals.pause(home, paused.id, { actor: "key:test", reason: undefined })
        const all = [child.id, later.id, paused.id]
        const expired = Effect.map(ledger.expire(100), ({ ended }) => ended)
        yield* pass(59, all)
        expect(yield* expired).toBe(0)
        yield* pass(600, all)
        expect(yield* expired).toBe(0)
        yield* ledger.cancel(home, [parent.id], { actor: "key:test", reason: undefined })
        yield* ledger.signals.resume(home, paused.id, "key:test")
        yield* makeDue(later.id)
        yield* ledger.queueDue(100)
        expect(yield* statuses(all)).toEqual(["queued", "queued", "queued"])
        yield* pass(59, all)
        expect(yield* expired).toBe(0)
        yield* pass(2, all)
        expect(yield* expired).toBe(2)
        yield* sql`update start_deadlines set at = now() where task_id = any (${all}::uuid[])`
        expect(yield* expired).toBe(1)
        expect(yield* statuses(all)).toEqual(["timeout", "timeout", "timeout"])
        expect(yield* brokenHistories).toEqual([])
      })
    )
  })
})
