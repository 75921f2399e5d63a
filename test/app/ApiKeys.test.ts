/** API keys: who has one gets in, nobody else, and no key is more than its maker. */
import { crc32 } from "node:zlib"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { describe, expect, layer, it as pure } from "@effect/vitest"
import { DateTime, Duration, Effect, Fiber, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { ApiKey, CreateApiKey } from "../../protocol/ApiKey.ts"
import { permissions as allPermissions, rolePermissions } from "../../protocol/Permission.ts"
import { Unauthenticated, Unavailable } from "../../protocol/Problem.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { keyOf, parseKey } from "../../src/app/ApiKeyText.ts"
import * as VerifiedKeys from "../../src/app/VerifiedKeys.ts"
import { ApiKeyStore } from "../../src/ledger/ApiKeyStore.ts"
import * as Database from "../ledger/Database.ts"
import { admin, as, principal, stranger } from "./as.ts"

const Live = ApiKeys.layer.pipe(
  Layer.provide(ApiKeyStore.layer),
  Layer.provideMerge(Database.layer),
  Layer.provide(NodeCrypto.layer)
)
const command = Schema.decodeUnknownSync(CreateApiKey)

const enter = (key: string) => Effect.flatMap(ApiKeys, (keys) => keys.authenticate(Redacted.make(key)))

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("an API key", (it) => {
  it.effect("lets its bearer in, as its role in its namespace", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const made = yield* keys.create(command({ name: "ci", role: "viewer" })).pipe(as(admin))
      expect(Schema.decodeUnknownSync(ApiKey)(made)).toMatchObject({ name: "ci", role: "viewer", revoked_at: null })
      const bearer = yield* enter(made.key)
      expect(bearer).toMatchObject({ actor: `key:${made.id}`, namespace: "default", role: "viewer" })
      expect([...bearer.permissions]).toEqual(rolePermissions.viewer)
    })
  )

  it.effect("is not in the database", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const keys = yield* ApiKeys
      const { key } = yield* keys.create(command({ name: "kept", role: "viewer" })).pipe(as(admin))
      const [row] = yield* sql<{ all: string }>`
        select string_agg(k::text, '') || (select string_agg(e::text, '') from events e) as all from api_keys k
      `
      expect(row?.all ?? "").not.toContain(key.slice(21, 64))
    })
  )

  it.effect("that was changed in any way is refused, whatever its form", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const one = yield* keys.create(command({ name: "one", role: "admin" })).pipe(as(admin))
      const two = yield* keys.create(command({ name: "two", role: "admin" })).pipe(as(admin))
      const { key } = one
      const forged = keyOf(new Uint8Array(10), new Uint8Array(32)).key
      const swapped = withCheck(`dma_${two.id}_${key.slice(21, 64)}`)
      const tampered = [
        key.slice(0, -1),
        key.slice(1),
        key.toUpperCase(),
        key.toLowerCase(),
        ` ${key}`,
        `${key}\n`,
        `${key}A`,
        key.replace("dma_", "dmb_"),
        `${key.slice(0, 4)}${two.id}${key.slice(20)}`,
        swapped,
        forged,
        "",
        "dma_",
        "Bearer",
        "' or 1=1 --",
        "\u0000",
        ...Array.from({ length: key.length }, (_, at) => flip(key, at)),
        ...Array.from({ length: 43 }, (_, at) => withCheck(flip(key, 21 + at).slice(0, 64)))
      ].filter((text) => text !== key)
      for (const text of tampered) {
        const refused = yield* Effect.flip(enter(text))
        expect({ text, tag: refused._tag }).toEqual({ text, tag: "Unauthenticated" })
      }
      expect((yield* enter(key)).actor).toBe(`key:${one.id}`)
    })
  )

  it.effect("that was revoked is refused at once on its own node, and again is no error", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const { id, key } = yield* keys.create(command({ name: "gone", role: "viewer" })).pipe(as(admin))
      yield* enter(key)
      yield* keys.revoke(id).pipe(as(admin))
      yield* keys.revoke(id).pipe(as(admin))
      expect((yield* Effect.flip(enter(key)))._tag).toBe("Unauthenticated")
    })
  )

  it.effect("that was revoked on another node is refused within 5 s", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const sql = yield* SqlClient.SqlClient
      const { id, key } = yield* keys.create(command({ name: "elsewhere", role: "viewer" })).pipe(as(admin))
      yield* enter(key)
      yield* sql`update api_keys set revoked_at = now() where id = ${id}`
      yield* enter(key).pipe(
        Effect.andThen(Effect.sleep("50 millis")),
        Effect.forever,
        Effect.timeout("5 seconds"),
        Effect.flip,
        Effect.tap((end) => Effect.sync(() => expect(end._tag).toBe("Unauthenticated")))
      )
    })
  )

  it.effect("ends at its time", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const sql = yield* SqlClient.SqlClient
      const soon = DateTime.formatIso(DateTime.add(yield* DateTime.now, { minutes: 1 }))
      const { id, key } = yield* keys
        .create(command({ name: "short", role: "viewer", expires_at: soon }))
        .pipe(as(admin))
      yield* sql`update api_keys set expires_at = clock_timestamp() + interval '300 milliseconds' where id = ${id}`
      yield* enter(key)
      const refused = yield* enter(key).pipe(
        Effect.repeat({ until: () => false }),
        Effect.timeout("2 seconds"),
        Effect.flip
      )
      expect(refused._tag).toBe("Unauthenticated")
      const past = yield* keys
        .create(command({ name: "past", role: "viewer", expires_at: "2020-01-01T00:00:00Z" }))
        .pipe(as(admin), Effect.flip)
      expect(past).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "expires_at" }] })
    })
  )
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("a new key", (it) => {
  it.effect("grants nothing that its maker lacks", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const maker = principal("admin", { permissions: ["key:create", "task:read"] })
      const wide = yield* keys.create(command({ name: "w", role: "admin" })).pipe(as(maker), Effect.flip)
      expect(wide).toMatchObject({ _tag: "Forbidden" })
      const narrow = yield* keys
        .create(command({ name: "n", role: "viewer", permissions: ["task:read"] }))
        .pipe(as(maker))
      expect([...(yield* enter(narrow.key)).permissions]).toEqual(["task:read"])
      const more = yield* keys
        .create(command({ name: "m", role: "viewer", permissions: ["task:read", "agent:read"] }))
        .pipe(as(maker), Effect.flip)
      expect(more).toMatchObject({ _tag: "Forbidden", permission: "agent:read" })
    })
  )

  it.effect("has no permission that its role lacks", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const refused = yield* keys
        .create(command({ name: "x", role: "viewer", permissions: ["task:read", "task:create"] }))
        .pipe(as(admin), Effect.flip)
      expect(refused).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "permissions.1" }] })
    })
  )

  it.effect("is made for another namespace by an admin of default only, and then stays within it", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const acme = yield* keys.create(command({ name: "a", role: "admin", namespace: "acme" })).pipe(as(admin))
      const acmeAdmin = yield* enter(acme.key)
      expect(acmeAdmin.namespace).toBe("acme")
      expect(acmeAdmin.permissions.has("namespace:create")).toBe(false)
      const own = yield* keys.create(command({ name: "b", role: "admin" })).pipe(as(acmeAdmin))
      expect(own.namespace).toBe("acme")
      for (const maker of [acmeAdmin, principal("admin", { permissions: ["key:create", "task:read"] })]) {
        const out = yield* keys
          .create(command({ name: "c", role: "viewer", permissions: ["task:read"], namespace: "other" }))
          .pipe(as(maker), Effect.flip)
        expect(out).toMatchObject({ _tag: "Forbidden", permission: "namespace:create" })
      }
    })
  )

  it.effect("of one namespace is neither seen nor revoked from another", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into namespaces (name) values ('stranger') on conflict do nothing`
      const { id, key } = yield* keys.create(command({ name: "mine", role: "viewer" })).pipe(as(admin))
      expect((yield* keys.list({}).pipe(as(stranger))).data).toEqual([])
      expect(yield* keys.revoke(id).pipe(as(stranger), Effect.flip)).toMatchObject({ _tag: "KeyNotFound" })
      expect((yield* enter(key)).actor).toBe(`key:${id}`)
    })
  )

  it.effect("is listed without its secret, newest first, page by page", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      yield* keys.create(command({ name: "l", role: "admin", namespace: "listed" })).pipe(as(admin))
      const listed = principal("admin", { namespace: "listed" })
      const made = yield* Effect.forEach(["1", "2", "3", "4"], (name) =>
        keys.create(command({ name, role: "viewer" })).pipe(as(listed))
      )
      const first = yield* keys.list({ limit: 3 }).pipe(as(listed))
      const rest = yield* keys.list({ limit: 3, cursor: first.next_cursor ?? "" }).pipe(as(listed))
      expect([...first.data, ...rest.data].map(({ name }) => name)).toEqual(["4", "3", "2", "1", "l"])
      expect(rest.next_cursor).toBeNull()
      expect(JSON.stringify(first)).not.toContain(made[3]?.key.slice(21, 64))
      expect(yield* keys.list({ cursor: "zzzz" }).pipe(as(listed), Effect.flip)).toMatchObject({ _tag: "InvalidInput" })
    })
  )
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("the first admin key", (it) => {
  it.effect("is made once, however many nodes start at the same time, and again when none is left", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const sql = yield* SqlClient.SqlClient
      const all = yield* Effect.all(
        Array.from({ length: 12 }, () => keys.bootstrap),
        { concurrency: "unbounded" }
      )
      const [made, ...others] = all.filter((key) => key !== undefined)
      expect(others).toEqual([])
      const bearer = yield* enter(made?.key ?? "")
      expect([...bearer.permissions]).toEqual([...allPermissions])
      expect(yield* keys.bootstrap).toBeUndefined()
      yield* sql`update api_keys set revoked_at = now()`
      expect(yield* keys.bootstrap).toBeDefined()
    })
  )
})

describe("the text of a key", () => {
  pure.prop(
    "is read back for any random bytes, and no single character may change",
    { bytes: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))), at: Schema.Int },
    ({ at, bytes }) => {
      const random = (size: number, salt: number) =>
        Uint8Array.from({ length: size }, (_, index) => (bytes[index] ?? index) ^ (salt * (index + 1)))
      const { key, proof } = keyOf(random(10, 7), random(32, 11))
      expect(key).toHaveLength(70)
      expect(parseKey(key)).toEqual(proof)
      expect(parseKey(flip(key, Math.abs(at) % 70))).toBeUndefined()
    }
  )

  pure("is what the documents say", () => {
    expect(keyOf(new Uint8Array(10), new Uint8Array(32))).toEqual({
      key: `dma_aaaaaaaaaaaaaaaa_${"A".repeat(43)}2ycgs0`,
      proof: {
        id: "aaaaaaaaaaaaaaaa",
        secretHash: "0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a"
      }
    })
  })
})

describe("remembered keys", () => {
  const { proof } = keyOf(new Uint8Array(10), new Uint8Array(32))

  pure.effect("ask once for all who come at the same time, and again after 4 s", () =>
    Effect.gen(function* () {
      let asked = 0
      const keys = yield* VerifiedKeys.make(() =>
        Effect.sleep("1 second").pipe(
          Effect.andThen(Effect.sync(() => ({ grant: ++asked, remainingMillis: Infinity })))
        )
      )
      const callers = yield* Effect.all(
        Array.from({ length: 5 }, () => keys.get(proof)),
        { concurrency: "unbounded" }
      ).pipe(Effect.forkChild)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(callers)).toEqual([1, 1, 1, 1, 1])
      yield* TestClock.adjust("2900 millis")
      expect(yield* keys.get(proof)).toBe(1)
      yield* TestClock.adjust("100 millis")
      const late = yield* Effect.forkChild(keys.get(proof))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(late)).toBe(2)
    }).pipe(Effect.scoped)
  )

  pure.effect("outlive the caller who asked first", () =>
    Effect.gen(function* () {
      const keys = yield* VerifiedKeys.make(() =>
        Effect.delay(Effect.succeed({ grant: 1, remainingMillis: 9_000 }), "1 second")
      )
      const first = yield* Effect.forkChild(keys.get(proof), { startImmediately: true })
      const second = yield* Effect.forkChild(keys.get(proof), { startImmediately: true })
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(second)).toBe(1)
    }).pipe(Effect.scoped)
  )

  pure.effect("remember a refusal for a second and an outage not at all", () =>
    Effect.gen(function* () {
      const answers = [
        new Unavailable({ retry_after_seconds: 1 }),
        new Unauthenticated({}),
        new Unavailable({ retry_after_seconds: 1 })
      ]
      const keys = yield* VerifiedKeys.make(() =>
        Effect.suspend(() => Effect.fail(answers.shift() ?? new Unauthenticated({})))
      )
      const tag = Effect.map(Effect.flip(keys.get(proof)), ({ _tag }) => _tag)
      expect(yield* tag).toBe("Unavailable")
      expect(yield* tag).toBe("Unauthenticated")
      expect(yield* tag).toBe("Unauthenticated")
      yield* TestClock.adjust(Duration.seconds(1))
      expect(yield* tag).toBe("Unavailable")
    }).pipe(Effect.scoped)
  )

  pure.effect("give way to newer ones", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const keys = yield* VerifiedKeys.make((of) =>
        Effect.sync(() => {
          asked.push(of.secretHash)
          return { grant: 1, remainingMillis: Infinity }
        })
      )
      const ask = (secretHash: string) => keys.get({ ...proof, secretHash })
      yield* Effect.forEach(["a", "b", "a", "c", "a", "b"], ask)
      expect(asked).toEqual(["a", "b", "c", "b"])
    }).pipe(
      Effect.provideService(VerifiedKeys.VerifiedKeysLimits, {
        rememberMillis: 4_000,
        refuseMillis: 1_000,
        entriesMax: 2
      }),
      Effect.scoped
    )
  )
})

const flip = (text: string, at: number) => {
  const other = text[at] === "a" ? "b" : "a"
  return text.slice(0, at) + other + text.slice(at + 1)
}

/** A text with the check that belongs to it, as a forger would compute it. */
const withCheck = (head: string) => {
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  let rest = crc32(head)
  let check = ""
  for (let digit = 0; digit < 6; digit++) {
    check = digits.charAt(rest % 62) + check
    rest = Math.floor(rest / 62)
  }
  return head + check
}
