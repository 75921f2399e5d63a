/**
 * Stored webhooks: definitions and their changes, each one transaction with the event that records it.
 *
 * Invariants: a webhook's version is the number of its last event. A change of what a namespace wants to be told begins with
 * a lock on `events`, so that every event committed after the change was judged by it. No view has the secret.
 */
import { Context, Effect, Layer, type Result } from "effect"
import { SqlClient } from "effect/sql"
import type { Event, EventType } from "../../protocol/Event.ts"
import type { AgentId, HookName, Namespace, WebhookId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import type { Labels } from "../../protocol/Task.ts"
import type { DeliveryRetry, DisabledReason, Webhook } from "../../protocol/Webhook.ts"
import type { ChangedBy } from "./AgentRegistry.ts"
import { decodeCursor, encodeCursor } from "./Cursor.ts"
import { ledger } from "./LedgerFunctions.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

/** What can be changed of a webhook. */
export interface WebhookDefinition {
  readonly name: HookName
  readonly url: string
  readonly description: string | null
  readonly events: ReadonlyArray<EventType> | null
  readonly agent_id: AgentId | null
  readonly type: string | null
  readonly labels: typeof Labels.Type | null
  readonly include_result: boolean
  readonly retry: DeliveryRetry
  readonly attempts_max: number
  readonly timeout_ms: number
  readonly concurrency: number
  readonly disable_after: number
  readonly enabled: boolean
}

export interface WebhookRow extends WebhookDefinition {
  readonly id: WebhookId
  readonly namespace: Namespace
  readonly disabled_reason: DisabledReason | null
  readonly disabled_at: string | null
  readonly failures: number
  readonly previous_until: string | null
  readonly created_by: string
  readonly created_at: string
  readonly updated_at: string
  readonly version: number
}

/** A changed webhook with the event of its change. */
export interface ChangedWebhook {
  readonly row: WebhookRow
  readonly event: Event
}

/** Why nothing was stored. */
export type Refused = "name-taken" | "too-many"

interface Recorded {
  readonly type: EventType
  readonly data: Event["data"]
}

export class WebhookStore extends Context.Service<
  WebhookStore,
  {
    readonly create: (
      webhook: {
        readonly id: WebhookId
        readonly namespace: Namespace
        readonly secret: Uint8Array
      } & WebhookDefinition,
      by: ChangedBy
    ) => Effect.Effect<ChangedWebhook | Refused, StoreUnavailable>
    readonly get: (namespace: Namespace, id: WebhookId) => Effect.Effect<WebhookRow | undefined, StoreUnavailable>
    readonly list: (
      namespace: Namespace,
      query: PageQuery
    ) => Effect.Effect<Page<WebhookRow>, InvalidInput | StoreUnavailable>
    /**
     * Locks the webhook, asks `decide` what shall become of it, and writes that with its event; `undefined` from `decide`
     * changes nothing. Answers `undefined` when there is none.
     */
    readonly change: <E>(
      namespace: Namespace,
      id: WebhookId,
      by: ChangedBy,
      decide: (row: WebhookRow) => Result.Result<(WebhookDefinition & { readonly recorded: Recorded }) | undefined, E>
    ) => Effect.Effect<
      { readonly row: WebhookRow; readonly event: Event | undefined } | Refused | undefined,
      E | StoreUnavailable
    >
    readonly rotate: (
      namespace: Namespace,
      id: WebhookId,
      by: ChangedBy,
      secret: Uint8Array,
      overlapMillis: number
    ) => Effect.Effect<ChangedWebhook | undefined, StoreUnavailable>
    /** With its deliveries. `undefined` when there is none. */
    readonly remove: (
      namespace: Namespace,
      id: WebhookId,
      by: ChangedBy
    ) => Effect.Effect<Event | undefined, StoreUnavailable>
  }
>()("datamcp/ledger/WebhookStore") {
  static readonly layer = Layer.effect(
    WebhookStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(webhookColumns)
      const functions = sql.literal(ledger)

      /** Nothing records an event until the end of this transaction; and it does not wait long for that itself. */
      const first = Effect.andThen(
        sql`select set_config('lock_timeout', '3s', true)`,
        sql`lock table events in share row exclusive mode`
      )
      const attend = (namespace: Namespace) => sql`select ${functions}.webhooks_attend(${namespace})`

      const find = (namespace: Namespace, id: WebhookId, lock: "" | "for update") =>
        Effect.map(
          sql<WebhookRow>`
            select ${columns} from webhooks w where w.namespace = ${namespace} and w.id = ${id} ${sql.literal(lock)}
          `,
          ([row]) => row
        )

      const record = Effect.fnUntraced(function* (
        row: Pick<WebhookRow, "id" | "namespace" | "version">,
        { data, type }: Recorded,
        by: ChangedBy
      ) {
        const [stored] = yield* sql<{ readonly at: string }>`
          insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
          values (${row.id}, ${row.version}, 'webhook', ${type}, ${row.namespace}, ${by.actor}, ${by.trace},
            ${JSON.stringify(data)})
          returning to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
        `
        const event: Event = {
          type,
          kind: "webhook",
          aggregate: row.id,
          number: row.version,
          at: stored?.at ?? "",
          namespace: row.namespace,
          actor: by.actor,
          trace: by.trace ?? null,
          data
        }
        return event
      })

      const isTaken = Effect.fnUntraced(function* (namespace: Namespace, name: HookName, besides: WebhookId) {
        const [other] = yield* sql`
          select from webhooks w where w.namespace = ${namespace} and w.name = ${name} and w.id <> ${besides}
        `
        return other !== undefined
      })

      const create: WebhookStore["Service"]["create"] = Effect.fn("WebhookStore.create")((webhook, by) =>
        Effect.gen(function* () {
          yield* first
          const { id, name, namespace } = webhook
          if (yield* isTaken(namespace, name, id)) return "name-taken" as const
          const [counted] = yield* sql<{ readonly count: number }>`
            select count(*)::int as count from webhooks w where w.namespace = ${namespace}
          `
          if ((counted?.count ?? 0) >= Limits.webhooksMax) return "too-many" as const
          const [row] = yield* sql<WebhookRow>`
            insert into webhooks as w (id, namespace, secret, created_by, name, url, description, events, agent_id, type, labels,
              include_result, retry, attempts_max, timeout_ms, concurrency, disable_after, enabled, disabled_reason,
              disabled_at)
            values (${id}, ${namespace}, ${webhook.secret}, ${by.actor}, ${name}, ${webhook.url}, ${webhook.description},
              ${webhook.events === null ? null : [...webhook.events]}, ${webhook.agent_id}, ${webhook.type},
              ${webhook.labels === null ? null : JSON.stringify(webhook.labels)}, ${webhook.include_result},
              ${JSON.stringify(webhook.retry)}, ${webhook.attempts_max}, ${webhook.timeout_ms}, ${webhook.concurrency},
              ${webhook.disable_after}, ${webhook.enabled}, ${webhook.enabled ? null : "asked"},
              case when not ${webhook.enabled}::boolean then now() end)
            returning ${columns}
          `
          if (row === undefined) return yield* Effect.die(new Error("an inserted webhook did not come back"))
          const event = yield* record(row, { type: "WebhookCreated", data: { name, url: originOf(row.url) } }, by)
          yield* attend(namespace)
          return { row, event }
        }).pipe(sql.withTransaction, orUnavailable("WebhookStore.create"))
      )

      const get: WebhookStore["Service"]["get"] = Effect.fn("WebhookStore.get")((namespace, id) =>
        orUnavailable("WebhookStore.get")(find(namespace, id, ""))
      )

      const list: WebhookStore["Service"]["list"] = Effect.fn("WebhookStore.list")(function* (namespace, query) {
        const scope = { list: "webhooks", namespace, filters: {} }
        const limit = query.limit ?? Limits.pageEntriesDefault
        const after =
          query.cursor === undefined
            ? undefined
            : yield* Effect.fromResult(decodeCursor(scope, query.cursor, idPattern))
        const rows = yield* sql<WebhookRow>`
          select ${columns} from webhooks w
          where w.namespace = ${namespace} ${after === undefined ? sql.literal("") : sql`and w.id < ${after}`}
          order by w.id desc limit ${limit + 1}
        `.pipe(orUnavailable("WebhookStore.list"))
        const last = rows.length > limit ? rows[limit - 1] : undefined
        return { data: rows.slice(0, limit), next_cursor: last === undefined ? null : encodeCursor(scope, last.id) }
      })

      const change: WebhookStore["Service"]["change"] = (namespace, id, by, decide) =>
        Effect.gen(function* () {
          yield* first
          const before = yield* find(namespace, id, "for update")
          if (before === undefined) return undefined
          const decided = decide(before)
          if (decided._tag === "Failure") return { refused: decided.failure }
          const next = decided.success
          if (next === undefined) return { row: before, event: undefined }
          if (yield* isTaken(namespace, next.name, id)) return "name-taken" as const
          const [row] = yield* sql<WebhookRow>`
            update webhooks w set name = ${next.name}, url = ${next.url}, description = ${next.description},
              events = ${next.events === null ? null : [...next.events]}, agent_id = ${next.agent_id}, type = ${next.type},
              labels = ${next.labels === null ? null : JSON.stringify(next.labels)},
              include_result = ${next.include_result}, retry = ${JSON.stringify(next.retry)},
              attempts_max = ${next.attempts_max}, timeout_ms = ${next.timeout_ms}, concurrency = ${next.concurrency},
              disable_after = ${next.disable_after}, enabled = ${next.enabled},
              disabled_reason = case when ${next.enabled}::boolean then null else coalesce(w.disabled_reason, 'asked') end,
              disabled_at = case when ${next.enabled}::boolean then null else coalesce(w.disabled_at, now()) end,
              failures = case when ${next.enabled}::boolean and not w.enabled then 0 else w.failures end,
              updated_at = now(), version = w.version + 1
            where w.id = ${id}
            returning ${columns}
          `
          if (row === undefined) return yield* Effect.die(new Error("a locked webhook was not changed"))
          const event = yield* record(row, next.recorded, by)
          yield* attend(namespace)
          return { row, event }
        }).pipe(
          sql.withTransaction,
          orUnavailable("WebhookStore.change"),
          Effect.flatMap((answer) =>
            typeof answer === "object" && "refused" in answer ? Effect.fail(answer.refused) : Effect.succeed(answer)
          ),
          Effect.withSpan("WebhookStore.change")
        )

      const rotate: WebhookStore["Service"]["rotate"] = Effect.fn("WebhookStore.rotate")(
        (namespace, id, by, secret, overlapMillis) =>
          Effect.gen(function* () {
            const [row] = yield* sql<WebhookRow>`
              update webhooks w set secret = ${secret}, previous_secret = w.secret,
                previous_until = now() + ${overlapMillis}::float8 * interval '1 millisecond', updated_at = now(),
                version = w.version + 1
              where w.namespace = ${namespace} and w.id = ${id}
              returning ${columns}
            `
            if (row === undefined) return undefined
            const data = { name: row.name, rotated: true, overlap_ms: overlapMillis }
            return { row, event: yield* record(row, { type: "WebhookUpdated", data }, by) }
          }).pipe(sql.withTransaction, orUnavailable("WebhookStore.rotate"))
      )

      /** Before the lock: tens of thousands of deliveries would hold up whoever records events. */
      const empty = Effect.fnUntraced(function* (namespace: Namespace, id: WebhookId) {
        let deleted = deliveriesAtATime
        while (deleted === deliveriesAtATime) {
          const rows = yield* sql`
            delete from webhook_deliveries where id in (
              select d.id from webhook_deliveries d join webhooks w on w.id = d.webhook_id
              where w.namespace = ${namespace} and w.id = ${id} limit ${deliveriesAtATime}
            ) returning id
          `.pipe(orUnavailable("WebhookStore.remove"))
          deleted = rows.length
        }
      })

      const remove: WebhookStore["Service"]["remove"] = Effect.fn("WebhookStore.remove")(function* (namespace, id, by) {
        yield* empty(namespace, id)
        return yield* Effect.gen(function* () {
          yield* first
          const [row] = yield* sql<WebhookRow>`
            delete from webhooks w where w.namespace = ${namespace} and w.id = ${id} returning ${columns}
          `
          if (row === undefined) return undefined
          const last = { ...row, version: row.version + 1 }
          const event = yield* record(last, { type: "WebhookDeleted", data: { name: row.name } }, by)
          yield* attend(namespace)
          return event
        }).pipe(sql.withTransaction, orUnavailable("WebhookStore.remove"))
      })

      return WebhookStore.of({ create, get, list, change, rotate, remove })
    })
  )
}

