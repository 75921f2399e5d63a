/**
 * Artifacts: a row of facts in Postgres, and the content in pieces there, written in one transaction, or outside
 * (`ArtifactPlaces`), placed before its row is written. Content is read from where its row says that it is; what comes from outside
 * is held against the row's SHA-256.
 *
 * Content of any speed is gathered in a temporary file first, counted and hashed as it comes, so that a slow sender
 * holds a file and never a transaction. Memory holds a piece at a time, of either direction. A reader of any speed
 * asks for piece after piece; artifacts never change, so what it gets is one content.
 */
import { createHash } from "node:crypto"
import { Clock, Effect, FileSystem, Layer, Option, Semaphore, Stream } from "effect"
import type { PlatformError } from "effect/PlatformError"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import { ArtifactError, type ArtifactInfo, ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { ArtifactId, type Namespace, type TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type ArtifactPlace, ArtifactPlaceProblem, ArtifactPlaces, type Gathered } from "./ArtifactPlaces.ts"
import { messageOf } from "./Postgres.ts"
import { orUnavailable } from "./StoreUnavailable.ts"

/** Size of a stored piece, in bytes. */
export const pieceBytes = 1024 * 1024

/** Artifacts of one node that are being written to Postgres at a time; others wait. */
const writersMax = 4

/** How long an artifact may be without its task: accepting one follows the storing of its payload. In seconds. */
const ownerlessSeconds = 3_600

/** What this database calls itself. */
const platformId = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ readonly id: string }>`select id from platform`, ([row]) => row?.id ?? "")
).pipe(Effect.mapError((error) => new ArtifactPlaceProblem({ message: messageOf(error) })))

