/** How events get into deliveries: without loss, once, late commits included, and at no cost while nobody asks for them. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Latch, Layer, References, Result } from "effect"
import { SqlClient } from "effect/sql"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { HookName, type Namespace, NodeName, TaskId, WebhookId } from "../../protocol/Ids.ts"
import { webhookRetryDefault } from "../../protocol/Webhook.ts"
import { WebhookDeliveries } from "../../src/ledger/WebhookDeliveries.ts"
import { type WebhookDefinition, WebhookStore } from "../../src/ledger/WebhookStore.ts"
import * as Database from "./Database.ts"
import { home } from "./LedgerHarness.ts"

const Live = Layer.mergeAll(WebhookStore.layer, WebhookDeliveries.layer(NodeName.make("n1"))).pipe(
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
)

const by = { actor: "key:test", trace: undefined }
const lease = Duration.seconds(30)
let names = 0

const define = Effect.fnUntraced(function* (over: Partial<WebhookDefinition> = {}, namespace: Namespace = home) {
  const store = yield* WebhookStore
  const id = WebhookId.make((yield* UuidV7).next())
  const made = yield* store.create(
    {
      id,
      namespace,
      secret: new Uint8Array(32),
      name: HookName.make(`w-${++names}`),
      url: "https://example.com/",
      description: null,
      events: ["TaskCompleted"],
      agent_id: null,
      type: null,
      labels: null,
      include_result: false,
      retry: webhookRetryDefault,
      attempts_max: 12,
      timeout_ms: 10_000,
      concurrency: 32,
      disable_after: 20,
      enabled: true,
      ...over
    },
    by
  )
  if (typeof made === "string") return yield* Effect.die(new Error(made))
  return id
})

const remove = (id: WebhookId) => Effect.flatMap(WebhookStore, (store) => store.remove(home, id, by))

const hasTrigger = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql`select from pg_trigger where tgrelid = 'events'::regclass and tgname = 'events_to_webhooks'`
  return rows.length > 0
})

const task = Effect.map(UuidV7, (ids) => TaskId.make(ids.next()))

/** Aggregates that a webhook has deliveries of. */
const delivered = Effect.fnUntraced(function* (id: WebhookId) {
  const log = yield* WebhookDeliveries
  const page = yield* log.list(home, id, { limit: 500 })
  return page.data.map(({ aggregate }) => aggregate)
})

const fanOutAll = Effect.gen(function* () {
  const log = yield* WebhookDeliveries
  while ((yield* log.fanOut(2_000)) > 0);
})

const count = Effect.fnUntraced(function* (table: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly rows: number }>`select count(*)::int as rows from ${sql(table)}`
  return row?.rows ?? 0
})

