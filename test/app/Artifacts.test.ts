/** Artifacts: what went in comes out, too much leaves nothing behind, and a slow or failing sender harms nobody. */

import { createHash } from "node:crypto"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, expect, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Schema, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { Artifact } from "../../protocol/Artifact.ts"
import { ArtifactId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Unavailable } from "../../protocol/Problem.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import * as ArtifactBucket from "../../src/bus/ArtifactBucket.ts"
import { Nats } from "../../src/bus/Nats.ts"
import * as ArtifactFolder from "../../src/ledger/ArtifactFolder.ts"
import { ArtifactPlaces } from "../../src/ledger/ArtifactPlaces.ts"
import { accessTo } from "../bus/BusFixture.ts"
import { ownFolder, TestServers } from "../support/Servers.ts"
import { admin, as } from "./as.ts"
import { layer as cases } from "./Cases.ts"

const bytes = (size: number, seed = 1) => {
  const content = Buffer.alloc(size)
  for (let at = 0; at < size; at += 1) content[at] = (at * 31 + seed * 7 + (at >> 10)) & 0xff
  return content
}

/** A content in chunks of varying sizes. */
const inChunks = (content: Uint8Array, size: number) =>
  Stream.fromIterable(
    Array.from({ length: Math.ceil(content.length / size) }, (_, at) => content.subarray(at * size, (at + 1) * size))
  )

const upload = (content: Stream.Stream<Uint8Array, Unavailable>, over: { name?: string; contentType?: string } = {}) =>
  Artifacts.use((artifacts) => artifacts.upload({ name: "data.csv", contentType: "text/csv", content, ...over }))

const rows = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql<{ artifacts: number; pieces: number }>`
    select (select count(*)::int from artifacts) as artifacts, (select count(*)::int from artifact_pieces) as pieces
  `
)

/** A folder for temporary files that no other test uses. */
const temporary = ownFolder("artifacts-")
const usual = process.env["TMPDIR"]
beforeAll(() => {
  process.env["TMPDIR"] = temporary
})
afterAll(() => {
  if (usual === undefined) delete process.env["TMPDIR"]
  else process.env["TMPDIR"] = usual
})

const folder = join(ownFolder("artifacts-folder-"), "made")
const inFolder = cases.pipe(Layer.provide(Layer.succeed(ArtifactPlaces, [ArtifactFolder.use(folder)])))

const nats = Layer.unwrap(Effect.map(TestServers, ({ natsUrl }) => Nats.layer(accessTo(natsUrl)))).pipe(
  Layer.provide(TestServers.layer)
)
const inBucket = cases.pipe(
  Layer.provide(
    Layer.effect(
      ArtifactPlaces,
      Effect.map(Nats, (connected) => [
        ArtifactBucket.use(connected, { bucket: "artifacts-test", replicas: undefined })
      ])
    )
  ),
  Layer.provide(nats)
)

const mebibyte = 1024 * 1024
const places = [
  { name: "in Postgres", place: cases, stored: "postgres", unfinished: () => readdirSync(temporary), piece: mebibyte },
  {
    name: "in a folder",
    place: inFolder,
    stored: "folder",
    unfinished: () => readdirSync(join(folder, "incoming")),
    piece: mebibyte
  },
  // What is begun there is looked at in its own test.
  { name: "in a bucket", place: inBucket, stored: "nats", unfinished: undefined, piece: ArtifactBucket.chunkBytesMax }
] as const

