/**
 * Stored limits: as their owners see and change them, what is taken of them, and all of them for the directory.
 *
 * Invariant: with a change or a deletion every key of the limit at which tasks wait is marked in the same transaction, so that
 * admission looks at them again.
 */
import { Context, Effect, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"
import { type LimitRecord, LimitStore, LimitStoreUnavailable } from "../../actors/ports/LimitStore.ts"
import type { AgentId, LimitId, LimitName, LimitRef, Namespace } from "../../protocol/Ids.ts"
import type { KeyUsage, Limit, Rate } from "../../protocol/Limit.ts"
import * as Limits from "../../protocol/Limits.ts"
import { ledger } from "./LedgerFunctions.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

export interface NewLimit {
  readonly id: LimitId
  readonly namespace: Namespace
  readonly name: LimitName
  readonly description: string | undefined
  readonly agentId: AgentId | undefined
  readonly type: string | undefined
  readonly key: string
  readonly fairBy: string | undefined
  readonly concurrency: number | undefined
  readonly rate: Required<Rate> | undefined
}

/** Parts that are absent stay as they are. */
export interface LimitChange {
  readonly description: string | undefined
  readonly concurrency: number | undefined
  readonly rate: Required<Rate> | undefined
}

export class LimitRegistry extends Context.Service<
  LimitRegistry,
  {
    /** Nothing is stored when the namespace has one of that name, or `Limits.limitsMax` already. */
    readonly create: (limit: NewLimit) => Effect.Effect<Limit | "name-taken" | "too-many", StoreUnavailable>
    readonly get: (namespace: Namespace, ref: LimitRef) => Effect.Effect<Limit | undefined, StoreUnavailable>
    /** Newest first, at most `limit`. */
    readonly list: (
      namespace: Namespace,
      before: LimitId | undefined,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Limit>, StoreUnavailable>
    /** Locks the limit, asks `decide` what shall become of it, and writes that. */
    readonly change: <E>(
      namespace: Namespace,
      ref: LimitRef,
      decide: (limit: Limit) => Result.Result<LimitChange, E>
    ) => Effect.Effect<Limit | undefined, E | StoreUnavailable>
    /** Tasks that wait for it alone are let go. Answers what it was. */
    readonly remove: (namespace: Namespace, ref: LimitRef) => Effect.Effect<Limit | undefined, StoreUnavailable>
    /** Keys with most tasks that wait, then that run, first; or the key that is asked for. One more than `limit` when there are more. */
    readonly usage: (
      id: LimitId,
      options: { readonly key: string | undefined; readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<KeyUsage>, StoreUnavailable>
  }
>()("datamcp/ledger/LimitRegistry") {
  static readonly layer = Layer.effectContext(
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(viewColumns)

      const is = (namespace: Namespace, ref: LimitRef) =>
        idPattern.test(ref)
          ? sql`l.namespace = ${namespace} and l.id = ${ref}`
          : sql`l.namespace = ${namespace} and l.name = ${ref}`

      const viewOf = (namespace: Namespace, ref: LimitRef) =>
        sql<LimitRow>`select ${columns} from limits l where ${is(namespace, ref)}`.pipe(Effect.map(first))

      const create = Effect.fn("LimitRegistry.create")(
        function* (limit: NewLimit) {
          const [made] = yield* sql<LimitRow>`
            insert into limits as l (id, namespace, name, description, agent_id, task_type, key, fair_by, concurrency,
              rate_limit, rate_window_ms, rate_burst, created_at, updated_at)
            select ${limit.id}, ${limit.namespace}, ${limit.name}, ${limit.description ?? null}, ${limit.agentId ?? null},
              ${limit.type ?? null}, ${limit.key}, ${limit.fairBy ?? null}, ${limit.concurrency ?? null}::int,
              ${limit.rate?.limit ?? null}::int, ${limit.rate?.window_ms ?? null}::int, ${limit.rate?.burst ?? null}::int,
              clock_timestamp(), clock_timestamp()
            where (select count(*) from limits o where o.namespace = ${limit.namespace}) < ${Limits.limitsMax}
            on conflict (namespace, name) do nothing
            returning ${columns}
          `
          if (made !== undefined) return limitOfRow(made)
          return (yield* viewOf(limit.namespace, limit.name)) === undefined
            ? ("too-many" as const)
            : ("name-taken" as const)
        },
        (effect) => orUnavailable("LimitRegistry.create")(effect)
      )

      const get = Effect.fn("LimitRegistry.get")((namespace: Namespace, ref: LimitRef) =>
        orUnavailable("LimitRegistry.get")(viewOf(namespace, ref))
      )

      const list = Effect.fn("LimitRegistry.list")((namespace: Namespace, before: LimitId | undefined, limit: number) =>
        sql<LimitRow>`
          select ${columns} from limits l
          where l.namespace = ${namespace} ${before === undefined ? sql.literal("") : sql`and l.id < ${before}`}
          order by l.id desc limit ${limit}
        `.pipe(
          Effect.map((rows) => rows.map(limitOfRow)),
          orUnavailable("LimitRegistry.list")
        )
      )

      /** Marks what waits, key by key, so that no statement is as long as the limit has keys. */
      const mark = Effect.fnUntraced(function* (id: LimitId) {
        let after: string | null = null
        do {
          const rows: ReadonlyArray<MarkRow> = yield* sql.unsafe<MarkRow>(
            `select ${ledger}.limits_mark($1::uuid, $2::text, $3::int) as after`,
            [id, after, keysAtATime]
          )
          after = rows[0]?.after ?? null
        } while (after !== null)
      })

      const change = Effect.fn("LimitRegistry.change")(
        <E>(namespace: Namespace, ref: LimitRef, decide: (limit: Limit) => Result.Result<LimitChange, E>) =>
          Effect.gen(function* () {
            const [row] = yield* sql<LimitRow>`select ${columns} from limits l where ${is(namespace, ref)} for update`
            if (row === undefined) return Result.succeed(undefined)
            const to = decide(limitOfRow(row))
            if (Result.isFailure(to)) return Result.fail(to.failure)
            const { concurrency, description, rate } = to.success
            const [changed] = yield* sql<LimitRow>`
            update limits l set description = coalesce(${description ?? null}, l.description),
              concurrency = coalesce(${concurrency ?? null}::int, l.concurrency),
              rate_limit = coalesce(${rate?.limit ?? null}::int, l.rate_limit),
              rate_window_ms = coalesce(${rate?.window_ms ?? null}::int, l.rate_window_ms),
              rate_burst = coalesce(${rate?.burst ?? null}::int, l.rate_burst),
              version = l.version + 1, updated_at = clock_timestamp()
            where l.id = ${row.id}
            returning ${columns}
          `
            yield* mark(row.id)
            return Result.succeed(changed === undefined ? undefined : limitOfRow(changed))
          }).pipe(sql.withTransaction, orUnavailable("LimitRegistry.change"), Effect.flatMap(Effect.fromResult))
      )

      const remove = Effect.fn("LimitRegistry.remove")((namespace: Namespace, ref: LimitRef) =>
        Effect.gen(function* () {
          const [row] = yield* sql<LimitRow>`delete from limits l where ${is(namespace, ref)} returning ${columns}`
          if (row === undefined) return undefined
          yield* mark(row.id)
          return limitOfRow(row)
        }).pipe(sql.withTransaction, orUnavailable("LimitRegistry.remove"))
      )

      const usage = Effect.fn("LimitRegistry.usage")(
        (id: LimitId, options: { readonly key: string | undefined; readonly limit: number }) => {
          const asked = options.key === undefined ? sql.literal("true") : sql`k.key = ${options.key}`
          return sql<KeyUsage>`
            with keys as (
              select k.key from limit_keys k where k.limit_id = ${id} and ${asked}
              order by k.taken desc limit ${keysAtATime}
            ), counted as (
              select k.key,
                coalesce((select c.taken from limit_keys c where c.limit_id = ${id} and c.key = k.key), 0)
                  - coalesce((select sum(m.freed) from limit_marks m where m.namespace = l.namespace and m.limit_id = ${id}
                      and m.key = k.key), 0)::int as running,
                (select count(*)::int from (
                  select 1 from task_limits w where w.waits and w.limit_id = ${id} and w.key = k.key limit ${Limits.waitingCountedMax}
                ) w) as waiting,
                case when l.rate_limit is not null then
                  (select r.tokens from ${sql.literal(ledger)}.limits_room(l.id, k.key, clock_timestamp()) r) end as tokens
              from keys k join limits l on l.id = ${id}
            )
            select * from counted where ${options.key === undefined ? sql.literal("running > 0 or waiting > 0") : sql.literal("true")}
            order by waiting desc, running desc, key limit ${options.limit}
          `.pipe(orUnavailable("LimitRegistry.usage"))
        }
      )

      const away = <A, R>(effect: Effect.Effect<A, StoreUnavailable, R>) =>
        Effect.mapError(effect, ({ message }) => new LimitStoreUnavailable({ message }))

      return Context.make(LimitRegistry, LimitRegistry.of({ create, get, list, change, remove, usage })).pipe(
        Context.add(
          LimitStore,
          LimitStore.of({
            state: sql<{ readonly state: string }>`
              select concat(count(*), '/', max(updated_at)) as state from limits
            `.pipe(
              Effect.map(([row]) => row?.state ?? ""),
              orUnavailable("LimitStore.state"),
              away
            ),
            all: sql<RecordRow>`select id, namespace, name, agent_id, task_type, key, fair_by from limits order by id`.pipe(
              Effect.map((rows) => rows.map(recordOfRow)),
              orUnavailable("LimitStore.all"),
              away
            )
          })
        )
      )
    })
  )
}

/** Keys that one statement marks, or that are looked at for a usage. */
const keysAtATime = 1_000

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u

/** Whether a text is taken for an id rather than a name. */
export const isLimitId = (ref: string) => idPattern.test(ref)

const utc = (column: string) =>
  `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${column.slice(2)}`

/** `l` is the limit. */
const viewColumns = `l.id, l.namespace, l.name, l.description, l.agent_id, l.task_type as type, l.key, l.fair_by, l.concurrency,
  l.rate_limit, l.rate_window_ms, l.rate_burst, ${utc("l.created_at")}, ${utc("l.updated_at")}, l.version`

interface LimitRow extends Omit<Limit, "rate"> {
  readonly rate_limit: number | null
  readonly rate_window_ms: number | null
  readonly rate_burst: number | null
}

const limitOfRow = ({ rate_burst: burst, rate_limit: limit, rate_window_ms: window_ms, ...row }: LimitRow): Limit => ({
  ...row,
  rate: limit === null || window_ms === null || burst === null ? null : { limit, window_ms, burst }
})

const first = ([row]: ReadonlyArray<LimitRow>) => (row === undefined ? undefined : limitOfRow(row))

interface MarkRow {
  readonly after: string | null
}

interface RecordRow {
  readonly id: LimitId
  readonly namespace: Namespace
  readonly name: LimitName
  readonly agent_id: AgentId | null
  readonly task_type: string | null
  readonly key: string
  readonly fair_by: string | null
}

const recordOfRow = (row: RecordRow): LimitRecord => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  agentId: row.agent_id ?? undefined,
  type: row.task_type ?? undefined,
  key: row.key,
  fairBy: row.fair_by ?? undefined
})
