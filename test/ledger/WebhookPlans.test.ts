/** Plans of the webhooks' statements that were made on empty tables stay right when the tables are large. */
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { HookName, NodeName, WebhookId } from "../../protocol/Ids.ts"
import { WebhookDeliveries } from "../../src/ledger/WebhookDeliveries.ts"
import { WebhookStore } from "../../src/ledger/WebhookStore.ts"
import { home } from "./LedgerHarness.ts"
import { oneSession, rowsRead, withoutAutovacuum } from "./PlanHarness.ts"

const tables = ["events", "tasks", "webhook_deliveries", "webhook_journal"]

const session = Layer.mergeAll(WebhookStore.layer, WebhookDeliveries.layer(NodeName.make("n1"))).pipe(
  Layer.provideMerge(oneSession)
)

it.live(
  "telling webhooks of a few events reads a few rows",
  () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const log = yield* WebhookDeliveries
      const store = yield* WebhookStore
      yield* withoutAutovacuum(tables)
      yield* store.create(
        {
          ...{ id: WebhookId.make((yield* UuidV7).next()), namespace: home, secret: new Uint8Array(32) },
          ...{ name: HookName.make("w"), url: "https://example.com/", description: null, events: ["TaskCompleted"] },
          ...{ agent_id: null, type: null, labels: null, include_result: true, retry: {}, attempts_max: 1 },
          ...{ timeout_ms: 1_000, concurrency: 4, disable_after: 20, enabled: true }
        },
        { actor: "key:test", trace: undefined }
      )
      const record = (events: number, type: string) => sql`
        with made as (
          insert into tasks (id, namespace, name, type, status, lane, max_attempts, completed_at)
          select gen_random_uuid(), 'default', 't', 'echo.say', 'completed', 'normal', 1, now()
          from generate_series(1, ${events}) returning id
        )
        insert into events (aggregate, number, kind, type, namespace) select id, 1, 'task', ${type}, 'default' from made
      `
      const rounds = Effect.gen(function* () {
        yield* record(5, "TaskCompleted")
        yield* log.fanOut(2_000)
        for (const claimed of yield* log.claim(10, Duration.seconds(15))) {
          const end = { delayMillis: 0, responseStatus: 204, durationMillis: 1, error: undefined, gone: false }
          yield* log.settle(claimed, { ...end, status: "delivered" })
        }
      })
      for (let count = 0; count < 8; count++) yield* rounds
      yield* record(4_000, "TaskStarted")
      yield* record(4_000, "TaskCompleted")
      while ((yield* log.fanOut(2_000)) > 0);
      yield* sql`update webhook_deliveries set due_at = now() + interval '1 hour' where status = 'pending'`
      const before = yield* rowsRead(tables)
      yield* rounds
      expect((yield* rowsRead(tables)) - before).toBeLessThan(400)
    }).pipe(Effect.provide(session)),
  60_000
)
