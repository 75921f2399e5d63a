/**
 * The bytes of artifacts as objects of a NATS bucket, in the format of NATS object stores (ADR-20 of
 * nats-architecture-and-design), so that NATS's own tools read them. What is known of them stays in Postgres: an object
 * without a row is nobody's, and goes after a while.
 *
 *   receive --> chunk, chunk, ... --(`place`)--> the object's own message: whole
 *      '--(scope closes before)--> chunks purged
 *
 * Invariants: chunks stand under the artifact's id, so that those of a writer that died are found by it; one chunk is
 * under way at a time in either direction, however slow the other side is. The bucket belongs to one platform, and says
 * to which.
 *
 * `@nats-io/obj` writes chunks under names of its own, which nobody finds again once their writer is gone, and hands a slow
 * reader all that there is; tests read with it what is written here.
 */
import { DiscardPolicy, JetStreamApiCodes, StorageType, type StreamInfo } from "@nats-io/jetstream"
import { headers } from "@nats-io/transport-node"
import { DateTime, Effect, Option, Stream } from "effect"
import { ArtifactError } from "../../actors/ports/ArtifactStore.ts"
import type { BusUnavailable } from "../../actors/ports/Bus.ts"
import { madeAt } from "../../actors/UuidV7.ts"
import type { ArtifactId } from "../../protocol/Ids.ts"
import { type ArtifactPlace, ArtifactPlaceProblem, type Gathered } from "../ledger/ArtifactPlaces.ts"
import type { Nats } from "./Nats.ts"
import { isApiError } from "./Streams.ts"

export interface BucketOptions {
  readonly bucket: string
  /** On how many servers of a cluster it is kept. Undefined: one for a new bucket, and one that is there as it is. */
  readonly replicas: number | undefined
}

/** Bytes of a chunk, where the server takes messages of 1 MiB; less where it takes less. */
export const chunkBytesMax = 512 * 1024
/** The stream's own note of whose it is. */
const platformKey = "datamcp-platform"

/** Makes the bucket when it is missing, and claims it for `platform`; one that is not this platform's is refused. */
export const use = (nats: Nats["Service"], options: BucketOptions) => (platform: string) =>
  establish(nats, options, platform).pipe(
    Effect.as(placeIn(nats, options, platform)),
    Effect.mapError(
      (reason) =>
        new ArtifactPlaceProblem({ message: `ARTIFACTS_BUCKET: ${options.bucket} cannot be used: ${reason}.` })
    )
  )

const streamOf = (bucket: string) => `OBJ_${bucket}`
const chunksOf = (bucket: string) => `$O.${bucket}.C`
/** In 256 parts by the end of the id, so that a sweep looks at one of them. */
const chunkId = (id: string) => `${id.slice(-2)}.${id}`
const objectSubject = (bucket: string, id: string) => `$O.${bucket}.M.${Buffer.from(id).toString("base64url")}`

const establish = Effect.fnUntraced(function* (nats: Nats["Service"], options: BucketOptions, platform: string) {
  const { bucket, replicas } = options
  const asked = <A>(operation: string, request: () => Promise<A>) =>
    Effect.mapError(nats.request(operation, request), reasonOf)
  const existing = yield* nats
    .request("look for the bucket", () => nats.manager.streams.info(streamOf(bucket)))
    .pipe(
      Effect.catchIf(
        (error) => isApiError(error.cause, JetStreamApiCodes.StreamNotFound),
        () => Effect.succeed<StreamInfo | undefined>(undefined)
      ),
      Effect.mapError(reasonOf)
    )
  if (existing === undefined) {
    yield* asked("make the bucket", () =>
      nats.manager.streams.add({
        name: streamOf(bucket),
        description: "datamcp: bytes of artifacts; what is known of them is in Postgres",
        subjects: [`${chunksOf(bucket)}.>`, `$O.${bucket}.M.>`],
        storage: StorageType.File,
        // A full bucket refuses what comes and keeps what it has.
        discard: DiscardPolicy.New,
        allow_rollup_hdrs: true,
        allow_direct: true,
        num_replicas: replicas ?? 1,
        metadata: { [platformKey]: platform }
      })
    )
    return
  }
  if (existing.config.metadata?.[platformKey] !== platform) {
    return yield* Effect.fail("a bucket of this name exists, and is not that of this platform's database")
  }
  if (replicas !== undefined && existing.config.num_replicas !== replicas) {
    yield* asked("change the bucket", () => nats.manager.streams.update(streamOf(bucket), { num_replicas: replicas }))
  }
})

