/**
 * The use cases of artifacts: stored blobs that tasks read and write.
 */
import { Context, type Effect, type Stream } from "effect"
import type { Artifact } from "../../protocol/Artifact.ts"
import type { ArtifactId } from "../../protocol/Ids.ts"
import type { Principal } from "../../protocol/Permission.ts"
import type { ArtifactNotFound, Forbidden, InvalidInput, TooLarge, Unavailable } from "../../protocol/Problem.ts"

export class Artifacts extends Context.Service<
  Artifacts,
  {
    /**
     * Stores a blob of at most `Limits.artifactBytesMax` bytes; all of it or nothing. `InvalidInput` when the name or the
     * content type could not stand in a response header.
     */
    readonly upload: (input: {
      readonly name: string
      readonly contentType: string
      readonly content: Stream.Stream<Uint8Array, Unavailable>
    }) => Effect.Effect<Artifact, InvalidInput | TooLarge | Forbidden | Unavailable, Principal>
    readonly info: (id: ArtifactId) => Effect.Effect<Artifact, ArtifactNotFound | Forbidden | Unavailable, Principal>
    readonly download: (
      id: ArtifactId
    ) => Effect.Effect<
      { readonly info: Artifact; readonly content: Stream.Stream<Uint8Array, Unavailable> },
      ArtifactNotFound | Forbidden | Unavailable,
      Principal
    >
  }
>()("datamcp/app/Artifacts") {}
