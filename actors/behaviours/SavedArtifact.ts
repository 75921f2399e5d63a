/**
 * Keeps what a task made or fetched as an artifact, and says so in its result in the words of the wire.
 */
import { Effect, Schema, Stream } from "effect"
import type { Namespace } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { artifactFailure } from "../ArtifactFailure.ts"
import type { BehaviourFailure } from "../Behaviour.ts"
import { ArtifactError, ArtifactStore } from "../ports/ArtifactStore.ts"

/** What a person calls an artifact; it is never used as a path. */
export const ArtifactName = Schema.String.check(
  Schema.isPattern(new RegExp(`^[^\\u0000-\\u001f\\u007f/\\\\]{1,${Limits.nameCharactersMax}}$`, "u"), {
    expected: `a name of 1 to ${Limits.nameCharactersMax} characters without slashes or control characters`
  })
)

/** Fails with what `content` fails with, or with code `artifact_too_large` or `artifact_unavailable`. */
export const saveArtifact = Effect.fnUntraced(function* (input: {
  readonly namespace: Namespace
  readonly name: string
  readonly contentType: string
  readonly content: Stream.Stream<Uint8Array, BehaviourFailure>
}) {
  const store = yield* ArtifactStore
  let broken: BehaviourFailure | undefined
  const content = Stream.mapError(input.content, (failure) => {
    broken = failure
    return new ArtifactError({ reason: "unavailable", message: failure.message })
  })
  const {
    contentType: content_type,
    id,
    name,
    sha256,
    sizeBytes: size_bytes
  } = yield* Effect.mapError(store.put({ ...input, content }), (error) => broken ?? artifactFailure(error))
  return { id, name, content_type, size_bytes, sha256 }
})
