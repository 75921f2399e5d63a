/** Plans that were made on empty tables stay right when the tables are large: rows are looked up, never read through. */
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { type Conditions, Ledger, type NewTask } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { GraphId, NodeName } from "../../protocol/Ids.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import { agent, claim, completed, failed, home, lease, orderOf, task, tasks } from "./LedgerHarness.ts"
import { oneSession, rowsRead, withoutAutovacuum } from "./PlanHarness.ts"

const rowsEach = 4_000

const session = PostgresLedger.layer(NodeName.make("n1")).pipe(
  Layer.provideMerge(MemoryBus.layer),
  Layer.provideMerge(oneSession)
)

const tables = [
  ...["tasks", "task_dependencies", "idempotency_keys", "agent_instances"],
  ...["graphs", "graph_steps", "map_elements"]
]

it.live(
  "every change of a few tasks reads a few rows",
  () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger
      const sql = yield* SqlClient.SqlClient
      yield* withoutAutovacuum(tables)
      const agentId = yield* agent
      const slot = yield* lease(agentId)
      const read = new Map<string, number>()
      const measured = Effect.fnUntraced(function* <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) {
        const before = yield* rowsRead(tables)
        const answer = yield* effect
        read.set(name, (yield* rowsRead(tables)) - before)
        return answer
      })
      let round = 0
      const everything = Effect.gen(function* () {
        round++
        const all = yield* tasks(10, () => ({ agentId }))
        yield* measured("accept", ledger.accept(all))
        const keyed = yield* tasks(10, (index) => ({
          agentId,
          idempotency: { key: `${round}-${index}`, fingerprint: "ab".repeat(32) }
        }))
        yield* measured("accept with keys", ledger.accept(keyed))
        yield* measured(
          "accept the same keys",
          ledger.accept(yield* tasks(10, (index) => ({ agentId, idempotency: keyed[index]?.idempotency })))
        )
        const coalesce: Conditions["coalesce"] = {
          key: `${round}`,
          keep: "all",
          quietMillis: undefined,
          waitMillisMax: 1,
          itemsMax: 100,
          agentId: undefined
        }
        const conditional = yield* tasks(10, (index): { readonly conditions: Conditions } => ({
          conditions:
            index < 5
              ? { unique: { key: `${round}-${index}`, onConflict: "refuse" }, queueTimeoutMillis: 1 }
              : { coalesce }
        }))
        yield* measured("accept with conditions", ledger.accept(conditional))
        yield* measured(
          "accept into the same conditions",
          ledger.accept(yield* tasks(10, (index) => ({ conditions: conditional[index]?.conditions ?? {} })))
        )
        const runs = yield* measured("claim", claim(slot, all))
        const children: ReadonlyArray<NewTask> = yield* Effect.forEach(runs, ({ id }) =>
          task({ agentId, parentId: id, dependencies: [{ task_id: id }] })
        )
        yield* measured("accept children", ledger.accept(children))
        yield* measured(
          "progress",
          Effect.forEach(runs, (run) => ledger.progress(slot, run, { percentage: 5 }), { concurrency: "unbounded" })
        )
        yield* measured(
          "settle",
          Effect.forEach(runs.slice(0, 8), (run, index) => ledger.settle(slot, run, index < 4 ? completed : failed), {
            concurrency: "unbounded"
          })
        )
        yield* measured(
          "cancel",
          ledger.cancel(
            home,
            runs.slice(8, 9).map(({ id }) => id),
            { actor: "key:test", reason: undefined }
          )
        )
        yield* measured("take over", ledger.takeOver({ agentId, index: 1 }))
        yield* measured("heartbeat", ledger.heartbeat([slot]))
        yield* measured(
          "lost",
          ledger.lost(
            slot,
            runs.map(({ id }) => id)
          )
        )
        yield* measured("backlog", ledger.backlog(agentId, { limit: 10 }))
        yield* measured("due", ledger.queueDue(10))
        yield* measured("expire", ledger.expire(10))
        yield* measured("agents with work", ledger.agentsWithWork(100))
        yield* measured("without agent", ledger.withoutAgent(undefined, 100))
        yield* measured("orphans", ledger.orphans(Duration.seconds(15), 100))
        yield* measured(
          "claim nothing",
          ledger.claim(
            slot,
            runs.map((run) => orderOf({ ...(all[0] ?? children[0] ?? (keyed[0] as NewTask)), id: run.id }))
          )
        )
        const graphId = GraphId.make((yield* UuidV7).next())
        const list = yield* task({ agentId, graphId })
        const step = JSON.stringify({ map: { over: { $result: list.id }, max_parallel: 2 } })
        const map = yield* task({ agentId, graphId, step, dependencies: [{ task_id: list.id }] })
        const graph = { id: graphId, namespace: home, name: undefined, idempotency: undefined }
        yield* measured("accept a graph", ledger.accept([list, map], { atomic: true, graph }))
        const [first] = yield* claim(slot, [list])
        if (first !== undefined) yield* measured("settle before a map", ledger.settle(slot, first, completed))
        const elements = (yield* tasks(4)).map(({ id }, index) => ({ index, id, payload: undefined }))
        yield* measured("expand a map", ledger.graphs.expand(map.id, { from: 0, total: 4, elements }))
        yield* measured("advance a map", ledger.graphs.advance(map.id))
        yield* measured("a step", ledger.graphs.step(map.id))
        yield* measured("graphs that are due", ledger.graphs.due(100))
        const asked = { actor: "key:test", reason: undefined }
        for (const whole of [
          { _tag: "Graph", id: graphId },
          { _tag: "Tree", id: map.id }
        ] as const) {
          yield* measured(`begin a pause: ${whole._tag}`, ledger.graphs.pause(home, whole, asked))
          yield* measured(`pause a portion: ${whole._tag}`, ledger.graphs.carryPause(whole.id, 100))
          yield* measured(`end a pause: ${whole._tag}`, ledger.graphs.resume(home, whole, asked.actor))
          yield* measured(`resume a portion: ${whole._tag}`, ledger.graphs.carryPause(whole.id, 100))
        }
        yield* ledger.cancel(home, [map.id], { actor: "key:test", reason: undefined })
        yield* measured("cancel the rest of a map", ledger.graphs.cancelRest(map.id, 2))
        yield* ledger.graphs.end(home, graphId, { actor: "key:test", reason: undefined })
        yield* measured("cancel a graph", ledger.graphs.cancelGraph(graphId, 100))
        yield* measured(
          "results",
          ledger.results(
            home,
            runs.map(({ id }) => ({ id }))
          )
        )
      })
      for (let warmUp = 0; warmUp < 7; warmUp++) yield* everything
      yield* sql`
        insert into tasks (id, namespace, name, type, agent_id, status, waiting_for, lane, max_attempts, completed_at, instance)
        select gen_random_uuid(), ${home}, 'x', 'echo.say', case when s <> 'pending' then ${agentId}::uuid end, s::task_status,
          case when s = 'pending' then 'agent'::task_wait end, 'normal', 5, case when s = 'completed' then now() end, 7
        from generate_series(1, ${rowsEach}) n, unnest(array['queued', 'running', 'pending', 'completed']) s
        where s <> 'running' or n <= 100
      `
      yield* sql`
        insert into task_dependencies (child_id, parent_id, on_ended, required)
        select id, gen_random_uuid(), false, true from tasks where status = 'pending' limit ${rowsEach}
      `
      yield* sql`
        insert into idempotency_keys (namespace, key, fingerprint, resource_id)
        select 'other', n::text, '\\x00', gen_random_uuid() from generate_series(1, ${rowsEach}) n
      `
      yield* sql`
        insert into graph_steps (task_id, definition) select id, '{}' from tasks where status = 'pending' limit ${rowsEach}
      `
      yield* sql`
        insert into map_elements (map_id, index, task_id, state)
        select (select min(task_id::text)::uuid from graph_steps), n, gen_random_uuid(), 'held' from generate_series(1, ${rowsEach}) n
      `
      yield* sql`
        insert into graphs (id, namespace) select gen_random_uuid(), ${home} from generate_series(1, ${rowsEach})
      `
      yield* everything
      const many = [...read].filter(([, rows]) => rows > 400)
      expect(many).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(session)),
  60_000
)
