/**
 * Port to stored blobs. An artifact belongs to a namespace, never changes, and is bounded in size.
 */
import { Context, type Effect, Schema, type Stream } from "effect"
import type { ArtifactId, Namespace, TaskId } from "../../protocol/Ids.ts"

/** View: what is known of an artifact besides its bytes. */
export interface ArtifactInfo {
  readonly id: ArtifactId
  readonly namespace: Namespace
  readonly name: string
  readonly contentType: string
  readonly sizeBytes: number
  /** Lower-case hex SHA-256 of the content. */
  readonly sha256: string
  readonly createdAt: string
}

export class ArtifactError extends Schema.TaggedError<ArtifactError>()("ArtifactError", {
  reason: Schema.Literals(["not-found", "too-large", "unavailable"]),
  message: Schema.String
}) {}

export class ArtifactStore extends Context.Service<
  ArtifactStore,
  {
    /**
     * Stores a blob of at most `Limits.artifactBytesMax` bytes; all of it or nothing. One with an `owner` goes when that
     * task is gone; any other stays.
     */
    readonly put: (input: {
      readonly namespace: Namespace
      readonly owner?: TaskId
      readonly name: string
      readonly contentType: string
      readonly content: Stream.Stream<Uint8Array, ArtifactError>
    }) => Effect.Effect<ArtifactInfo, ArtifactError>
    readonly info: (namespace: Namespace, id: ArtifactId) => Effect.Effect<ArtifactInfo, ArtifactError>
    readonly read: (namespace: Namespace, id: ArtifactId) => Stream.Stream<Uint8Array, ArtifactError>
    /** Takes an artifact's owner away: it stays, whatever becomes of its task. None that is not there fails. */
    readonly release: (namespace: Namespace, id: ArtifactId) => Effect.Effect<void, ArtifactError>
    /**
     * Removes artifacts whose owner is gone, or never came: looks at up to `limit` of those that have one, in turn with
     * each call. Returns how many went.
     */
    readonly tidy: (limit: number) => Effect.Effect<number, ArtifactError>
  }
>()("datamcp/actors/ArtifactStore") {}