/** Deliveries that one statement deletes. */
const deliveriesAtATime = 5_000

/** Paths and queries of such URLs often are credentials: events do not repeat them. */
const originOf = (url: string) => new URL(url).origin

const idPattern = /^[0-9a-f-]{36}$/u

const utc = (column: string) => `to_char(w.${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${column}`

const webhookColumns = `w.id, w.namespace, w.name, w.url, w.description, w.events, w.agent_id, w.type, w.labels,
  w.include_result, w.retry, w.attempts_max, w.timeout_ms, w.concurrency, w.disable_after, w.enabled, w.disabled_reason,
  w.failures, w.created_by, w.version, ${["disabled_at", "created_at", "updated_at"].map(utc).join(", ")},
  to_char(case when w.previous_until > now() then w.previous_until end at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as previous_until`

/** As it is shown. */
export const webhookOfRow = (row: WebhookRow): Webhook => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  url: row.url,
  filter: {
    ...(row.events === null ? {} : { events: row.events }),
    ...(row.agent_id === null ? {} : { agent: row.agent_id }),
    ...(row.type === null ? {} : { type: row.type }),
    ...(row.labels === null ? {} : { labels: row.labels })
  },
  description: row.description,
  include_result: row.include_result,
  retry: row.retry,
  timeout_ms: row.timeout_ms,
  concurrency: row.concurrency,
  disable_after: row.disable_after,
  enabled: row.enabled,
  disabled_reason: row.disabled_reason,
  disabled_at: row.disabled_at,
  failures: row.failures,
  previous_secret_until: row.previous_until,
  created_by: row.created_by,
  created_at: row.created_at,
  updated_at: row.updated_at,
  version: row.version
})
