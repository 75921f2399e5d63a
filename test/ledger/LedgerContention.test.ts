/** Everything at once, from two nodes: nobody waits for each other in a circle, and every task still ends once. */

import * as NodeServices from "@effect/platform-node/NodeServices"
import { expect, it } from "@effect/vitest"
import { Effect, Layer, Random } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type Slot } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { NodeName } from "../../protocol/Ids.ts"
import { priorities } from "../../protocol/Task.ts"
import { migrate } from "../../src/ledger/Migrations.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import { freshDatabase } from "../support/Servers.ts"
import {
  agent,
  brokenHistories,
  claim,
  completed,
  failed,
  home,
  lease,
  otherNode,
  released,
  retryAfter,
  task
} from "./LedgerHarness.ts"

const by = { actor: "key:test", reason: undefined }

const stress = Effect.gen(function* () {
  const nodes = [yield* Ledger, yield* otherNode] as const
  const agents = yield* Effect.replicateEffect(agent, 3)
  const slots = new Map<string, Slot>()
  for (const agentId of agents) {
    for (const index of [0, 1]) slots.set(`${agentId}/${index}`, yield* lease(agentId, index))
  }
  const leases = () => [...slots.values()]
  const ends = [completed, completed, completed, failed, released, retryAfter(0)]

  for (let round = 0; round < 12; round++) {
    const roots = yield* Effect.forEach(Array.from({ length: 60 }), (_, index) =>
      task({ agentId: agents[index % 3], lane: priorities[index % 4] ?? "low", maxAttempts: 100 })
    )
    const children = yield* Effect.forEach(Array.from({ length: 30 }), (_, index) => {
      const parents = [roots[index], roots[index + 17], roots[59 - index]].flatMap((root) =>
        root === undefined ? [] : [root.id]
      )
      return task({ agentId: agents[index % 3], dependencies: [...new Set(parents)].map((task_id) => ({ task_id })) })
    })
    yield* nodes[0].accept(roots)
    const work = leases().map((slot, which) =>
      Effect.gen(function* () {
        const wanted = yield* Random.shuffle(roots.filter(({ agentId }) => agentId === slot.agentId))
        const runs = yield* claim(slot, wanted)
        yield* Effect.forEach(
          runs,
          (run) =>
            Effect.flatMap(Random.nextIntBetween(0, ends.length), (end) =>
              nodes[which % 2 === 0 ? 0 : 1].settle(slot, run, ends[end] ?? completed)
            ),
          { concurrency: "unbounded" }
        )
      })
    )
    const outside = [
      nodes[1].accept(children),
      nodes[0].heartbeat(leases()),
      nodes[1].heartbeat(leases().toReversed()),
      nodes[1].cancel(
        home,
        roots.slice(10, 20).map(({ id }) => id),
        by
      ),
      nodes[0].cancel(
        home,
        roots
          .slice(15, 25)
          .map(({ id }) => id)
          .toReversed(),
        by
      ),
      nodes[1].queueDue(100),
      Effect.gen(function* () {
        const agentId = agents[round % 3]
        if (agentId === undefined) return
        const { epoch } = yield* nodes[1].takeOver({ agentId, index: 1 })
        slots.set(`${agentId}/1`, { namespace: home, agentId, index: 1, epoch })
      })
    ]
    yield* Effect.all(yield* Random.shuffle<Effect.Effect<unknown, unknown, Ledger>>([...work, ...outside]), {
      concurrency: "unbounded"
    })
  }
  expect(yield* brokenHistories).toEqual([])
  const sql = yield* SqlClient.SqlClient
  // A child waits only while a parent has not ended.
  const stuck = yield* sql`
    select t.id from tasks t where t.status = 'pending' and t.waiting_for = 'dependencies' and not exists (
      select from task_dependencies d join tasks p on p.id = d.parent_id
      where d.child_id = t.id and p.status not in ('completed', 'failed', 'timeout', 'cancelled'))
  `
  expect(stuck).toEqual([])
})

/** Leases of many instances, claimed under and kept alive in every order at once. */
const leases = Effect.gen(function* () {
  const nodes = [yield* Ledger, yield* otherNode] as const
  const agentId = yield* agent
  const slots = yield* Effect.forEach(
    Array.from({ length: 30 }, (_, index) => index),
    (index) => lease(agentId, index)
  )
  const wanted = yield* task({ agentId })
  for (let round = 0; round < 40; round++) {
    const claims = slots.map((slot, index) =>
      claim(slot, [wanted]).pipe(Effect.provideService(Ledger, nodes[index % 2 === 0 ? 0 : 1]))
    )
    const beats = yield* Effect.forEach([0, 1, 0, 1, 0, 1] as const, (node) =>
      Effect.map(Random.shuffle(slots), nodes[node].heartbeat)
    )
    yield* Effect.all(yield* Random.shuffle<Effect.Effect<unknown, unknown>>([...claims, ...beats]), {
      concurrency: "unbounded"
    })
  }
})

it.live(
  "claims, ends, children, heartbeats, cancels and takeovers never deadlock",
  () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase()
      const pool = Postgres.layer({ url, connectionsMax: 16, applicationName: "contention" })
      const nodes = PostgresLedger.layer(NodeName.make("n1")).pipe(
        Layer.provideMerge(MemoryBus.layer),
        Layer.provideMerge(Layer.effectDiscard(migrate())),
        Layer.provideMerge(Layer.mergeAll(pool, NodeServices.layer, UuidV7.layer))
      )
      yield* Effect.andThen(stress, leases).pipe(Effect.scoped, Effect.provide(nodes))
      // Sessions tell what they counted when they end.
      const counted = SqlClient.SqlClient.use(
        (sql) => sql<{ readonly deadlocks: number }>`
          select deadlocks::int as deadlocks from pg_stat_database where datname = current_database()
        `
      ).pipe(Effect.provide(Layer.fresh(pool)))
      expect((yield* counted)[0]?.deadlocks).toBe(0)
    }),
  30_000
)
