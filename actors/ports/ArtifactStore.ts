/**
 * Port to stored blobs. An artifact belongs to a namespace, never changes, and is bounded in size.
 */
import { Context, type Effect, Schema, type Stream } from "effect"
import type { ArtifactId, Namespace } from "../../protocol/Ids.ts"

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
    /** Stores a blob of at most `Limits.artifactBytesMax` bytes; all of it or nothing. */
    readonly put: (input: {
      readonly namespace: Namespace
      readonly name: string
      readonly contentType: string
      readonly content: Stream.Stream<Uint8Array, ArtifactError>
    }) => Effect.Effect<ArtifactInfo, ArtifactError>
    readonly info: (namespace: Namespace, id: ArtifactId) => Effect.Effect<ArtifactInfo, ArtifactError>
    readonly read: (namespace: Namespace, id: ArtifactId) => Stream.Stream<Uint8Array, ArtifactError>
  }
>()("datamcp/actors/ArtifactStore") {}
