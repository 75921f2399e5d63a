/**
 * What finds and changes many tasks reads few rows, however many there are: by index, in bounded stretches, and also
 * where a session made its plans on empty tables and nobody has gathered statistics.
 */
import { expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { NodeName, type TaskId } from "../../protocol/Ids.ts"
import { ListTasks } from "../../protocol/Query.ts"
import { TaskFilter } from "../../protocol/TaskFilter.ts"
import { AttemptReader } from "../../src/ledger/AttemptReader.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import { RetentionStore } from "../../src/ledger/RetentionStore.ts"
import { TaskCounter } from "../../src/ledger/TaskCounter.ts"
import { TaskReader, TaskReaderLimits } from "../../src/ledger/TaskReader.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import { agent, home } from "./LedgerHarness.ts"
import { oneSession, readsOf, withoutAutovacuum } from "./PlanHarness.ts"

/** Completed tasks beside few of every other kind. */
const manyRows = 60_000
const few = 60

const readers = Layer.mergeAll(TaskReader.layer, AttemptReader.layer, TaskCounter.layer, RetentionStore.layer)

const session = Layer.mergeAll(PostgresLedger.layer(NodeName.make("n1")), readers).pipe(
  Layer.provide(
    Layer.succeed(TaskReaderLimits, {
      ...{ windowRows: 500, windowsMax: 2, within: Duration.seconds(60), countedMax: 1_000 }
    })
  ),
  Layer.provideMerge(MemoryBus.layer),
  Layer.provideMerge(oneSession)
)

const tables = [
  "tasks",
  "events",
  "task_dependencies",
  "idempotency_keys",
  "acknowledgements",
  "operations",
  "task_deletions"
]

const query = Schema.decodeUnknownSync(ListTasks)
const filter = Schema.decodeUnknownSync(TaskFilter)

it.live(
  "finding and changing a few among many reads a few rows",
  () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const ledger = yield* Ledger
      const reader = yield* TaskReader
      const attempts = yield* AttemptReader
      const counter = yield* TaskCounter
      const retention = yield* RetentionStore
      yield* withoutAutovacuum(tables)
      const agentId = yield* agent
      const other = yield* agent
      const read = new Map<string, { readonly rows: number; readonly scans: number }>()
      const measured = Effect.fnUntraced(function* <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) {
        const before = yield* readsOf(tables)
        const answer = yield* effect
        const after = yield* readsOf(tables)
        read.set(name, { rows: after.rows - before.rows, scans: after.scans - before.scans })
        return answer
      })
      const some = (status: string) =>
        Effect.map(
          sql<{
            id: TaskId
          }>`select id from tasks where status = ${status}::task_status and version = 1 order by id limit 5`,
          (rows) => rows.map(({ id }) => id)
        )
      const lists: ReadonlyArray<object> = [
        {},
        { status: "failed" },
        { status: ["failed", "cancelled"], order: "asc" },
        { status: "failed", sort: "completed" },
        { status: "failed", sort: "completed", order: "asc" },
        { status: "queued", agent: agentId, sort: "priority" },
        { status: "pending" },
        { type: "rare.type" },
        { agent: other },
        { label: "a=b" },
        { where: "payload./a=1" },
        { name: "nobody" },
        { error: "no" },
        { dead_letter: true },
        { created_before: "2020-01-01T00:00:00Z" },
        { completed_after: "2100-01-01T00:00:00Z" },
        { retry_of: "01900000-0000-7000-8000-000000000000" },
        { parent: "01900000-0000-7000-8000-000000000000" },
        { schedule: "01900000-0000-7000-8000-000000000000" },
        { schedule: "nightly", status: "completed" }
      ]
      const everything = Effect.gen(function* () {
        for (const given of lists) {
          const name = `list ${JSON.stringify(given)}`
          yield* measured(name, reader.list(home, query({ limit: 10, ...given })))
        }
        yield* measured(
          "matching",
          reader.matching(home, filter({ status: "failed", error: "no" }), {
            below: "ffffffff-ffff-ffff-ffff-ffffffffffff",
            limit: 10
          })
        )
        const failed = yield* some("failed")
        yield* measured("counts", counter.count(home))
        yield* measured("counts of an agent", counter.countOf(home, other))
        yield* measured("attempts", attempts.events(home, failed, 10))
        yield* measured("dead letters", attempts.deadLetters(home, failed))
        yield* measured("deletable", ledger.deletable(home, failed))
        const by = { actor: "key:test" }
        yield* measured("acknowledge", ledger.control(home, failed, { _tag: "Acknowledge", note: undefined }, by))
        const queued = yield* some("queued")
        const move = { _tag: "Move", priority: "high", agentId: undefined } as const
        yield* measured("move", ledger.control(home, queued, move, by))
        yield* measured("cancel", ledger.control(home, queued, { _tag: "Cancel", reason: undefined }, by))
        yield* measured("delete", ledger.control(home, failed, { _tag: "Delete", keepKeyed: true }, by))
        yield* measured("expire results", ledger.expireResults(10))
        const due = { namespace: home, rules: [{ delete_after_ms: 0 }], version: 1, position: null }
        yield* measured(
          "retention",
          retention.stretch(due, { windowRows: 200, nowMillis: yield* Clock.currentTimeMillis })
        )
      })
      for (let warmUp = 0; warmUp < 7; warmUp++) yield* everything
      yield* sql`
        insert into tasks (id, namespace, name, type, agent_id, status, waiting_for, lane, max_attempts, completed_at, result, payload)
        select ('01900000-0000-7000-8000-' || lpad(to_hex(n + case s when 'completed' then 0 when 'failed' then 100000 when 'queued' then 200000 when 'pending' then 300000 else 400000 end), 12, '0'))::uuid,
          ${home}, 'x', 'echo.say', case when s <> 'pending' then ${agentId}::uuid end, s::task_status,
          case when s = 'pending' then 'agent'::task_wait end, 'normal', 5,
          case when s in ('completed', 'failed', 'cancelled') then now() end,
          case when s = 'failed' then '{"success":false,"error":{"code":"no","message":"m"}}'::json end, '{"a":2}'
        from generate_series(1, ${manyRows}) n, unnest(array['completed', 'failed', 'queued', 'pending', 'cancelled']) s
        where s = 'completed' or n <= ${few}
      `
      yield* sql`
        insert into events (aggregate, number, kind, type, namespace)
        select id, 1, 'task', 'TaskCreated', namespace from tasks
      `
      yield* everything
      const scanned = [...read].filter(([, { scans }]) => scans > 0)
      expect(scanned).toEqual([])
      // Two stretches of 500 rows and their edges are the most that a call looks at.
      const many = [...read].filter(([, { rows }]) => rows > 2_200)
      expect(many).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(session)),
  120_000
)
