/**
 * Stored hooks: definitions and their changes, each one transaction with the event that records it. A hook's version is the
 * number of its last event. No view has the secret; `callable` has, for whoever checks a request.
 */
import { Context, Effect, Layer, type Result } from "effect"
import { SqlClient } from "effect/sql"
import type { Event, EventType } from "../../protocol/Event.ts"
import type { Hook, HookAuthentication } from "../../protocol/Hook.ts"
import type { HookId, HookName, Namespace } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import type { ChangedBy } from "./AgentRegistry.ts"
import { decodeCursor, encodeCursor } from "./Cursor.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

/** What can be changed of a hook. */
export interface HookDefinition {
  readonly name: HookName
  readonly description: string | null
  readonly idempotency_header: string
  readonly per_minute: number
  readonly task: Hook["task"]
  readonly enabled: boolean
}

export interface CallableHook extends Hook {
  readonly secret: Uint8Array
}

export type Refused = "name-taken" | "too-many"

export class HookStore extends Context.Service<
  HookStore,
  {
    readonly create: (
      hook: {
        readonly id: HookId
        readonly namespace: Namespace
        readonly authentication: HookAuthentication
        readonly secret: Uint8Array
      } & HookDefinition,
      by: ChangedBy
    ) => Effect.Effect<{ readonly hook: Hook; readonly event: Event } | Refused, StoreUnavailable>
    readonly get: (namespace: Namespace, id: HookId) => Effect.Effect<Hook | undefined, StoreUnavailable>
    readonly list: (
      namespace: Namespace,
      query: PageQuery
    ) => Effect.Effect<Page<Hook>, InvalidInput | StoreUnavailable>
    /** As `WebhookStore.change`. A new `secret` replaces the old one. */
    readonly change: <E>(
      namespace: Namespace,
      id: HookId,
      by: ChangedBy,
      decide: (
        hook: Hook
      ) => Result.Result<
        (HookDefinition & { readonly secret?: Uint8Array; readonly data: Event["data"] }) | undefined,
        E
      >
    ) => Effect.Effect<
      { readonly hook: Hook; readonly event: Event | undefined } | "name-taken" | undefined,
      E | StoreUnavailable
    >
    readonly remove: (
      namespace: Namespace,
      id: HookId,
      by: ChangedBy
    ) => Effect.Effect<Event | undefined, StoreUnavailable>
    /** An enabled hook of any namespace. */
    readonly callable: (id: HookId) => Effect.Effect<CallableHook | undefined, StoreUnavailable>
  }
