/**
 * The use cases of webhooks: define them, steer them, test them, and see and repeat what they were sent.
 *
 * Each method checks the principal's permission first and then sees its namespace only. A secret is in the answer that made
 * it and in no other.
 */
import { Context, DateTime, Duration, Effect, Layer, Result, Semaphore } from "effect"
import { SecureRandom } from "effect/crypto"
import { Bus } from "../../actors/ports/Bus.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { Event } from "../../protocol/Event.ts"
import { AgentId, type AgentRef, DeliveryId, type HookName, WebhookId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { noMoment, utcMoment } from "../../protocol/Moment.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  Conflict,
  DeliveryNotFound,
  type Forbidden,
  type InvalidInput,
  invalidField,
  Overloaded,
  type Unavailable,
  WebhookNotFound
} from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import {
  type CreatedWebhook,
  type CreateWebhook,
  type Delivery,
  type ListDeliveries,
  type ReplayDeliveries,
  type Replayed,
  type RotateWebhook,
  type UpdateWebhook,
  type Webhook,
  type WebhookFilter,
  webhookConcurrencyDefault,
  webhookDisableAfterDefault,
  webhookOverlapMillisDefault,
  webhookRetryDefault
} from "../../protocol/Webhook.ts"
import { AgentRegistry } from "../ledger/AgentRegistry.ts"
import { WebhookDeliveries } from "../ledger/WebhookDeliveries.ts"
import { type WebhookDefinition, type WebhookRow, WebhookStore, webhookOfRow } from "../ledger/WebhookStore.ts"
import { secretBytes, secretText } from "../webhooks/Signature.ts"
import { refusalOfUrl, WebhookNetwork } from "../webhooks/WebhookNetwork.ts"
import { WebhookSender } from "../webhooks/WebhookSender.ts"
import { authorize } from "./authorize.ts"
import { changedBy } from "./changedBy.ts"
import { orUnavailable } from "./outage.ts"

type Denied = Forbidden | Unavailable

export class Webhooks extends Context.Service<
  Webhooks,
  {
    /** Every matching event that is committed after the answer is delivered at least once. */
    readonly create: (
      command: CreateWebhook
    ) => Effect.Effect<CreatedWebhook, InvalidInput | Conflict | Denied, Principal>
    readonly list: (query: PageQuery) => Effect.Effect<Page<Webhook>, InvalidInput | Denied, Principal>
    readonly get: (id: WebhookId) => Effect.Effect<Webhook, WebhookNotFound | Denied, Principal>
    /** Replaces the parts that are given, of the version `ifVersion` only when there is one. */
    readonly update: (
      id: WebhookId,
      command: UpdateWebhook,
      ifVersion: number | undefined
    ) => Effect.Effect<Webhook, WebhookNotFound | InvalidInput | Conflict | Denied, Principal>
    readonly remove: (id: WebhookId) => Effect.Effect<void, WebhookNotFound | Denied, Principal>
    readonly rotate: (
      id: WebhookId,
      command: RotateWebhook
    ) => Effect.Effect<CreatedWebhook, WebhookNotFound | Denied, Principal>
    /** Sends a ping, once and now, and answers what came of it. */
    readonly test: (id: WebhookId) => Effect.Effect<Delivery, WebhookNotFound | Overloaded | Denied, Principal>
    readonly enable: (id: WebhookId) => Effect.Effect<Webhook, WebhookNotFound | Denied, Principal>
    readonly disable: (id: WebhookId) => Effect.Effect<Webhook, WebhookNotFound | Denied, Principal>
    readonly deliveries: (
      id: WebhookId,
      query: ListDeliveries
    ) => Effect.Effect<Page<Delivery>, WebhookNotFound | InvalidInput | Denied, Principal>
    /** Sends an ended delivery again, with its id and body. `Conflict` when it has not ended. */
    readonly replayOne: (
      id: WebhookId,
      delivery: DeliveryId
    ) => Effect.Effect<Delivery, WebhookNotFound | DeliveryNotFound | Conflict | Denied, Principal>
    readonly replay: (
      id: WebhookId,
      command: ReplayDeliveries
    ) => Effect.Effect<Replayed, WebhookNotFound | InvalidInput | Conflict | Denied, Principal>
  }
