/**
 * Stored API keys: hashes of secrets, never a secret. What a key may do is decided elsewhere.
 *
 * Invariant: a key that is revoked or past its end is not found by `usable`, by Postgres's clock.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { ApiKeyId, Namespace } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Permission, Role } from "../../protocol/Permission.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import { decodeCursor, encodeCursor } from "./Cursor.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

export interface NewApiKey {
  readonly id: ApiKeyId
  readonly namespace: Namespace
  readonly name: string
  /** SHA-256 of the secret. */
  readonly secretHash: Uint8Array
  readonly role: Role
  /** Null: those of the role. */
  readonly permissions: ReadonlyArray<Permission> | null
  /** RFC 3339. */
  readonly expiresAt: string | null
}

/** A key as it is shown: without what could help to guess it. */
export interface ApiKeyRow {
  readonly id: ApiKeyId
  readonly namespace: Namespace
  readonly name: string
  readonly role: Role
  readonly permissions: ReadonlyArray<Permission> | null
  readonly created_at: string
  readonly expires_at: string | null
  readonly revoked_at: string | null
}

export interface UsableKey {
  readonly namespace: Namespace
  readonly role: Role
  readonly permissions: ReadonlyArray<Permission> | null
  readonly secret_hash: Uint8Array
  /** Until its end, when it has one. */
  readonly remaining_millis: number | null
}

export class ApiKeyStore extends Context.Service<
  ApiKeyStore,
  {
    /** The key of an id if it grants anything now. */
    readonly usable: (id: ApiKeyId) => Effect.Effect<UsableKey | undefined, StoreUnavailable>
    /** Stores a key, and its namespace when there is none of that name yet. */
    readonly create: (key: NewApiKey) => Effect.Effect<ApiKeyRow, StoreUnavailable>
    /** Newest first, revoked ones included. */
    readonly list: (
      namespace: Namespace,
      query: PageQuery
    ) => Effect.Effect<Page<ApiKeyRow>, InvalidInput | StoreUnavailable>
    /** Revokes a key; again is no change. Answers the hash of its secret; `undefined` when the namespace has no such key. */
    readonly revoke: (namespace: Namespace, id: ApiKeyId) => Effect.Effect<Uint8Array | undefined, StoreUnavailable>
    /** Stores an admin key unless its namespace has one that can be used. Of several who ask at once one succeeds. */
    readonly createFirstAdmin: (key: NewApiKey) => Effect.Effect<ApiKeyRow | undefined, StoreUnavailable>
  }
>()("datamcp/ledger/ApiKeyStore") {
  static readonly layer = Layer.effect(
    ApiKeyStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(keyColumns)

      const usable = Effect.fn("ApiKeyStore.usable")((id: ApiKeyId) =>
        sql<UsableKey>`
          select namespace, role, permissions, secret_hash,
            (extract(epoch from expires_at - clock_timestamp()) * 1000)::float8 as remaining_millis
          from api_keys
          where id = ${id} and revoked_at is null and (expires_at is null or expires_at > clock_timestamp())
        `.pipe(
          Effect.map(([row]) => row),
          orUnavailable("ApiKeyStore.usable")
        )
      )

      const insert = Effect.fnUntraced(function* (key: NewApiKey) {
        yield* sql`insert into namespaces (name) values (${key.namespace}) on conflict do nothing`
        const [row] = yield* sql<ApiKeyRow>`
          insert into api_keys as k (id, namespace, name, secret_hash, role, permissions, expires_at)
          values (${key.id}, ${key.namespace}, ${key.name}, ${key.secretHash}, ${key.role},
            ${key.permissions === null ? null : [...key.permissions]}, ${key.expiresAt})
          returning ${columns}
        `
        return row === undefined ? yield* Effect.die(new Error("an inserted key did not come back")) : row
      })

      const create = Effect.fn("ApiKeyStore.create")((key: NewApiKey) =>
        insert(key).pipe(sql.withTransaction, orUnavailable("ApiKeyStore.create"))
      )

      const list = Effect.fn("ApiKeyStore.list")(function* (namespace: Namespace, query: PageQuery) {
        const scope = { list: "api-keys", namespace, filters: {} }
        const limit = query.limit ?? Limits.pageEntriesDefault
        const after =
          query.cursor === undefined
            ? undefined
            : yield* Effect.fromResult(decodeCursor(scope, query.cursor, positionPattern))
        const rows = yield* sql<ApiKeyRow & { readonly position: string }>`
          select ${columns}, (extract(epoch from k.created_at) * 1000000)::bigint::text || '/' || k.id as position
          from api_keys k
          where k.namespace = ${namespace} ${after === undefined ? sql.literal("") : behind(after)}
          order by k.created_at desc, k.id desc limit ${limit + 1}
        `.pipe(orUnavailable("ApiKeyStore.list"))
        const last = rows.length > limit ? rows[limit - 1] : undefined
        return {
          data: rows.slice(0, limit).map(({ position: _position, ...row }) => row),
          next_cursor: last === undefined ? null : encodeCursor(scope, last.position)
        }
      })

      const behind = (position: string) => {
        const [micros = "0", id = ""] = position.split("/")
        return sql`and (k.created_at, k.id) < (timestamptz 'epoch' + ${micros}::bigint * interval '1 microsecond', ${id})`
      }

      const revoke = Effect.fn("ApiKeyStore.revoke")((namespace: Namespace, id: ApiKeyId) =>
        sql<{ readonly secret_hash: Uint8Array }>`
          update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp())
          where id = ${id} and namespace = ${namespace} returning secret_hash
        `.pipe(
          Effect.map(([row]) => row?.secret_hash),
          orUnavailable("ApiKeyStore.revoke")
        )
      )

      const createFirstAdmin = Effect.fn("ApiKeyStore.createFirstAdmin")((key: NewApiKey) =>
        Effect.gen(function* () {
          yield* sql`select pg_advisory_xact_lock(${advisoryLock})`
          const [admin] = yield* sql`
            select 1 from api_keys
            where namespace = ${key.namespace} and role = 'admin' and permissions is null and revoked_at is null
              and (expires_at is null or expires_at > clock_timestamp())
            limit 1
          `
          return admin === undefined ? yield* insert(key) : undefined
        }).pipe(sql.withTransaction, orUnavailable("ApiKeyStore.createFirstAdmin"))
      )

      return ApiKeyStore.of({ usable, create, list, revoke, createFirstAdmin })
    })
  )
}

/** Any number that nobody else uses: names the lock under which the first admin key is made. */
const advisoryLock = 4_815_162_343

const keyColumns = `k.id, k.namespace, k.name, k.role, k.permissions,
  to_char(k.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  to_char(k.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as expires_at,
  to_char(k.revoked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as revoked_at`

/** Microseconds since 1970 and the id: a place in the order of the list. */
const positionPattern = /^\d{1,16}\/[a-z0-9]{16}$/u
