/** What is said to and by tasks reads a few rows, also by plans that were made on empty tables, and parks in batches. */
import { expect, it, layer as suite } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type RunningTask, type Slot } from "../../actors/ports/Ledger.ts"
import { NodeName, type TaskId } from "../../protocol/Ids.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import { SignalReader } from "../../src/ledger/SignalReader.ts"
import { StreamReader } from "../../src/ledger/StreamReader.ts"
import { TaskReader } from "../../src/ledger/TaskReader.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import { home, layer, otherNode, rows, running } from "./LedgerHarness.ts"
import { oneSession, rowsRead, withoutAutovacuum } from "./PlanHarness.ts"

const tables = ["tasks", "task_signals", "task_awaits", "task_streams", "stream_chunks", "task_dependencies"]

const session = Layer.mergeAll(
  PostgresLedger.layer(NodeName.make("n1")),
  SignalReader.layer,
  StreamReader.layer,
  TaskReader.layer
).pipe(Layer.provideMerge(MemoryBus.layer), Layer.provideMerge(oneSession))

let requests = 0
const send = (taskId: TaskId, name = "go", checked?: number) =>
  Effect.flatMap(Ledger, ({ signals }) =>
    signals.send({
      ...{ namespace: home, taskId, name, payload: 1, actor: "key:test", request: `once:${++requests}` },
      ...{ fingerprint: "ab".repeat(32), checked, isAnswer: false }
    })
  )
const take = (slot: Slot, task: RunningTask, position = 1, timeoutMillis?: number) =>
  Effect.flatMap(Ledger, ({ signals }) => signals.take(slot, task, { position, name: "go", timeoutMillis, terms: {} }))

it.live(
  "every step reads a few rows",
  () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const sql = yield* SqlClient.SqlClient
      const signals = yield* SignalReader
      const streams = yield* StreamReader
      const tasks = yield* TaskReader
      yield* withoutAutovacuum(tables)
      const read = new Map<string, number>()
      const measured = Effect.fnUntraced(function* <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) {
        const before = yield* rowsRead(tables)
        const answer = yield* effect
        read.set(name, (yield* rowsRead(tables)) - before)
        return answer
      })
      const everything = Effect.gen(function* () {
        const { runs, slot } = yield* running(5)
        const [first, second, third] = runs
        if (first === undefined || second === undefined || third === undefined) return yield* Effect.die("no runs")
        yield* measured("take", take(slot, first))
        yield* measured("park", ledger.signals.park(slot, first, 1))
        yield* measured("look", signals.openAwait(home, first.id, "go"))
        yield* measured("send", send(first.id, "go", 1))
        yield* measured("buffer", send(second.id))
        yield* measured("take a kept one", take(slot, second))
        yield* measured("signals", signals.signals(home, second.id, { after: 0, limit: 50 }))
        yield* measured("pause", ledger.signals.pause(home, second.id, { actor: "key:test", reason: undefined }))
        yield* measured("resume", ledger.signals.resume(home, second.id, "key:test"))
        yield* measured("expire", ledger.signals.expire(10))
        for (const sequence of [0, 1]) {
          const chunks = { stream: "log", run: 2, sequence, chunks: ["1"], bytes: 257 }
          yield* measured("append", ledger.streams.append(slot, third, chunks))
        }
        yield* measured("chunks", streams.chunks(home, third.id, { stream: "log", after: 0, limit: 10 }))
        yield* measured("head", streams.head(home, third.id, "log"))
        yield* measured("list", tasks.list(home, { awaits: "go", status: ["paused"], limit: 10 }))
        yield* measured("list awaits", tasks.list(home, { awaits: "go", limit: 10 }))
        yield* measured("list waiting", tasks.list(home, { waiting_for: "signal", limit: 10 }))
      })
      for (let warmUp = 0; warmUp < 7; warmUp++) yield* everything
      // Other tasks with as much to say, most of them long ended.
      yield* sql`
        insert into tasks (id, namespace, name, type, status, lane, max_attempts, completed_at)
        select gen_random_uuid(), ${home}, 'x', 'echo.say', 'completed', 'normal', 5, now() from generate_series(1, 4000)`
      yield* sql`
        insert into task_signals (task_id, number, name, actor, request, fingerprint)
        select id, n, 'go', 'key:x', n::text, '\\x00' from tasks, generate_series(1, 3) n where status = 'completed'`
      yield* sql`
        insert into task_awaits (task_id, position, namespace, name, terms, outcome, signal)
        select id, 1, ${home}, 'go', '{}', 'signal', 1 from tasks where status = 'completed'`
      yield* sql`
        insert into task_streams (task_id, name, last, bytes, run, written)
        select id, 'log', 3, 9, 2, 3 from tasks where status = 'completed'`
      yield* sql`
        insert into stream_chunks (task_id, name, number, attempt, run, data)
        select id, 'log', n, 1, 2, '1' from tasks, generate_series(1, 3) n where status = 'completed'`
      yield* everything
      expect([...read].filter(([, count]) => count > 100)).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(session)),
  60_000
)