>()("datamcp/app/Webhooks") {
  static readonly layer = Layer.effect(
    Webhooks,
    Effect.gen(function* () {
      const store = yield* WebhookStore
      const log = yield* WebhookDeliveries
      const sender = yield* WebhookSender
      const agents = yield* AgentRegistry
      const random = yield* SecureRandom.SecureRandom
      const network = yield* WebhookNetwork
      const bus = yield* Bus
      const ids = yield* UuidV7
      const pings = yield* Semaphore.make(pingsMax)

      const tell = (event: Event | undefined) => (event === undefined ? Effect.void : bus.publishEvents([event]))

      const find = Effect.fnUntraced(function* (principal: Principal["Service"], id: WebhookId) {
        return (yield* store.get(principal.namespace, id)) ?? (yield* notFound(id))
      })

      const checkUrl = (url: string | undefined) => {
        const refusal = url === undefined ? undefined : refusalOfUrl(network, url)
        return refusal === undefined ? Effect.void : Effect.fail(invalidField("url", refusal))
      }

      const filterOf = Effect.fnUntraced(function* (principal: Principal["Service"], filter: WebhookFilter) {
        const agent_id = filter.agent === undefined ? null : yield* agentOf(principal, filter.agent)
        return {
          events: filter.events ?? null,
          agent_id,
          type: filter.type ?? null,
          labels: filter.labels === undefined || Object.keys(filter.labels).length === 0 ? null : filter.labels
        }
      })

      const agentOf = Effect.fnUntraced(function* (principal: Principal["Service"], ref: AgentRef) {
        const agent = yield* agents.get(principal.namespace, ref)
        return agent === undefined
          ? yield* invalidField("filter.agent", `there is no agent "${ref}" in this namespace`)
          : AgentId.make(agent.id)
      })

      const create: Webhooks["Service"]["create"] = Effect.fn("Webhooks.create")(function* (command) {
        const principal = yield* authorize("webhook:write")
        yield* checkUrl(command.url)
        const secret = yield* random.randomBytes(secretBytes)
        const retry = { ...webhookRetryDefault, ...command.retry }
        const made = yield* store.create(
          {
            ...(yield* filterOf(principal, command.filter ?? {})),
            id: WebhookId.make(ids.next()),
            namespace: principal.namespace,
            secret,
            name: command.name,
            url: command.url,
            description: command.description ?? null,
            include_result: command.include_result ?? false,
            retry,
            attempts_max: retry.max_attempts,
            timeout_ms: command.timeout_ms ?? Limits.webhookTimeoutMillisMax,
            concurrency: command.concurrency ?? webhookConcurrencyDefault,
            disable_after: command.disable_after ?? webhookDisableAfterDefault,
            enabled: command.enabled ?? true
          },
          yield* changedBy(principal)
        )
        if (made === "name-taken") return yield* nameTaken(command.name)
        if (made === "too-many") return yield* tooMany
        yield* tell(made.event)
        return { ...webhookOfRow(made.row), secret: secretText(secret) }
      }, orUnavailable)

      const list: Webhooks["Service"]["list"] = Effect.fn("Webhooks.list")(function* (query) {
        const { namespace } = yield* authorize("webhook:read")
        const page = yield* store.list(namespace, query)
        return { ...page, data: page.data.map(webhookOfRow) }
      }, orUnavailable)

      const get: Webhooks["Service"]["get"] = Effect.fn("Webhooks.get")(function* (id) {
        const principal = yield* authorize("webhook:read")
        return webhookOfRow(yield* find(principal, id))
      }, orUnavailable)

      /** Writes what `decide` makes of a webhook and tells who watches. */
      const change = Effect.fnUntraced(function* <E>(
        principal: Principal["Service"],
        id: WebhookId,
        decide: (row: WebhookRow) => Result.Result<Change | undefined, E>
      ) {
        const changed = yield* store.change(principal.namespace, id, yield* changedBy(principal), decide)
        if (changed === undefined) return yield* notFound(id)
        if (typeof changed === "string") return changed
        yield* tell(changed.event)
        return webhookOfRow(changed.row)
      })

      const update: Webhooks["Service"]["update"] = Effect.fn("Webhooks.update")(function* (id, command, ifVersion) {
        const principal = yield* authorize("webhook:write")
        yield* checkUrl(command.url)
        const filter = command.filter === undefined ? {} : yield* filterOf(principal, command.filter)
        const changed = yield* change(principal, id, (row) => {
          if (ifVersion !== undefined && ifVersion !== row.version) return Result.fail(otherVersion(row, ifVersion))
          const parts = Object.entries(command).flatMap(([field, value]) => (value === undefined ? [] : [field]))
          if (parts.length === 0) return Result.succeed(undefined)
          const { filter: _filter, retry: given, ...rest } = command
          const retry = given === undefined ? row.retry : { ...webhookRetryDefault, ...given }
          return Result.succeed({
            ...row,
            ...rest,
            ...filter,
            retry,
            attempts_max: retry.max_attempts ?? row.attempts_max,
            recorded: { type: "WebhookUpdated" as const, data: { name: rest.name ?? row.name, changed: parts } }
          })
        })
        return typeof changed === "string" ? yield* nameTaken(command.name) : changed
      }, orUnavailable)

      const turn = Effect.fnUntraced(function* (id: WebhookId, enabled: boolean) {
        const principal = yield* authorize("webhook:write")
        const type = enabled ? "WebhookEnabled" : "WebhookDisabled"
        const changed = yield* change(principal, id, (row) =>
          Result.succeed(
            row.enabled === enabled
              ? undefined
              : {
                  ...row,
                  enabled,
                  recorded: { type, data: { name: row.name, ...(enabled ? {} : { reason: "asked" }) } }
                }
          )
        )
        return typeof changed === "string"
          ? yield* Effect.die(new Error("a name that did not change is taken"))
          : changed
      }, orUnavailable)

      const rotate: Webhooks["Service"]["rotate"] = Effect.fn("Webhooks.rotate")(function* (id, { overlap_ms }) {
        const principal = yield* authorize("webhook:write")
        const secret = yield* random.randomBytes(secretBytes)
        const overlap = overlap_ms ?? webhookOverlapMillisDefault
        const rotated = yield* store.rotate(principal.namespace, id, yield* changedBy(principal), secret, overlap)
        if (rotated === undefined) return yield* notFound(id)
        yield* tell(rotated.event)
        return { ...webhookOfRow(rotated.row), secret: secretText(secret) }
      }, orUnavailable)

      const remove: Webhooks["Service"]["remove"] = Effect.fn("Webhooks.remove")(function* (id) {
        const principal = yield* authorize("webhook:write")
        const event = yield* store.remove(principal.namespace, id, yield* changedBy(principal))
        if (event === undefined) return yield* notFound(id)
        yield* tell(event)
      }, orUnavailable)

      const ping = Effect.fnUntraced(function* (principal: Principal["Service"], id: WebhookId) {
        const timestamp = DateTime.formatIso(yield* DateTime.now)
        const claimed = yield* log.ping(principal.namespace, id, {
          id: DeliveryId.make(ids.next()),
          body: JSON.stringify({ type: "Ping", timestamp, data: { webhook_id: id } }),
          lease: Duration.seconds(30)
        })
        if (claimed === undefined) return yield* notFound(id)
        const sent = yield* sender.send(claimed)
        const isRight = sent.error === undefined
        yield* log.settle(claimed, { ...sent, status: isRight ? "delivered" : "failed", delayMillis: 0, gone: false })
        return (yield* log.get(id, claimed.id)) ?? (yield* notFound(id))
      })

      const test: Webhooks["Service"]["test"] = Effect.fn("Webhooks.test")(function* (id) {
        const principal = yield* authorize("webhook:write")
        const sent = yield* pings.withPermitsIfAvailable(1)(ping(principal, id))
        return sent._tag === "Some" ? sent.value : yield* pinging
      }, orUnavailable)

      const deliveries: Webhooks["Service"]["deliveries"] = Effect.fn("Webhooks.deliveries")(function* (id, query) {
        const principal = yield* authorize("webhook:read")
        yield* find(principal, id)
        return yield* log.list(principal.namespace, id, query)
      }, orUnavailable)

      const enabled = Effect.fnUntraced(function* (principal: Principal["Service"], id: WebhookId) {
        const row = yield* find(principal, id)
        if (row.enabled) return
        return yield* new Conflict({
          detail: `Webhook "${row.name}" is disabled (${row.disabled_reason}): enable it first.`,
          reason: "state"
        })
      })

      const replayOne: Webhooks["Service"]["replayOne"] = Effect.fn("Webhooks.replayOne")(function* (id, delivery) {
        const principal = yield* authorize("webhook:write")
        yield* enabled(principal, id)
        const isReplayed = yield* log.replayOne(id, delivery)
        const now = yield* log.get(id, delivery)
        if (now === undefined) {
          return yield* new DeliveryNotFound({
            delivery_id: delivery,
            detail: `Webhook ${id} has no delivery ${delivery}; they are kept for 7 days.`
          })
        }
        if (isReplayed) return now
        const why = now.aggregate === null ? "is a ping: test the webhook again" : "has not ended"
        return yield* new Conflict({ detail: `Delivery ${delivery} ${why}.`, reason: "state" })
      }, orUnavailable)

      const replay: Webhooks["Service"]["replay"] = Effect.fn("Webhooks.replay")(function* (id, command) {
        const principal = yield* authorize("webhook:write")
        const since = utcMoment(command.since)
        if (since === undefined) return yield* invalidField("since", noMoment)
        const until = command.until === undefined ? undefined : utcMoment(command.until)
        if (command.until !== undefined && until === undefined) return yield* invalidField("until", noMoment)
        if (until !== undefined && until <= since) return yield* invalidField("until", "must be after since")
        yield* enabled(principal, id)
        const replayed = yield* log.replay(id, { since, until, status: command.status ?? "failed" })
        return { replayed, more: replayed >= Limits.webhookReplayMax }
      }, orUnavailable)

      return Webhooks.of({
        create,
        list,
        get,
        update,
        remove,
        rotate,
        test,
        enable: (id) => turn(id, true),
        disable: (id) => turn(id, false),
        deliveries,
        replayOne,
        replay
      })
    })
  )
}

type Change = WebhookDefinition & { readonly recorded: { readonly type: Event["type"]; readonly data: Event["data"] } }

/** Pings that one node sends at a time: their askers wait for them. */
const pingsMax = 32

const pinging = new Overloaded({ detail: "This node sends as many pings as it may at a time.", retry_after_seconds: 1 })

const notFound = (id: WebhookId) =>
  new WebhookNotFound({ webhook_id: id, detail: `There is no webhook ${id} in this namespace.` })

const nameTaken = (name: HookName | undefined) =>
  new Conflict({ detail: `This namespace has a webhook "${name}" already.`, reason: "name-taken" })

const tooMany = new Conflict({
  detail: `This namespace has ${Limits.webhooksMax} webhooks, which is the limit: delete one.`,
  reason: "state"
})

const otherVersion = (row: WebhookRow, version: number) =>
  new Conflict({
    detail: `Webhook "${row.name}" is at version ${row.version}, not ${version}: read it again.`,
    reason: "version",
    current_version: row.version
  })