export const layer = Layer.effect(
  ArtifactStore,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const files = yield* FileSystem.FileSystem
    const ids = yield* UuidV7
    const writers = yield* Semaphore.make(writersMax)
    const columns = sql.literal(artifactColumns)
    const openers = yield* ArtifactPlaces
    const platform = openers.length === 0 ? "" : yield* platformId
    const places = yield* Effect.forEach(openers, (open) => open(platform))
    const [outside] = places
    const placeNamed = (name: Place) => places.find((place) => place.name === name)

    const put = Effect.fn("ArtifactStore.put")(function* (input: {
      readonly namespace: Namespace
      readonly owner?: TaskId
      readonly name: string
      readonly contentType: string
      readonly content: Stream.Stream<Uint8Array, ArtifactError>
    }) {
      const id = ArtifactId.make(ids.next())
      const insert = (place: Place, { sha256, sizeBytes }: Gathered) => sql<ArtifactRow>`
        insert into artifacts as a (id, namespace, name, content_type, size_bytes, sha256, task_id, place)
        values (${id}, ${input.namespace}, ${input.name}, ${input.contentType}, ${sizeBytes}, ${sha256},
          ${input.owner ?? null}::uuid, ${place})
        returning ${columns}
      `
      if (outside !== undefined) {
        const received = yield* outside.receive(id)
        const gathered = yield* counted(input.content, (content) => Stream.runForEach(content, received.write))
        yield* received.place(gathered)
        // What has no row, or none that is known of, is left to the sweep.
        const [row] = yield* Effect.mapError(insert(outside.name, gathered), writeFailed)
        return yield* stored(row)
      }
      const file = yield* files.makeTempFileScoped({ prefix: "datamcp-artifact-" }).pipe(Effect.mapError(fileFailed))
      const gathered = yield* counted(input.content, (content) =>
        Effect.mapError(Stream.run(content, files.sink(file)), (error) =>
          error._tag === "PlatformError" ? fileFailed(error) : error
        )
      )
      const { sizeBytes } = gathered
      const write = Effect.gen(function* () {
        const [row] = yield* insert("postgres", gathered)
        yield* files.stream(file, { chunkSize: pieceBytes, bytesToRead: sizeBytes }).pipe(
          Stream.zipWithIndex,
          Stream.runForEach(
            ([piece, number]) =>
              sql`insert into artifact_pieces (artifact_id, number, content) values (${id}, ${number}, ${piece})`
          )
        )
        return row
      })
      const row = yield* write.pipe(sql.withTransaction, writers.withPermits(1), Effect.mapError(writeFailed))
      return yield* stored(row)
    }, Effect.scoped)

    const stored = (row: ArtifactRow | undefined) =>
      row === undefined ? Effect.die(new Error("an inserted artifact did not come back")) : Effect.succeed(infoOf(row))

    /** Counts and hashes content on its way: refused as soon as it passes the limit. */
    const counted = Effect.fnUntraced(function* <E>(
      content: Stream.Stream<Uint8Array, ArtifactError>,
      write: (content: Stream.Stream<Uint8Array, ArtifactError>) => Effect.Effect<void, E>
    ) {
      const digest = createHash("sha256")
      let sizeBytes = 0
      yield* write(
        Stream.mapEffect(content, (bytes) => {
          sizeBytes += bytes.length
          if (sizeBytes > Limits.artifactBytesMax) return Effect.fail(tooLarge)
          digest.update(bytes)
          return Effect.succeed(bytes)
        })
      )
      const gathered: Gathered = { sha256: digest.digest(), sizeBytes }
      return gathered
    })

    const find = Effect.fnUntraced(function* (namespace: Namespace, id: ArtifactId) {
      const [row] = yield* sql<ArtifactRow>`
        select ${columns} from artifacts a where a.id = ${id} and a.namespace = ${namespace}
      `.pipe(orAway("ArtifactStore.info"))
      return row ?? (yield* notFound(id))
    })

    const info = Effect.fn("ArtifactStore.info")((namespace: Namespace, id: ArtifactId) =>
      Effect.map(find(namespace, id), infoOf)
    )

    const read = (namespace: Namespace, id: ArtifactId): Stream.Stream<Uint8Array, ArtifactError> =>
      Stream.unwrap(
        Effect.map(find(namespace, id), (row) =>
          row.place === "postgres" ? readPieces(id, row.size_bytes) : readOutside(row)
        )
      )

    const readOutside = ({ id, place, sha256, size_bytes: sizeBytes }: ArtifactRow) => {
      const from = placeNamed(place)
      return from === undefined ? Stream.fail(notReached(id, place)) : unchanged(from.read(id, sizeBytes), id, sha256)
    }

    const readPieces = (id: ArtifactId, sizeBytes: number): Stream.Stream<Uint8Array, ArtifactError> =>
      Stream.paginate({ number: 0, left: sizeBytes }, ({ left, number }) =>
        left <= 0
          ? Effect.succeed([[], Option.none<{ number: number; left: number }>()] as const)
          : Effect.map(
              piece(id, number),
              (content) => [[content], Option.some({ number: number + 1, left: left - content.length })] as const
            )
      )

    const piece = Effect.fnUntraced(function* (id: ArtifactId, number: number) {
      const [row] = yield* sql<{ readonly content: Uint8Array }>`
        select content from artifact_pieces where artifact_id = ${id} and number = ${number}
      `.pipe(orAway("ArtifactStore.read"))
      return row === undefined ? yield* notFound(id) : row.content
    })

    const release = Effect.fn("ArtifactStore.release")((namespace: Namespace, id: ArtifactId) =>
      sql`update artifacts set task_id = null where id = ${id} and namespace = ${namespace} and task_id is not null`.pipe(
        Effect.asVoid,
        orAway("ArtifactStore.release")
      )
    )

    // Where the last look ended: artifacts of tasks that live are many and stay, so each look goes on from there.
    let seen: ArtifactId | undefined
    const orphansFrom = (after: ArtifactId | undefined, limit: number) =>
      sql<{ readonly id: ArtifactId; readonly orphaned: boolean }>`
        select a.id, a.created_at < now() - ${ownerlessSeconds} * interval '1 second'
          and not exists (select from tasks t where t.id = a.task_id offset 0) as orphaned
        from artifacts a
        where a.task_id is not null and (${after ?? null}::uuid is null or a.id > ${after ?? null}::uuid)
        order by a.id limit ${limit}
      `.pipe(orAway("ArtifactStore.tidy"))

    const tidy = Effect.fn("ArtifactStore.tidy")(function* (limit: number) {
      const found = yield* orphansFrom(seen, limit)
      seen = found.length < limit ? undefined : found.at(-1)?.id
      const orphans = found.filter(({ orphaned }) => orphaned).map(({ id }) => id)
      const gone = orphans.length === 0 ? [] : yield* removeRows(orphans)
      // The rows went first: bytes that stay behind are nobody's, and the sweep finds them.
      for (const { id, place } of gone) yield* placeNamed(place)?.remove(id) ?? Effect.void
      const now = yield* Clock.currentTimeMillis
      const strays = yield* Effect.forEach(places, (place) => place.sweep(ownerlessSeconds * 1_000, now, knownAmong))
      return strays.reduce((sum, count) => sum + count, gone.length)
    })

    const removeRows = (orphans: ReadonlyArray<ArtifactId>) =>
      sql<{ readonly id: ArtifactId; readonly place: Place }>`
        delete from artifacts where id in ${sql.in(orphans)} and task_id is not null returning id, place
      `.pipe(orAway("ArtifactStore.tidy"))

    const knownAmong = (names: ReadonlyArray<string>) =>
      sql<{ readonly id: string }>`select id from artifacts where id in ${sql.in(names)}`.pipe(
        Effect.map((known): ReadonlySet<string> => new Set(known.map(({ id }) => id))),
        orAway("ArtifactStore.tidy")
      )

    return ArtifactStore.of({ put, info, read, release, tidy })
  })
)