>()("datamcp/ledger/HookStore") {
  static readonly layer = Layer.effect(
    HookStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(hookColumns)

      const find = (namespace: Namespace, id: HookId, lock: "" | "for update") =>
        Effect.map(
          sql<Hook>`
            select ${columns} from hooks h where h.namespace = ${namespace} and h.id = ${id} ${sql.literal(lock)}
          `,
          ([row]) => row
        )

      const record = Effect.fnUntraced(function* (
        hook: Pick<Hook, "id" | "namespace" | "version">,
        { data, type }: { readonly type: EventType; readonly data: Event["data"] },
        by: ChangedBy
      ) {
        const [stored] = yield* sql<{ readonly at: string }>`
          insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
          values (${hook.id}, ${hook.version}, 'hook', ${type}, ${hook.namespace}, ${by.actor}, ${by.trace},
            ${JSON.stringify(data)})
          returning to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
        `
        const event: Event = {
          type,
          kind: "hook",
          aggregate: hook.id,
          number: hook.version,
          at: stored?.at ?? "",
          namespace: hook.namespace,
          actor: by.actor,
          trace: by.trace ?? null,
          data
        }
        return event
      })

      const isTaken = Effect.fnUntraced(function* (namespace: Namespace, name: HookName, besides: HookId) {
        const [other] = yield* sql`
          select from hooks h where h.namespace = ${namespace} and h.name = ${name} and h.id <> ${besides}
        `
        return other !== undefined
      })

      /** Of those who define hooks in a namespace one at a time, so that names and the limit hold. */
      const alone = (namespace: Namespace) =>
        sql`select from namespaces n where n.name = ${namespace} for no key update`

      const create: HookStore["Service"]["create"] = Effect.fn("HookStore.create")((hook, by) =>
        Effect.gen(function* () {
          const { id, name, namespace } = hook
          yield* alone(namespace)
          if (yield* isTaken(namespace, name, id)) return "name-taken" as const
          const [counted] = yield* sql<{ readonly count: number }>`
            select count(*)::int as count from hooks h where h.namespace = ${namespace}
          `
          if ((counted?.count ?? 0) >= Limits.hooksMax) return "too-many" as const
          const [row] = yield* sql<Hook>`
            insert into hooks as h (id, namespace, authentication, secret, created_by, name, description, idempotency_header,
              per_minute, task, enabled)
            values (${id}, ${namespace}, ${hook.authentication}, ${hook.secret}, ${by.actor}, ${name}, ${hook.description},
              ${hook.idempotency_header}, ${hook.per_minute}, ${JSON.stringify(hook.task)}, ${hook.enabled})
            returning ${columns}
          `
          if (row === undefined) return yield* Effect.die(new Error("an inserted hook did not come back"))
          return { hook: row, event: yield* record(row, { type: "HookCreated", data: { name } }, by) }
        }).pipe(sql.withTransaction, orUnavailable("HookStore.create"))
      )

      const get: HookStore["Service"]["get"] = Effect.fn("HookStore.get")((namespace, id) =>
        orUnavailable("HookStore.get")(find(namespace, id, ""))
      )

      const list: HookStore["Service"]["list"] = Effect.fn("HookStore.list")(function* (namespace, query) {
        const scope = { list: "hooks", namespace, filters: {} }
        const limit = query.limit ?? Limits.pageEntriesDefault
        const after =
          query.cursor === undefined
            ? undefined
            : yield* Effect.fromResult(decodeCursor(scope, query.cursor, idPattern))
        const rows = yield* sql<Hook>`
          select ${columns} from hooks h
          where h.namespace = ${namespace} ${after === undefined ? sql.literal("") : sql`and h.id < ${after}`}
          order by h.id desc limit ${limit + 1}
        `.pipe(orUnavailable("HookStore.list"))
        const last = rows.length > limit ? rows[limit - 1] : undefined
        return { data: rows.slice(0, limit), next_cursor: last === undefined ? null : encodeCursor(scope, last.id) }
      })

      const change: HookStore["Service"]["change"] = (namespace, id, by, decide) =>
        Effect.gen(function* () {
          yield* alone(namespace)
          const before = yield* find(namespace, id, "for update")
          if (before === undefined) return undefined
          const decided = decide(before)
          if (decided._tag === "Failure") return { refused: decided.failure }
          const next = decided.success
          if (next === undefined) return { hook: before, event: undefined }
          if (yield* isTaken(namespace, next.name, id)) return "name-taken" as const
          const [row] = yield* sql<Hook>`
            update hooks h set name = ${next.name}, description = ${next.description},
              idempotency_header = ${next.idempotency_header}, per_minute = ${next.per_minute},
              task = ${JSON.stringify(next.task)}, enabled = ${next.enabled},
              secret = coalesce(${next.secret ?? null}::bytea, h.secret), updated_at = now(), version = h.version + 1
            where h.id = ${id}
            returning ${columns}
          `
          if (row === undefined) return yield* Effect.die(new Error("a locked hook was not changed"))
          return { hook: row, event: yield* record(row, { type: "HookUpdated", data: next.data }, by) }
        }).pipe(
          sql.withTransaction,
          orUnavailable("HookStore.change"),
          Effect.flatMap((answer) =>
            typeof answer === "object" && "refused" in answer ? Effect.fail(answer.refused) : Effect.succeed(answer)
          ),
          Effect.withSpan("HookStore.change")
        )

      const remove: HookStore["Service"]["remove"] = Effect.fn("HookStore.remove")((namespace, id, by) =>
        Effect.gen(function* () {
          const [row] = yield* sql<Hook>`
            delete from hooks h where h.namespace = ${namespace} and h.id = ${id} returning ${columns}
          `
          if (row === undefined) return undefined
          const last = { ...row, version: row.version + 1 }
          return yield* record(last, { type: "HookDeleted", data: { name: row.name } }, by)
        }).pipe(sql.withTransaction, orUnavailable("HookStore.remove"))
      )

      const callable: HookStore["Service"]["callable"] = Effect.fn("HookStore.callable")((id) =>
        sql<CallableHook>`select ${columns}, h.secret from hooks h where h.id = ${id} and h.enabled`.pipe(
          Effect.map(([row]) => row),
          orUnavailable("HookStore.callable")
        )
      )

      return HookStore.of({ create, get, list, change, remove, callable })
    })
  )
}

const idPattern = /^[0-9a-f-]{36}$/u

const hookColumns = `h.id, h.namespace, h.name, h.description, h.authentication, h.idempotency_header, h.per_minute, h.task,
  h.enabled, h.created_by, h.version,
  to_char(h.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  to_char(h.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as updated_at`
