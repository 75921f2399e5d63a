/** Artifacts in memory, for tests: the promises of the port without a database. */
import { createHash } from "node:crypto"
import { DateTime, Effect, Layer, Stream } from "effect"
import { ArtifactError, type ArtifactInfo, ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import { ArtifactId, type Namespace } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"

export const layer = Layer.sync(ArtifactStore, () => {
  const stored = new Map<string, { readonly info: ArtifactInfo; readonly bytes: Uint8Array }>()

  const find = (namespace: Namespace, id: ArtifactId) => {
    const entry = stored.get(id)
    return entry?.info.namespace === namespace
      ? Effect.succeed(entry)
      : Effect.fail(new ArtifactError({ reason: "not-found", message: `no artifact ${id}` }))
  }

  return ArtifactStore.of({
    put: Effect.fnUntraced(function* (input) {
      const pieces: Array<Uint8Array> = []
      let sizeBytes = 0
      yield* Stream.runForEach(input.content, (piece) => {
        sizeBytes += piece.length
        pieces.push(piece)
        return sizeBytes <= Limits.artifactBytesMax
          ? Effect.void
          : Effect.fail(
              new ArtifactError({
                reason: "too-large",
                message: `an artifact has at most ${Limits.artifactBytesMax} bytes`
              })
            )
      })
      const bytes = Buffer.concat(pieces)
      const info: ArtifactInfo = {
        id: ArtifactId.make(crypto.randomUUID()),
        namespace: input.namespace,
        name: input.name,
        contentType: input.contentType,
        sizeBytes,
        sha256: createHash("sha256").update(bytes).digest("hex"),
        createdAt: DateTime.formatIso(yield* DateTime.now)
      }
      stored.set(info.id, { info, bytes })
      return info
    }),
    info: (namespace, id) => Effect.map(find(namespace, id), ({ info }) => info),
    release: () => Effect.void,
    tidy: () => Effect.succeed(0),
    read: (namespace, id) => Stream.unwrap(Effect.map(find(namespace, id), ({ bytes }) => Stream.make(bytes)))
  })
})
