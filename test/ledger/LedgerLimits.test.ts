/** Limits by key, on Postgres: never more than allowed, in fair order, whatever ends how and wherever. */
import { expect, it, layer } from "@effect/vitest"
import { Clock, Effect, Layer, Random } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask, type Slot, type TaskLimit } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { AgentId, LimitId, LimitName } from "../../protocol/Ids.ts"
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
  rows,
  statuses,
  task,
  tasks
} from "./LedgerHarness.ts"

const ledgers = LimitRegistry.layer.pipe(Layer.provideMerge(harness))
const by = { actor: "key:test", reason: undefined }

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
  until(
    Effect.map(statuses(ids.map(({ id }) => id)), (now) => JSON.stringify(now) === JSON.stringify(expected))
  )

/** Keys whose count is not that of the tasks that hold them. Should always be none. */
const miscounted = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => Effect.flatMap(ledgerSchema, (schema) => sql.unsafe<object>(`select * from ${schema}.limits_verify()`))
)
const ledgerSchema = Effect.map(
  Effect.promise(() => import("../../src/ledger/LedgerFunctions.ts")),
  ({ ledger }) => ledger
)

const remaining = (table: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ readonly count: number }>`select count(*)::int as count from ${sql(table)}`,
      ([counted]) => counted?.count
    )
  )

layer(ledgers, { excludeTestServices: true })("limits", (it) => {

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
        yield* until(Effect.map(statuses(all.map((each) => each.id)), (now) => now.filter((s) => s === "queued").length === 1))
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
})
