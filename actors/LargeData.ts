/**
 * Keeps payloads and results that are too large to stand in their task's row as artifacts, and brings them back: the row
 * holds `{"$artifact": id, "size_bytes": n}` in their place.
 *
 * Invariants: nothing above `LargeDataLimits` is kept or brought back; a bounded number of them is in memory on the way at
 * a time; what is kept belongs to its task and goes when that is gone.
 */
import { Context, Effect, Option, Result, Schema, Semaphore, Stream } from "effect"
import { ArtifactId, type Namespace, type TaskId } from "../protocol/Ids.ts"
import { parseJsonBytes } from "../protocol/JsonBody.ts"
import * as Limits from "../protocol/Limits.ts"
import { artifactFailure } from "./ArtifactFailure.ts"
import { BehaviourFailure } from "./Behaviour.ts"
import { ArtifactStore } from "./ports/ArtifactStore.ts"

export const LargeDataLimits = Context.Reference<{
  /** Largest payload or result, in bytes of UTF-8 JSON. */
  readonly bytesMax: number
}>("datamcp/actors/LargeDataLimits", {
  defaultValue: () => ({ bytesMax: Limits.largeDataBytesMax })
})

/** What stands in place of data that is kept as an artifact. */
export const ArtifactReference = Schema.Struct({
  $artifact: ArtifactId,
  size_bytes: Schema.optionalKey(Schema.Int)
})
export type ArtifactReference = typeof ArtifactReference.Type

const decodeReference = Schema.decodeUnknownOption(ArtifactReference, { onExcessProperty: "error" })

/** The reference that a value is, as a whole; undefined for any other value. */
export const referenceOf = (value: Schema.Json | undefined): ArtifactReference | undefined =>
  typeof value === "object" && value !== null && "$artifact" in value
    ? Option.getOrUndefined(decodeReference(value))
    : undefined

/** Keeps JSON text as an artifact of a task. Its reference; fails as the store does. */
export const keep = Effect.fnUntraced(function* (input: {
  readonly namespace: Namespace
  readonly owner: TaskId
  readonly name: "payload" | "result"
  readonly text: string
}) {
  const store = yield* ArtifactStore
  const bytes = new TextEncoder().encode(input.text)
  const pieces = Array.from({ length: Math.ceil(bytes.length / pieceBytes) }, (_, index) =>
    bytes.subarray(index * pieceBytes, (index + 1) * pieceBytes)
  )
  const { id, sizeBytes } = yield* store.put({
    namespace: input.namespace,
    owner: input.owner,
    name: `${input.owner}-${input.name}.json`,
    contentType: "application/json",
    content: Stream.fromIterable(pieces)
  })
  return { $artifact: id, size_bytes: sizeBytes } satisfies ArtifactReference
})

const pieceBytes = 256 * 1024

/** Those of a process that are brought back at a time; others wait. */
const loadsMax = 2
const loading = Semaphore.makeUnsafe(loadsMax)

/** The data that a reference stands for. Fails with code `artifact_not_found`, `artifact_unavailable` or `artifact_json`. */
export const load = Effect.fnUntraced(function* (namespace: Namespace, { $artifact: id }: ArtifactReference) {
  const store = yield* ArtifactStore
  const { bytesMax } = yield* LargeDataLimits
  const { sizeBytes } = yield* Effect.mapError(store.info(namespace, id), artifactFailure)
  if (sizeBytes > bytesMax) {
    return yield* refused(`artifact ${id} has ${sizeBytes} bytes; at most ${bytesMax} can be a payload or result`)
  }
  const pieces = yield* Effect.mapError(Stream.runCollect(store.read(namespace, id)), artifactFailure)
  const parsed = parseJsonBytes(Buffer.concat(pieces), bytesMax)
  return Result.isSuccess(parsed)
    ? parsed.success
    : yield* refused(`artifact ${id} cannot be a payload or result: ${parsed.failure.detail ?? parsed.failure.title}`)
}, loading.withPermits(1))

const refused = (message: string) =>
  Effect.fail(new BehaviourFailure({ code: "artifact_json", message, retryable: false }))