const placeIn = (nats: Nats["Service"], options: BucketOptions, platform: string): ArtifactPlace => {
  const { bucket } = options
  const stream = streamOf(bucket)
  /** Of what the server takes, with room for its envelope in answers, which are base64. */
  const chunkBytes = Math.min(chunkBytesMax, Math.floor((nats.connection.info?.max_payload ?? 1_048_576) / 2))
  const subjectOf = (id: string) => `${chunksOf(bucket)}.${chunkId(id)}`
  let part = 0

  /** `name` is the message's own: the client repeats one whose answer is late, and the server drops the repetition. */
  const publish = (subject: string, data: Uint8Array | string, name: string, rollup = false) => {
    const send = nats.request("store an artifact", () => {
      const head = headers()
      if (rollup) head.set("Nats-Rollup", "sub")
      return nats.jetstream.publish(subject, data, { headers: head, msgID: name, expect: { streamName: stream } })
    })
    return send.pipe(
      // The store was lost, and the bucket with it.
      Effect.catchIf(isGone, () =>
        Effect.andThen(
          Effect.mapError(establish(nats, options, platform), (reason) => notStored(reason)),
          Effect.logWarning(`bucket ${bucket} was gone and has been made again`)
        ).pipe(Effect.andThen(Effect.mapError(send, unavailable)))
      ),
      Effect.mapError((error) => (error._tag === "ArtifactError" ? error : unavailable(error)))
    )
  }

  /** Nothing to do where the bucket is gone: its bytes are too. */
  const purge = (subject: string) =>
    nats
      .request("remove an artifact", () => nats.manager.streams.purge(stream, { filter: subject }))
      .pipe(
        Effect.asVoid,
        Effect.catchIf(isGone, () => Effect.void),
        Effect.mapError(unavailable)
      )

  const receive = (id: ArtifactId) =>
    Effect.gen(function* () {
      let placed = false
      let chunks = 0
      let rest = new Uint8Array(0)
      yield* Effect.addFinalizer(() =>
        placed || chunks === 0
          ? Effect.void
          : Effect.catch(purge(subjectOf(id)), ({ message }) =>
              Effect.logDebug("chunks of an artifact are left to the sweep", message)
            )
      )
      const send = (chunk: Uint8Array) => {
        chunks++
        return publish(subjectOf(id), chunk, `${id}/${chunks}`)
      }
      const write = Effect.fnUntraced(function* (bytes: Uint8Array) {
        const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
        let at = 0
        for (; all.length - at >= chunkBytes; at += chunkBytes) yield* send(all.subarray(at, at + chunkBytes))
        rest = all.slice(at)
      })
      const place = Effect.fnUntraced(function* ({ sha256, sizeBytes }: Gathered) {
        if (rest.length > 0) yield* send(rest)
        const now = DateTime.formatIso(yield* DateTime.now)
        yield* publish(
          objectSubject(bucket, id),
          JSON.stringify({
            name: id,
            description: "",
            options: { max_chunk_size: chunkBytes },
            bucket,
            nuid: chunkId(id),
            size: sizeBytes,
            chunks,
            digest: `SHA-256=${padded(Buffer.from(sha256).toString("base64url"))}`,
            mtime: now,
            deleted: false
          }),
          id,
          true
        )
        placed = true
      })
      return { write, place }
    })

  const read = (id: ArtifactId, sizeBytes: number): Stream.Stream<Uint8Array, ArtifactError> =>
    Stream.paginate({ sequence: 1, left: sizeBytes }, ({ left, sequence }) =>
      left <= 0
        ? Effect.succeed([[], Option.none<{ sequence: number; left: number }>()] as const)
        : Effect.flatMap(chunkFrom(id, sequence), (chunk) =>
            chunk === null || chunk.data.length === 0 || chunk.data.length > left
              ? Effect.fail(lost(id))
              : Effect.succeed([
                  [chunk.data],
                  Option.some({ sequence: chunk.seq + 1, left: left - chunk.data.length })
                ] as const)
          )
    )

  /** The first chunk at or after a place of the stream, as its leader has it: a follower may be behind. */
  const chunkFrom = (id: ArtifactId, sequence: number) => {
    const query = { seq: sequence, next_by_subj: subjectOf(id) }
    return nats
      .request("read an artifact", () => nats.manager.streams.getMessage(stream, query))
      .pipe(
        Effect.catchIf(isGone, () => Effect.succeed(null)),
        Effect.mapError(unavailable)
      )
  }

  // The chunks go last: by them a sweep finds what is left.
  const remove = (id: string) => Effect.andThen(purge(objectSubject(bucket, id)), purge(subjectOf(id)))

  const sweep: ArtifactPlace["sweep"] = (ageMillis, nowMillis, known) =>
    Effect.gen(function* () {
      const name = (part++ & 0xff).toString(16).padStart(2, "0")
      const filter = `${chunksOf(bucket)}.${name}.*`
      const subjects = yield* nats
        .request("look for strays", () => nats.manager.streams.info(stream, { subjects_filter: filter }))
        .pipe(
          Effect.map(({ state }) => state.subjects ?? {}),
          Effect.catchIf(isGone, () => Effect.succeed({})),
          Effect.mapError(unavailable)
        )
      const old = Object.keys(subjects)
        .map((subject) => subject.slice(filter.length - 1))
        .filter((id) => idPattern.test(id) && madeAt(id) < nowMillis - ageMillis)
      const kept = old.length === 0 ? new Set<string>() : yield* known(old)
      const strays = old.filter((id) => !kept.has(id))
      yield* Effect.forEach(strays, remove, { discard: true })
      return strays.length
    })

  return { name: "nats", setting: "ARTIFACTS_BUCKET", receive, read, remove, sweep }
}

/** Ids are our own; what somebody else put into the bucket is left. */
const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/u

const padded = (text: string) => text + "=".repeat((4 - (text.length % 4)) % 4)

/** No stream takes the subject, or there is none of that name. */
const isGone = ({ cause }: BusUnavailable) =>
  isApiError(cause, JetStreamApiCodes.StreamNotFound) ||
  // What the client calls a message that nobody took, whatever the reason is.
  (cause instanceof Error && cause.name === "JetStreamNotEnabled")

const reasonOf = ({ cause }: BusUnavailable) => (cause instanceof Error ? cause.message : String(cause))
const unavailable = (error: BusUnavailable) => notStored(reasonOf(error))
const notStored = (reason: string) =>
  new ArtifactError({ reason: "unavailable", message: `bucket of artifacts: ${reason}` })

/** The row is there, its bytes are not: the bucket was emptied, or is another one. */
const lost = (id: ArtifactId) =>
  new ArtifactError({ reason: "unavailable", message: `the bytes of artifact ${id} are not in the bucket` })