suite(layer, { excludeTestServices: true, timeout: "60 seconds" })("a running attempt", (test) => {
  test.effect("parks with many others at once, each of which its own signal wakes, whichever node sends it", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { runs, slot } = yield* running(200)
      yield* Effect.forEach(runs, (run) => take(slot, run), { concurrency: 10 })
      yield* Effect.forEach(runs, (run) => ledger.signals.park(slot, run, 1), { concurrency: "unbounded" })
      const ids = runs.map(({ id }) => id)
      for (const row of yield* rows(ids)) {
        expect(row).toMatchObject({ status: "paused", waiting_for: "signal", attempt: 0 })
      }
      const other = yield* otherNode
      yield* Effect.forEach(ids, (id) => Effect.provideService(send(id, "go", 1), Ledger, other), { concurrency: 10 })
      for (const row of yield* rows(ids)) expect(row).toMatchObject({ status: "queued", waiting_for: null, version: 5 })
    }).pipe(Effect.scoped)
  )

  test.effect("does not park when what it awaits came in the meantime, or when it is fenced", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { runs, slot } = yield* running(3)
      const [answered, fenced, over] = runs
      if (answered === undefined || fenced === undefined || over === undefined) return expect.fail("no runs")
      yield* take(slot, answered)
      yield* take(slot, fenced)
      yield* take(slot, over, 1, 0)
      yield* send(answered.id, "go", 1)
      yield* ledger.signals.park(slot, answered, 1)
      yield* ledger.signals.park({ ...slot, epoch: slot.epoch + 1 }, fenced, 1)
      const [first, second] = yield* rows([answered.id, fenced.id])
      expect(first).toMatchObject({ status: "queued", attempt: 0 })
      expect(second).toMatchObject({ status: "running", attempt: 1 })
      expect(yield* take({ ...slot, epoch: slot.epoch + 1 }, fenced)).toEqual({ _tag: "Fenced" })
      expect(yield* take(slot, over, 1, 0)).toEqual({ _tag: "TimedOut" })
    })
  )

  test.effect("that awaits another name at a place that has one is told so", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { runs, slot } = yield* running(1)
      const [run] = runs
      if (run === undefined) return expect.fail("no run")
      yield* take(slot, run)
      const wanted = { position: 1, name: "stop", timeoutMillis: undefined, terms: {} }
      expect(yield* ledger.signals.take(slot, run, wanted)).toEqual({ _tag: "Diverged", awaited: "go" })
    })
  )

  test.effect("gets from an await that names its senders only what was held against that", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const { runs, slot } = yield* running(1)
      const [run] = runs
      if (run === undefined) return expect.fail("no run")
      yield* send(run.id)
      const wanted = {
        position: 1,
        name: "go",
        timeoutMillis: undefined,
        terms: { from: { roles: ["admin"] } }
      } as const
      expect(yield* ledger.signals.take(slot, run, wanted)).toMatchObject({ _tag: "Waiting" })
      expect(yield* send(run.id)).toMatchObject({ _tag: "Refused", why: "changed" })
      yield* send(run.id, "go", 1)
      expect(yield* ledger.signals.take(slot, run, wanted)).toMatchObject({ _tag: "Signal", signal: { number: 2 } })
    })
  )
})