layer(Live, { excludeTestServices: true, timeout: "30 seconds" })("events on their way to webhooks", (it) => {
  it.effect(
    "leave no trace while no webhook is enabled, and the trigger comes and goes with the first and the last",
    () =>
      Effect.gen(function* () {
        const log = yield* WebhookDeliveries
        expect(yield* hasTrigger).toBe(false)
        yield* Database.insertEvent(yield* task, 1, "TaskCompleted")
        expect(yield* count("webhook_journal")).toBe(0)
        const id = yield* define()
        expect(yield* hasTrigger).toBe(true)
        yield* Database.insertEvent(yield* task, 1, "TaskStarted")
        yield* Database.insertEvent(yield* task, 1, "TaskCompleted", "elsewhere")
        expect(yield* count("webhook_journal")).toBe(0)
        const wanted = yield* task
        yield* Database.insertEvent(wanted, 1, "TaskCompleted")
        expect(yield* count("webhook_journal")).toBe(1)
        yield* log.rest
        expect(yield* hasTrigger).toBe(true)
        yield* fanOutAll
        expect(yield* delivered(id)).toEqual([wanted])
        expect(yield* count("webhook_journal")).toBe(0)
        yield* remove(id)
        expect(yield* count("webhook_deliveries")).toBe(0)
        yield* log.rest
        expect(yield* hasTrigger).toBe(false)
      })
  )

  it.effect("are not lost when their transaction commits after later ones were delivered", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* define()
      const [late, early] = [yield* task, yield* task]
      const [written, mayCommit] = [yield* Latch.make(false), yield* Latch.make(false)]
      const open = yield* Database.insertEvent(late, 1, "TaskCompleted").pipe(
        Effect.andThen(written.open),
        Effect.andThen(mayCommit.await),
        sql.withTransaction,
        Effect.forkChild
      )
      yield* written.await
      yield* Database.insertEvent(early, 1, "TaskCompleted")
      yield* fanOutAll
      expect(yield* delivered(id)).toEqual([early])
      yield* mayCommit.open
      yield* Fiber.join(open)
      yield* fanOutAll
      expect(new Set(yield* delivered(id))).toEqual(new Set([late, early]))
      yield* remove(id)
    })
  )

  it.effect("that roll back are told to nobody", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* define()
      const undone = yield* task
      yield* Database.insertEvent(undone, 1, "TaskCompleted").pipe(
        Effect.andThen(Effect.fail("no")),
        sql.withTransaction,
        Effect.flip
      )
      yield* fanOutAll
      expect(yield* delivered(id)).toEqual([])
      yield* remove(id)
    })
  )

  it.effect("become one delivery each, however many nodes fan them out at once", () =>
    Effect.gen(function* () {
      const log = yield* WebhookDeliveries
      const sql = yield* SqlClient.SqlClient
      const [one, other] = [yield* define(), yield* define({ events: null })]
      yield* sql`
        insert into events (aggregate, number, kind, type, namespace)
        select gen_random_uuid(), 1, 'task', 'TaskCompleted', 'default' from generate_series(1, 1200)
      `
      expect(yield* count("webhook_journal")).toBeGreaterThan(2)
      yield* Effect.all(
        Array.from({ length: 8 }, () => log.fanOut(100)),
        { concurrency: 8 }
      )
      yield* fanOutAll
      const counts = yield* sql<{ readonly webhook_id: string; readonly rows: number; readonly events: number }>`
        select webhook_id, count(*)::int as rows, count(distinct aggregate)::int as events
        from webhook_deliveries where event = 'TaskCompleted' group by webhook_id
      `
      expect(counts.map(({ events, rows }) => [rows, events])).toEqual([
        [1200, 1200],
        [1200, 1200]
      ])
      yield* remove(one)
      yield* remove(other)
    })
  )

  it.effect("are filtered by agent, type and labels of their task", () =>
    Effect.gen(function* () {
      const agent_id = yield* Database.insertAgent(`agent-${++names}`)
      const [first, second] = yield* Database.insertTasks([
        { agent_id, type: "echo.say", labels: { a: "1", b: "2" } },
        { type: "echo.other", labels: { a: "1" } }
      ])
      if (first === undefined || second === undefined) return yield* Effect.die(new Error("no tasks"))
      const webhooks = {
        agent: yield* define({ agent_id }),
        type: yield* define({ type: "echo.other" }),
        labels: yield* define({ labels: { a: "1", b: "2" } }),
        all: yield* define({ labels: { a: "1" } })
      }
      yield* Database.insertEvent(first, 1, "TaskCompleted")
      yield* Database.insertEvent(second, 1, "TaskCompleted")
      yield* fanOutAll
      expect(yield* delivered(webhooks.agent)).toEqual([first])
      expect(yield* delivered(webhooks.type)).toEqual([second])
      expect(yield* delivered(webhooks.labels)).toEqual([first])
      expect(yield* delivered(webhooks.all)).toHaveLength(2)
      yield* Effect.forEach(Object.values(webhooks), remove)
    })
  )

  it.effect("are claimed by one sender at a time, within the webhook's concurrency, and again when it is dead", () =>
    Effect.gen(function* () {
      const log = yield* WebhookDeliveries
      const sql = yield* SqlClient.SqlClient
      const [narrow, wide] = [yield* define({ concurrency: 2 }), yield* define({ concurrency: 32 })]
      for (let each = 0; each < 5; each++) yield* Database.insertEvent(yield* task, 1, "TaskCompleted")
      yield* fanOutAll
      const rounds = yield* Effect.all(
        Array.from({ length: 6 }, () => log.claim(100, lease)),
        { concurrency: 6 }
      )
      const claimed = rounds.flat()
      expect(new Set(claimed.map(({ id }) => id)).size).toBe(claimed.length)
      const of = (id: WebhookId) => claimed.filter(({ webhook_id }) => webhook_id === id)
      expect([of(narrow).length, of(wide).length]).toEqual([2, 5])

      const [held] = of(narrow)
      if (held === undefined) return yield* Effect.die(new Error("nothing was claimed"))
      yield* sql`update webhook_deliveries set due_at = now() - interval '1 s' where id = ${held.id}`
      const again = yield* log.claim(100, lease)
      expect(again).toMatchObject([{ id: held.id, attempt: 2 }])
      // The one that counted as dead comes back: what it says is too late.
      const end = { delayMillis: 0, responseStatus: 500, durationMillis: 1, error: "500", gone: true } as const
      expect(yield* log.settle(held, { ...end, status: "failed" })).toBeUndefined()
      expect(yield* log.get(narrow, held.id)).toMatchObject({ status: "sending", attempt: 2, history: [] })
      yield* log.release({ id: held.id, attempt: 2 })
      expect(yield* log.get(narrow, held.id)).toMatchObject({ status: "pending", attempt: 1 })
      yield* remove(narrow)
      yield* remove(wide)
    })
  )

  it.effect("wait while their webhook is disabled, and are sent when it is enabled", () =>
    Effect.gen(function* () {
      const log = yield* WebhookDeliveries
      const store = yield* WebhookStore
      const id = yield* define()
      yield* Database.insertEvent(yield* task, 1, "TaskCompleted")
      yield* fanOutAll
      const turn = (enabled: boolean) =>
        store.change(home, id, by, (row) =>
          Result.succeed({
            ...row,
            enabled,
            recorded: { type: enabled ? "WebhookEnabled" : "WebhookDisabled", data: null }
          })
        )
      yield* turn(false)
      expect(yield* log.claim(10, lease)).toEqual([])
      yield* Database.insertEvent(yield* task, 1, "TaskCompleted")
      yield* fanOutAll
      yield* turn(true)
      expect(yield* log.claim(10, lease)).toHaveLength(1)
      const sql = yield* SqlClient.SqlClient
      const numbers = yield* sql<{ readonly number: number; readonly type: string }>`
        select number, type from events where aggregate = ${id} order by number
      `
      expect(numbers).toEqual([
        { number: 1, type: "WebhookCreated" },
        { number: 2, type: "WebhookDisabled" },
        { number: 3, type: "WebhookEnabled" }
      ])
      yield* remove(id)
    })
  )

  it.effect("are kept within bounds: old ones go, and a backlog disables", () =>
    Effect.gen(function* () {
      const log = yield* WebhookDeliveries
      const sql = yield* SqlClient.SqlClient
      const id = yield* define()
      const fill = (rows: number, status: string, age: string) => sql`
        insert into webhook_deliveries (id, webhook_id, aggregate, number, event, body, status, attempts_until, gives_up_at, ended_at)
        select (substr(lpad(to_hex((extract(epoch from now() - ${age}::interval) * 1000)::bigint), 12, '0'), 1, 12)
            || '7000' || substr(md5(random()::text), 1, 16))::uuid,
          ${id}, gen_random_uuid(), 1, 'TaskCompleted', '{}', ${status}, 1, now(),
          case when ${status} in ('delivered', 'failed') then now() end
        from generate_series(1, ${rows})
      `
      yield* fill(10, "delivered", "8 days")
      yield* fill(5, "pending", "8 days")
      yield* fill(20_100, "failed", "1 hour")
      expect(yield* log.tidy).toEqual([])
      expect(yield* log.tidy).toEqual([])
      const [kept] = yield* sql<{ readonly old: number; readonly all: number }>`
        select count(*) filter (where id < (lpad(to_hex((extract(epoch from now() - interval '7 days') * 1000)::bigint), 12, '0')
          || repeat('0', 20))::uuid)::int as old, count(*)::int as all from webhook_deliveries where webhook_id = ${id}
      `
      expect(kept?.old).toBe(5)
      expect(kept?.all).toBeLessThanOrEqual(20_001 + 5)
      yield* fill(50_000, "pending", "1 minute")
      expect(yield* log.tidy).toMatchObject([
        { type: "WebhookDisabled", kind: "webhook", aggregate: id, number: 2, data: { reason: "backlog" } }
      ])
      yield* remove(id)
    })
  )
})
