/**
 * Deliveries of webhooks on their way: from the journal of events into rows, claimed by whoever sends them, settled, listed
 * and sent again. The statements that decide stand in `sql/functions/webhooks.sql`.
 *
 * Invariant: an event that a webhook wants is a row here from the moment it leaves the journal until it is delivered or
 * given up; a claim that is not settled in time is given to another.
 */
import { Context, type Duration, Effect, Layer } from "effect"
import * as Durations from "effect/Duration"
import { SqlClient } from "effect/sql"
import type { Event } from "../../protocol/Event.ts"
import type { DeliveryId, Namespace, NodeName, WebhookId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import type { Delivery, DeliveryRetry, ListDeliveries } from "../../protocol/Webhook.ts"
import { decodeCursor, encodeCursor } from "./Cursor.ts"
import { ledger } from "./LedgerFunctions.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

/** A delivery in the hands of a sender, with everything that sending it needs. */
export interface ClaimedDelivery {
  readonly id: DeliveryId
  readonly webhook_id: WebhookId
  readonly namespace: Namespace
  readonly event: string
  readonly body: string
  readonly attempt: number
  readonly attempts_until: number
  readonly remaining_ms: number
  readonly url: string
  readonly secret: Uint8Array
  /** While it is still good beside the present one. */
  readonly previous_secret: Uint8Array | null
  readonly retry: DeliveryRetry
  readonly timeout_ms: number
}

export interface SettledAttempt {
  readonly status: "delivered" | "pending" | "failed"
  readonly delayMillis: number
  readonly responseStatus: number | undefined
  readonly durationMillis: number
  readonly error: string | undefined
  readonly gone: boolean
}

export class WebhookDeliveries extends Context.Service<
  WebhookDeliveries,
  {
    /** Turns journal rows into deliveries, those of about `events` events. How many rows it took. */
    readonly fanOut: (events: number) => Effect.Effect<number, StoreUnavailable>
    /** Claims at most `limit` deliveries whose time has come, each webhook's within its concurrency. */
    readonly claim: (
      limit: number,
      lease: Duration.Duration
    ) => Effect.Effect<ReadonlyArray<ClaimedDelivery>, StoreUnavailable>
    /** Records the end of a claimed attempt. The event when this has disabled the webhook. Late ones change nothing. */
    readonly settle: (
      claimed: Pick<ClaimedDelivery, "id" | "attempt">,
      end: SettledAttempt
    ) => Effect.Effect<Event | undefined, StoreUnavailable>
    /** Gives claimed deliveries back that were not sent to the end: others send them at once. */
    readonly release: (claimed: Pick<ClaimedDelivery, "id" | "attempt">) => Effect.Effect<void, StoreUnavailable>
    /** Keeps the log in its bounds. Events of webhooks that were disabled for their backlog. */
    readonly tidy: Effect.Effect<ReadonlyArray<Event>, StoreUnavailable>
    /** Takes the trigger off `events` when no webhook is enabled. */
    readonly rest: Effect.Effect<void, StoreUnavailable>
    /** A ping that is claimed already, by its maker. `undefined` when there is no such webhook. */
    readonly ping: (
      namespace: Namespace,
      webhook: WebhookId,
      ping: { readonly id: DeliveryId; readonly body: string; readonly lease: Duration.Duration }
    ) => Effect.Effect<ClaimedDelivery | undefined, StoreUnavailable>
    readonly get: (webhook: WebhookId, id: DeliveryId) => Effect.Effect<Delivery | undefined, StoreUnavailable>
    readonly list: (
      namespace: Namespace,
      webhook: WebhookId,
      query: ListDeliveries
    ) => Effect.Effect<Page<Delivery>, InvalidInput | StoreUnavailable>
    /** Whether the delivery had ended, and so is sent again. */
    readonly replayOne: (webhook: WebhookId, id: DeliveryId) => Effect.Effect<boolean, StoreUnavailable>
    /** Sends ended ones of a range again, oldest first, at most `Limits.webhookReplayMax`. How many. */
    readonly replay: (
      webhook: WebhookId,
      range: { readonly since: string; readonly until: string | undefined; readonly status: "delivered" | "failed" }
    ) => Effect.Effect<number, StoreUnavailable>
  }
>()("datamcp/ledger/WebhookDeliveries") {
  static readonly layer = (node: NodeName) =>
    Layer.effect(
      WebhookDeliveries,
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const functions = sql.literal(ledger)
        const columns = sql.literal(deliveryColumns)
        const actor = `node:${node}`

        const fanOut = (events: number) =>
          sql<{ readonly rows: number }>`select ${functions}.webhooks_fan_out(${events}) as rows`.pipe(
            Effect.map(([answer]) => answer?.rows ?? 0),
            orUnavailable("WebhookDeliveries.fanOut")
          )

        const claim = (limit: number, lease: Duration.Duration) =>
          sql<ClaimedDelivery>`
            select * from ${functions}.webhooks_claim(${limit}, ${Durations.toMillis(lease)})
          `.pipe(orUnavailable("WebhookDeliveries.claim"))

        const settle: WebhookDeliveries["Service"]["settle"] = ({ attempt, id }, end) =>
          sql<Disabled>`
            select s.webhook_id, s.namespace, s.version, s.data, ${utcNow} as at
            from ${functions}.webhook_settle(${id}, ${attempt}, ${end.status}, ${end.delayMillis},
              ${end.responseStatus ?? null}, ${end.durationMillis}, ${end.error ?? null}, ${end.gone}, ${actor}) s
          `.pipe(
            Effect.map(([disabled]) => (disabled === undefined ? undefined : disabledEvent(disabled, actor))),
            orUnavailable("WebhookDeliveries.settle")
          )
        const utcNow = sql.literal(`to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`)

        const release: WebhookDeliveries["Service"]["release"] = ({ attempt, id }) =>
          sql`
            update webhook_deliveries set status = 'pending', due_at = now(), attempt = attempt - 1
            where id = ${id} and attempt = ${attempt} and status = 'sending'
          `.pipe(Effect.asVoid, orUnavailable("WebhookDeliveries.release"))

        const tidy = sql<Disabled>`
          select t.webhook_id, t.namespace, t.version, t.data, ${utcNow} as at
          from ${functions}.webhooks_tidy(${Limits.webhookDeliveriesKeptMax}, ${Limits.webhookWaitingMax}, ${actor}) t
        `.pipe(
          Effect.map((rows) => rows.map((row) => disabledEvent(row, actor))),
          orUnavailable("WebhookDeliveries.tidy")
        )

        const rest = sql`select ${functions}.webhooks_rest()`.pipe(
          Effect.asVoid,
          orUnavailable("WebhookDeliveries.rest")
        )

        const ping: WebhookDeliveries["Service"]["ping"] = Effect.fn("WebhookDeliveries.ping")(
          (namespace, webhook, { body, id, lease }) =>
            sql<ClaimedDelivery>`
              with made as (
                insert into webhook_deliveries (id, webhook_id, event, body, status, attempt, attempts_until, gives_up_at,
                  due_at)
                select ${id}, w.id, 'Ping', ${body}, 'sending', 1, 1, now() + ${lapse(lease)}, now() + ${lapse(lease)}
                from webhooks w where w.namespace = ${namespace} and w.id = ${webhook}
                returning id, webhook_id, event, body, attempt, attempts_until
              )
              select m.*, w.namespace, 0::float8 as remaining_ms, w.url, w.secret, w.retry, w.timeout_ms,
                case when w.previous_until > now() then w.previous_secret end as previous_secret
              from made m join webhooks w on w.id = m.webhook_id
            `.pipe(
              Effect.map(([row]) => row),
              orUnavailable("WebhookDeliveries.ping")
            )
        )
        const lapse = (of: Duration.Duration) => sql`${Durations.toMillis(of)}::float8 * interval '1 millisecond'`

        const get: WebhookDeliveries["Service"]["get"] = Effect.fn("WebhookDeliveries.get")((webhook, id) =>
          sql<Delivery>`
            select ${columns} from webhook_deliveries d where d.webhook_id = ${webhook} and d.id = ${id}
          `.pipe(
            Effect.map(([row]) => row),
            orUnavailable("WebhookDeliveries.get")
          )
        )

        const list: WebhookDeliveries["Service"]["list"] = Effect.fn("WebhookDeliveries.list")(
          function* (namespace, webhook, query) {
            const scope = { list: "deliveries", namespace, filters: { webhook, status: query.status } }
            const limit = query.limit ?? Limits.pageEntriesDefault
            const after =
              query.cursor === undefined
                ? undefined
                : yield* Effect.fromResult(decodeCursor(scope, query.cursor, idPattern))
            const rows = yield* sql<Delivery>`
              select ${columns} from webhook_deliveries d
              where d.webhook_id = ${webhook} ${after === undefined ? sql.literal("") : sql`and d.id < ${after}`}
                ${query.status === undefined ? sql.literal("") : sql`and d.status = ${query.status}`}
              order by d.id desc limit ${limit + 1}
            `.pipe(orUnavailable("WebhookDeliveries.list"))
            const last = rows.length > limit ? rows[limit - 1] : undefined
            return { data: rows.slice(0, limit), next_cursor: last === undefined ? null : encodeCursor(scope, last.id) }
          }
        )

        const again = sql.literal(`status = 'pending', due_at = now(), ended_at = null,
          attempts_until = d.attempt + w.attempts_max,
          gives_up_at = now() + interval '${Limits.webhookTryHours} hours'`)

        const replayOne: WebhookDeliveries["Service"]["replayOne"] = Effect.fn("WebhookDeliveries.replayOne")(
          (webhook, id) =>
            sql`
              update webhook_deliveries d set ${again} from webhooks w
              where w.id = d.webhook_id and d.webhook_id = ${webhook} and d.id = ${id}
                and d.status in ('delivered', 'failed') and d.aggregate is not null
              returning d.id
            `.pipe(
              Effect.map((rows) => rows.length > 0),
              orUnavailable("WebhookDeliveries.replayOne")
            )
        )

        const replay: WebhookDeliveries["Service"]["replay"] = Effect.fn("WebhookDeliveries.replay")(
          (webhook, { since, status, until }) =>
            sql`
              update webhook_deliveries d set ${again} from webhooks w
              where w.id = d.webhook_id and d.id in (
                select o.id from webhook_deliveries o
                where o.webhook_id = ${webhook} and o.id >= ${functions}.uuid_floor(${since}::timestamptz)
                  and o.id < ${functions}.uuid_floor(coalesce(${until ?? null}::timestamptz, clock_timestamp() + interval '1 s'))
                  and o.status = ${status} and o.aggregate is not null
                order by o.id limit ${Limits.webhookReplayMax}
              )
              returning d.id
            `.pipe(
              Effect.map((rows) => rows.length),
              orUnavailable("WebhookDeliveries.replay")
            )
        )

        return WebhookDeliveries.of({
          fanOut,
          claim,
          settle,
          release,
          tidy,
          rest,
          ping,
          get,
          list,
          replayOne,
          replay
        })
      })
    )
}

interface Disabled {
  readonly webhook_id: WebhookId
  readonly namespace: Namespace
  readonly version: number
  readonly data: Event["data"]
  readonly at: string
}

const disabledEvent = (disabled: Disabled, actor: string): Event => ({
  type: "WebhookDisabled",
  kind: "webhook",
  aggregate: disabled.webhook_id,
  number: disabled.version,
  at: disabled.at,
  namespace: disabled.namespace,
  actor,
  trace: null,
  data: disabled.data
})

const idPattern = /^[0-9a-f-]{36}$/u

const utc = (value: string) => `to_char(${value} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

const deliveryColumns = `d.id, d.webhook_id, d.event, d.aggregate, d.number, d.status, d.attempt, d.response_status,
  d.duration_ms, d.error, d.history, ${utc("d.created_at")} as created_at, ${utc("d.ended_at")} as ended_at,
  ${utc("case when d.status = 'pending' then d.due_at end")} as next_attempt_at`
