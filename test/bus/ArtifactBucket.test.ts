/** Artifacts in a bucket: whole or not at all, in NATS's own format, nobody else's touched, strays removed, a lost store told. */
import { createHash } from "node:crypto"
import { rmSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { jetstreamManager } from "@nats-io/jetstream"
import { Objm } from "@nats-io/obj"
import { Clock, Effect, Exit, Layer, Scope, Stream } from "effect"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { ArtifactId } from "../../protocol/Ids.ts"
import * as ArtifactBucket from "../../src/bus/ArtifactBucket.ts"
import { Nats } from "../../src/bus/Nats.ts"
import type { ArtifactPlace } from "../../src/ledger/ArtifactPlaces.ts"
import { ownNats, TestServers } from "../support/Servers.ts"
import { accessTo, eventually, stranger } from "./BusFixture.ts"

const bucket = "artifacts"
const content = Buffer.from(Array.from({ length: 3 * ArtifactBucket.chunkBytesMax + 77 }, (_, at) => (at * 31) & 0xff))
const factsOf = (bytes: Uint8Array) => ({
  sha256: createHash("sha256").update(bytes).digest(),
  sizeBytes: bytes.length
})

const newId = Effect.map(UuidV7, (ids) => ArtifactId.make(ids.next()))

const open = (platform = "one", name = bucket) =>
  Effect.flatMap(Nats, (nats) => ArtifactBucket.use(nats, { bucket: name, replicas: undefined })(platform))

/** Stores bytes as they come in pieces of 100,000. */
const put = Effect.fnUntraced(function* (place: ArtifactPlace, bytes: Uint8Array) {
  const id = yield* newId
  const received = yield* place.receive(id)
  for (let at = 0; at < bytes.length; at += 100_000) yield* received.write(bytes.subarray(at, at + 100_000))
  yield* received.place(factsOf(bytes))
  return id
}, Effect.scoped)

const contentOf = (place: ArtifactPlace, id: ArtifactId, size: number) =>
  Effect.map(Stream.runCollect(place.read(id, size)), (pieces) => Buffer.concat(pieces))

/** How many messages the bucket holds. */
const messages = (name = bucket) =>
  Effect.flatMap(Nats, ({ manager }) =>
    Effect.promise(async () => (await manager.streams.info(`OBJ_${name}`)).state.messages)
  )

const onServer = <A, E>(
  test: (server: {
    readonly natsUrl: string
    readonly storeFolder: string
    readonly kill9: Effect.Effect<void>
    readonly start: Effect.Effect<void>
  }) => Effect.Effect<A, E, Nats | UuidV7 | Scope.Scope>
) =>
  Effect.gen(function* () {
    const server = yield* ownNats()
    yield* test(server).pipe(
      Effect.provide(Layer.mergeAll(Nats.layer(accessTo(server.natsUrl)), UuidV7.layer)),
      Effect.scoped
    )
  }).pipe(Effect.scoped, Effect.provide(TestServers.layer))

describe("a bucket of artifacts", () => {
  it.live("gives back what it took, and NATS's own client reads it", () =>
    onServer(
      Effect.fnUntraced(function* ({ natsUrl }) {
        const place = yield* open()
        for (const bytes of [content, content.subarray(0, ArtifactBucket.chunkBytesMax), content.subarray(0, 1)]) {
          const id = yield* put(place, bytes)
          expect((yield* contentOf(place, id, bytes.length)).equals(bytes)).toBe(true)
          const connection = yield* stranger(natsUrl)
          const theirs = yield* Effect.promise(async () => {
            const store = await new Objm(connection).open(bucket)
            return { info: await store.info(id), bytes: await store.getBlob(id) }
          })
          expect(theirs.info).toMatchObject({ name: id, size: bytes.length, deleted: false })
          expect(Buffer.from(theirs.bytes ?? []).equals(bytes)).toBe(true)
          yield* place.remove(id)
          yield* place.remove(id)
          expect((yield* Effect.flip(contentOf(place, id, bytes.length))).message).toContain("not in the bucket")
        }
        const empty = yield* put(place, Buffer.alloc(0))
        expect(yield* contentOf(place, empty, 0)).toHaveLength(0)
        // Opened again by the same platform, as after a restart.
        yield* open()
      })
    )
  )

  it.live("of another platform, or of somebody else, is refused by the name of the variable and left as it is", () =>
    onServer(
      Effect.fnUntraced(function* ({ natsUrl }) {
        const place = yield* open()
        const id = yield* put(place, content)
        expect((yield* Effect.flip(open("two"))).message).toMatch(/^ARTIFACTS_BUCKET: artifacts .* platform/u)
        const connection = yield* stranger(natsUrl)
        yield* Effect.promise(() => new Objm(connection).create("theirs"))
        expect((yield* Effect.flip(open("one", "theirs"))).message).toMatch(/^ARTIFACTS_BUCKET: theirs /u)
        expect((yield* contentOf(place, id, content.length)).equals(content)).toBe(true)
      })
    )
  )

  it.live("keeps nothing of what was not placed", () =>
    onServer(
      Effect.fnUntraced(function* () {
        const place = yield* open()
        const scope = yield* Scope.make()
        const received = yield* Scope.provide(place.receive(yield* newId), scope)
        yield* received.write(content)
        expect(yield* messages()).toBe(3)
        yield* Scope.close(scope, Exit.interrupt())
        expect(yield* messages()).toBe(0)
      })
    )
  )

  it.live("loses what nobody knows once it is old, also of a writer that died, and nothing else", () =>
    onServer(
      Effect.fnUntraced(function* ({ natsUrl }) {
        const place = yield* open()
        const [stray, known] = [yield* put(place, content), yield* put(place, content)]
        const dead = yield* newId
        const never = yield* Scope.make()
        yield* Effect.flatMap(Scope.provide(place.receive(dead), never), ({ write }) => write(content))
        const connection = yield* stranger(natsUrl)
        const manager = yield* Effect.promise(() => jetstreamManager(connection))
        yield* Effect.promise(() => manager.jetstream().publish(`$O.${bucket}.C.own`, "somebody's own"))
        const sweepAll = Effect.fnUntraced(function* (nowMillis: number) {
          let gone = 0
          for (let part = 0; part < 256; part++) {
            gone += yield* place.sweep(3_600_000, nowMillis, () => Effect.succeed(new Set([known])))
          }
          return gone
        })
        const now = yield* Clock.currentTimeMillis
        expect(yield* sweepAll(now)).toBe(0)
        expect(yield* sweepAll(now + 3_700_000)).toBe(2)
        expect(yield* Effect.flip(contentOf(place, stray, content.length))).toMatchObject({ reason: "unavailable" })
        expect((yield* contentOf(place, known, content.length)).equals(content)).toBe(true)
        // The known one's four chunks and its own message, and the stranger's.
        expect(yield* messages()).toBe(6)
      })
    )
  )

  it.live("that was lost with its server's store says so, and takes new ones", () =>
    onServer(
      Effect.fnUntraced(function* (server) {
        const nats = yield* Nats
        const place = yield* open()
        const before = yield* put(place, content)
        yield* server.kill9
        yield* eventually("the loss", nats.connected, (connected) => !connected)
        expect(yield* Effect.flip(put(place, content))).toMatchObject({ reason: "unavailable" })
        expect(yield* Effect.flip(contentOf(place, before, content.length))).toMatchObject({ reason: "unavailable" })
        rmSync(server.storeFolder, { recursive: true, force: true })
        yield* server.start
        yield* eventually("the connection", nats.connected, (connected) => connected)
        expect((yield* Effect.flip(contentOf(place, before, content.length))).message).toContain("not in the bucket")
        // Nothing is left to remove, or to find.
        yield* place.remove(before)
        expect(yield* place.sweep(0, yield* Clock.currentTimeMillis, () => Effect.succeed(new Set<string>()))).toBe(0)
        const after = yield* put(place, content)
        expect((yield* contentOf(place, after, content.length)).equals(content)).toBe(true)
      })
    )
  )

  it.live("that is full refuses what comes and keeps what it has", () =>
    onServer(
      Effect.fnUntraced(function* () {
        const { manager } = yield* Nats
        const place = yield* open()
        const id = yield* put(place, content)
        yield* Effect.promise(() => manager.streams.update(`OBJ_${bucket}`, { max_bytes: 2_000_000 }))
        expect((yield* Effect.flip(put(place, content))).message).toContain("maximum bytes")
        expect((yield* contentOf(place, id, content.length)).equals(content)).toBe(true)
        expect(yield* messages()).toBe(5)
      })
    )
  )
})
