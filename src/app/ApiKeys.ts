/**
 * API keys: made, listed, revoked, and turned into principals. The first part of identity; users and tokens will
 * stand beside it and give the same `Principal`.
 *
 * A key reads `dma_<id>_<secret><check>`: the id names it, the secret has 256 random bits of which only the SHA-256
 * is stored, the check (CRC-32) tells a mistyped key from a wrong one without a query. `ApiKeyText.ts` has the grammar.
 */
import { timingSafeEqual } from "node:crypto"
import { Context, DateTime, Effect, Layer, Redacted } from "effect"
import { SecureRandom } from "effect/crypto"
import type { ApiKey, CreateApiKey, CreatedApiKey } from "../../protocol/ApiKey.ts"
import { type ApiKeyId, Namespace } from "../../protocol/Ids.ts"
import { noMoment, utcMoment } from "../../protocol/Moment.ts"
import type { Page } from "../../protocol/Page.ts"
import {
  type Permission,
  type Principal,
  platformPermissions,
  type Role,
  rolePermissions
} from "../../protocol/Permission.ts"
import {
  type Forbidden,
  type InvalidInput,
  invalidField,
  KeyNotFound,
  Unauthenticated,
  type Unavailable
} from "../../protocol/Problem.ts"
import type { PageQuery } from "../../protocol/Query.ts"
import { type ApiKeyRow, ApiKeyStore } from "../ledger/ApiKeyStore.ts"
import { idBytes, type KeyProof, keyOf, parseKey, secretBytes } from "./ApiKeyText.ts"
import { authorize, forbidden } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"
import * as VerifiedKeys from "./VerifiedKeys.ts"

export class ApiKeys extends Context.Service<
  ApiKeys,
  {
    /**
     * The principal behind a key. Verified keys are remembered for at most 5 s, so that a revoked key is refused within
     * that time on every node. Fails closed: when Postgres cannot be asked, nobody gets in.
     */
    readonly authenticate: (
      key: Redacted.Redacted
    ) => Effect.Effect<Principal["Service"], Unauthenticated | Unavailable>
    /** The key itself is in this answer and never again. A key cannot grant more than its maker has. */
    readonly create: (
      command: CreateApiKey
    ) => Effect.Effect<CreatedApiKey, InvalidInput | Forbidden | Unavailable, Principal>
    readonly list: (query: PageQuery) => Effect.Effect<Page<ApiKey>, InvalidInput | Forbidden | Unavailable, Principal>
    readonly revoke: (id: ApiKeyId) => Effect.Effect<void, KeyNotFound | Forbidden | Unavailable, Principal>
    /**
     * The first admin key of a database that has none that can be used (so also after the last one was revoked);
     * undefined when there is one. Two nodes that ask at once get one key between them.
     */
    readonly bootstrap: Effect.Effect<CreatedApiKey | undefined, Unavailable>
  }