for (const { name, piece, place, stored: storedIn, unfinished } of places)
  layer(place, { excludeTestServices: true, timeout: "60 seconds" })(`an artifact ${name}`, (it) => {
    it.effect.each([0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024 + 5])(
      "of %d bytes comes back as it went in",
      (size) =>
        Effect.gen(function* () {
          const artifacts = yield* Artifacts
          const content = bytes(size)
          const stored = yield* upload(inChunks(content, 70_001), { name: 'übersicht "1".csv' })
          expect(Schema.decodeUnknownSync(Artifact)(stored, { onExcessProperty: "error" })).toEqual(stored)
          expect(stored).toMatchObject({
            name: 'übersicht "1".csv',
            content_type: "text/csv",
            size_bytes: size,
            sha256: createHash("sha256").update(content).digest("hex")
          })
          expect(yield* artifacts.info(stored.id)).toEqual(stored)
          const read = yield* artifacts.download(stored.id)
          const pieces = yield* Stream.runCollect(read.content)
          expect(Buffer.concat(pieces).equals(content)).toBe(true)
          expect(pieces.every(({ length }) => length <= piece)).toBe(true)
          expect(pieces).toHaveLength(Math.ceil(size / piece))
          const sql = yield* SqlClient.SqlClient
          const [row] = yield* sql`
          select place, (select count(*)::int from artifact_pieces where artifact_id = a.id) as pieces
          from artifacts a where id = ${stored.id}
        `
          expect(row).toEqual({ place: storedIn, pieces: storedIn === "postgres" ? pieces.length : 0 })
        }).pipe(as(admin))
    )

    it.effect("that is too large is refused while it comes, and nothing of it stays", () =>
      Effect.gen(function* () {
        const before = yield* rows
        let sent = 0
        const endless = Stream.forever(Stream.make(bytes(1024 * 1024))).pipe(
          Stream.tap(() => Effect.sync(() => sent++))
        )
        const refused = yield* Effect.flip(upload(endless))
        expect(refused).toMatchObject({ _tag: "TooLarge", limit: Limits.artifactBytesMax, unit: "bytes" })
        expect(sent).toBeLessThan(70)
        expect(yield* rows).toEqual(before)
        if (unfinished !== undefined) expect(unfinished()).toEqual([])
      }).pipe(as(admin))
    )

    it.effect("whose sender fails or goes away leaves nothing behind", () =>
      Effect.gen(function* () {
        const before = yield* rows
        const broken = Stream.concat(Stream.make(bytes(10)), Stream.fail(new Unavailable({ retry_after_seconds: 1 })))
        expect(yield* Effect.flip(upload(broken))).toMatchObject({ _tag: "Unavailable" })
        const started = yield* Deferred.make<void>()
        const slow = Stream.concat(
          Stream.make(bytes(10)),
          Stream.fromEffect(Effect.andThen(Deferred.succeed(started, undefined), Effect.never))
        )
        const sending = yield* Effect.forkChild(upload(slow))
        yield* Deferred.await(started)
        if (unfinished !== undefined) expect(unfinished()).toHaveLength(1)
        yield* Fiber.interrupt(sending)
        expect(yield* rows).toEqual(before)
        if (unfinished !== undefined) expect(unfinished()).toEqual([])
      }).pipe(as(admin))
    )

    it.effect("holds no connection to Postgres while its sender is slow", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const started = yield* Deferred.make<void>()
        const go = yield* Deferred.make<void>()
        const slow = Stream.concat(
          Stream.make(bytes(10)),
          Stream.fromEffect(
            Deferred.succeed(started, undefined).pipe(Effect.andThen(Deferred.await(go)), Effect.as(bytes(5)))
          )
        )
        const sending = yield* Effect.forkChild(upload(slow))
        yield* Deferred.await(started)
        const open = yield* sql`
        select 1 from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid()
      `
        expect(open).toEqual([])
        yield* Deferred.succeed(go, undefined)
        expect((yield* Fiber.join(sending)).size_bytes).toBe(15)
      }).pipe(as(admin))
    )

    it.effect.each([
      [{ name: "" }, "name"],
      [{ name: "a\r\nSet-Cookie: x" }, "name"],
      [{ name: "a\u0000" }, "name"],
      [{ name: "x".repeat(201) }, "name"],
      [{ contentType: "" }, "content_type"],
      [{ contentType: "text" }, "content_type"],
      [{ contentType: "text/html\r\nX: y" }, "content_type"],
      [{ contentType: `text/${"x".repeat(300)}` }, "content_type"]
    ] as const)("with %j is refused by the name of the field", ([over, field]) =>
      Effect.gen(function* () {
        expect(yield* Effect.flip(upload(Stream.empty, over))).toMatchObject({
          _tag: "InvalidInput",
          errors: [{ field }]
        })
      }).pipe(as(admin))
    )

    it.effect("may have any usual content type", () =>
      Effect.gen(function* () {
        for (const contentType of ["text/csv", 'text/csv; charset="utf-8"', "application/vnd.api+json;a=b; c=d"]) {
          expect((yield* upload(Stream.empty, { contentType })).content_type).toBe(contentType)
        }
      }).pipe(as(admin))
    )

    it.effect("that does not exist is not found", () =>
      Effect.gen(function* () {
        const artifacts = yield* Artifacts
        const id = ArtifactId.make("0190a1b2-0000-7000-8000-00000000dead")
        expect(yield* Effect.flip(artifacts.download(id))).toMatchObject({ _tag: "ArtifactNotFound", artifact_id: id })
      }).pipe(as(admin))
    )
  })