const artifactColumns = `a.id, a.namespace, a.name, a.content_type, a.size_bytes::int as size_bytes, a.place,
  encode(a.sha256, 'hex') as sha256,
  to_char(a.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at`

type Place = "postgres" | ArtifactPlace["name"]

interface ArtifactRow {
  readonly place: Place
  readonly id: ArtifactId
  readonly namespace: Namespace
  readonly name: string
  readonly content_type: string
  readonly size_bytes: number
  readonly sha256: string
  readonly created_at: string
}

const infoOf = (row: ArtifactRow): ArtifactInfo => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  contentType: row.content_type,
  sizeBytes: row.size_bytes,
  sha256: row.sha256,
  createdAt: row.created_at
})

const notFound = (id: ArtifactId) =>
  Effect.fail(new ArtifactError({ reason: "not-found", message: `no artifact ${id}` }))

const notReached = (id: ArtifactId, place: Place) => {
  const [where, setting] = place === "nats" ? ["NATS", "ARTIFACTS_BUCKET"] : ["a folder", "ARTIFACTS_DIR"]
  return new ArtifactError({
    reason: "unavailable",
    message: `artifact ${id} is in ${where}, and this node was started without ${setting}`
  })
}

/** Fails at the end of content that is not what was stored. */
const unchanged = (content: Stream.Stream<Uint8Array, ArtifactError>, id: ArtifactId, sha256: string) =>
  Stream.suspend(() => {
    const digest = createHash("sha256")
    const check = Effect.suspend(() =>
      digest.digest("hex") === sha256
        ? Effect.succeed([])
        : Effect.fail(new ArtifactError({ reason: "unavailable", message: `artifact ${id} is not what was stored` }))
    )
    return Stream.concat(
      Stream.tap(content, (bytes) => Effect.sync(() => digest.update(bytes))),
      Stream.flatMap(Stream.fromEffect(check), Stream.fromIterable)
    )
  })

const tooLarge = new ArtifactError({
  reason: "too-large",
  message: `an artifact has at most ${Limits.artifactBytesMax} bytes`
})

/** The disk for temporary files is full, or away. */
const fileFailed = (error: PlatformError) =>
  new ArtifactError({ reason: "unavailable", message: `temporary file: ${error.message}` })

const orAway =
  (operation: string) =>
  <A, R>(effect: Effect.Effect<A, SqlError, R>) =>
    Effect.mapError(
      orUnavailable(operation)(effect),
      ({ message }) => new ArtifactError({ reason: "unavailable", message })
    )

const writeFailed = (error: SqlError | PlatformError) =>
  error._tag === "PlatformError"
    ? fileFailed(error)
    : new ArtifactError({ reason: "unavailable", message: error.reason.message })