>()("datamcp/app/ApiKeys") {
  static readonly layer = Layer.effect(
    ApiKeys,
    Effect.gen(function* () {
      const store = yield* ApiKeyStore
      const random = yield* SecureRandom.SecureRandom

      const verified = yield* VerifiedKeys.make(
        Effect.fn("ApiKeys.verify")(function* (proof: KeyProof) {
          const stored = yield* orUnavailable(store.usable(proof.id))
          if (stored === undefined || !timingSafeEqual(stored.secret_hash, Buffer.from(proof.secretHash, "hex"))) {
            return yield* refused()
          }
          const grant: Principal["Service"] = {
            actor: `key:${proof.id}`,
            namespace: stored.namespace,
            role: stored.role,
            permissions: new Set(granted(stored))
          }
          return { grant, remainingMillis: stored.remaining_millis ?? Number.POSITIVE_INFINITY }
        })
      )

      const authenticate: ApiKeys["Service"]["authenticate"] = (key) => {
        const proof = parseKey(Redacted.value(key))
        return proof === undefined ? Effect.fail(refused()) : verified.get(proof)
      }

      const freshKey = Effect.gen(function* () {
        return keyOf(yield* random.randomBytes(idBytes), yield* random.randomBytes(secretBytes))
      })

      const create: ApiKeys["Service"]["create"] = Effect.fn("ApiKeys.create")(function* (command) {
        const maker = yield* authorize("key:create")
        const namespace = command.namespace ?? maker.namespace
        if (namespace !== maker.namespace && !mayMakeNamespaces(maker)) return yield* forbidden("namespace:create")
        const grants = yield* grantable(maker, { ...command, namespace })
        const expiresAt = command.expires_at === undefined ? null : yield* momentAhead("expires_at", command.expires_at)
        const { key, proof } = yield* freshKey
        const row = yield* store.create({
          id: proof.id,
          namespace,
          name: command.name,
          secretHash: Buffer.from(proof.secretHash, "hex"),
          role: command.role,
          permissions: command.permissions === undefined ? null : grants,
          expiresAt
        })
        return { ...viewOf(row), key }
      }, orUnavailable)

      const list: ApiKeys["Service"]["list"] = Effect.fn("ApiKeys.list")(function* (query) {
        const { namespace } = yield* authorize("key:read")
        const page = yield* store.list(namespace, query)
        return { ...page, data: page.data.map(viewOf) }
      }, orUnavailable)

      const revoke: ApiKeys["Service"]["revoke"] = Effect.fn("ApiKeys.revoke")(function* (id) {
        const { namespace } = yield* authorize("key:revoke")
        const hash = yield* store.revoke(namespace, id)
        if (hash === undefined) {
          return yield* new KeyNotFound({ key_id: id, detail: `There is no API key ${id} in this namespace.` })
        }
        yield* verified.forget({ id, secretHash: Buffer.from(hash).toString("hex") })
      }, orUnavailable)

      const bootstrap: ApiKeys["Service"]["bootstrap"] = Effect.gen(function* () {
        const { key, proof } = yield* freshKey
        const row = yield* store.createFirstAdmin({
          id: proof.id,
          namespace: home,
          name: "first admin key",
          secretHash: Buffer.from(proof.secretHash, "hex"),
          role: "admin",
          permissions: null,
          expiresAt: null
        })
        return row === undefined ? undefined : { ...viewOf(row), key }
      }).pipe(orUnavailable, Effect.withSpan("ApiKeys.bootstrap"))

      return ApiKeys.of({ authenticate, create, list, revoke, bootstrap })
    })
  )
}

/** The namespace that exists from the start; its admins may make others. */
const home = Namespace.make("default")

/** The same answer whatever is wrong with a key. */
const refused = () => new Unauthenticated({ detail: "The API key is missing, malformed, unknown, expired or revoked." })

const mayMakeNamespaces = (principal: Principal["Service"]) =>
  principal.namespace === home && principal.role === "admin" && principal.permissions.has("namespace:create")

interface Grant {
  readonly namespace: Namespace
  readonly role: Role
  readonly permissions?: ReadonlyArray<Permission> | null | undefined
}

/** What a key grants: what it lists of what its role has. What concerns the whole platform is granted in `default` only. */
export const granted = ({ namespace, permissions, role }: Grant): ReadonlyArray<Permission> =>
  rolePermissions[role].filter(
    (permission) =>
      (permissions === null || permissions === undefined || permissions.includes(permission)) &&
      (!platformPermissions.has(permission) || namespace === home)
  )

/** The permissions of a new key, if its role has them and its maker too. */
const grantable = Effect.fnUntraced(function* (maker: Principal["Service"], command: Grant) {
  for (const [index, permission] of (command.permissions ?? []).entries()) {
    if (!rolePermissions[command.role].includes(permission)) {
      return yield* invalidField(`permissions.${index}`, `the role ${command.role} does not have ${permission}`)
    }
  }
  const grants = granted(command)
  const exceeding = grants.find((permission) => !maker.permissions.has(permission))
  return exceeding === undefined ? grants : yield* forbidden(exceeding)
})

const momentAhead = Effect.fnUntraced(function* (field: string, text: string) {
  const moment = utcMoment(text)
  if (moment === undefined) return yield* invalidField(field, noMoment)
  const now = DateTime.formatIso(yield* DateTime.now)
  return moment > now ? moment : yield* invalidField(field, "must be a date and time in the future")
})

const viewOf = (row: ApiKeyRow): ApiKey => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  role: row.role,
  permissions: granted(row),
  created_at: row.created_at,
  expires_at: row.expires_at,
  revoked_at: row.revoked_at
})
