/**
 * The use cases of artifacts: stored blobs that tasks read and write.
 */
import { Context, Effect, Layer, Stream } from "effect"
import { ArtifactError, type ArtifactInfo, ArtifactStore } from "../../actors/ports/ArtifactStore.ts"
import type { Artifact } from "../../protocol/Artifact.ts"
import type { ArtifactId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Principal } from "../../protocol/Permission.ts"
import {
  ArtifactNotFound,
  type Forbidden,
  type InvalidInput,
  invalidField,
  TooLarge,
  Unavailable
} from "../../protocol/Problem.ts"
import { authorize } from "./authorize.ts"

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
>()("datamcp/app/Artifacts") {
  static readonly layer = Layer.effect(
    Artifacts,
    Effect.gen(function* () {
      const store = yield* ArtifactStore

      const upload: Artifacts["Service"]["upload"] = Effect.fn("Artifacts.upload")(function* (input) {
        const { namespace } = yield* authorize("artifact:create")
        if (!namePattern.test(input.name)) {
          return yield* invalidField(
            "name",
            `must have 1 to ${Limits.nameCharactersMax} characters without line breaks or other control characters`,
            Limits.nameCharactersMax
          )
        }
        if (!contentTypePattern.test(input.contentType)) {
          return yield* invalidField("content_type", "must be a media type such as text/csv or text/csv; charset=utf-8")
        }
        const stored = yield* store
          .put({
            namespace,
            name: input.name,
            contentType: input.contentType,
            content: Stream.mapError(
              input.content,
              ({ message }) => new ArtifactError({ reason: "unavailable", message })
            )
          })
          .pipe(Effect.catch(failUpload))
        return viewOf(stored)
      })

      const info: Artifacts["Service"]["info"] = Effect.fn("Artifacts.info")(function* (id) {
        const { namespace } = yield* authorize("artifact:read")
        return viewOf(yield* found(id, store.info(namespace, id)))
      })

      const download: Artifacts["Service"]["download"] = Effect.fn("Artifacts.download")(function* (id) {
        const { namespace } = yield* authorize("artifact:read")
        const stored = yield* found(id, store.info(namespace, id))
        return { info: viewOf(stored), content: Stream.mapError(store.read(namespace, id), away) }
      })

      const found = (id: ArtifactId, effect: Effect.Effect<ArtifactInfo, ArtifactError>) =>
        Effect.catch(
          effect,
          (error): Effect.Effect<never, ArtifactNotFound | Unavailable> =>
            error.reason === "not-found"
              ? Effect.fail(
                  new ArtifactNotFound({ artifact_id: id, detail: `There is no artifact ${id} in this namespace.` })
                )
              : unavailable(error)
        )

      return Artifacts.of({ upload, info, download })
    })
  )
}

const failUpload = (error: ArtifactError): Effect.Effect<never, TooLarge | Unavailable> =>
  error.reason === "too-large"
    ? Effect.fail(
        new TooLarge({
          detail: `An artifact has at most ${Limits.artifactBytesMax} bytes; nothing was stored.`,
          field: "",
          limit: Limits.artifactBytesMax,
          unit: "bytes"
        })
      )
    : unavailable(error)

const unavailable = (error: ArtifactError) =>
  Effect.andThen(Effect.logWarning("Artifacts could not be reached", error), Effect.fail(away()))

const away = () =>
  new Unavailable({ detail: "Stored artifacts cannot be reached at the moment. Try again.", retry_after_seconds: 1 })

/** What can stand in a quoted header parameter after escaping: no control characters. */
const namePattern = new RegExp(`^[^\\p{Cc}\\p{Cs}]{1,${Limits.nameCharactersMax}}$`, "u")

/** RFC 9110, section 8.3.1: type, subtype and parameters of visible ASCII. */
const contentTypePattern =
  /^(?=.{3,255}$)[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:[ \t]*;[ \t]*[\w!#$&^.+-]+=(?:[\w!#$&^.+-]+|"[ !#-[\]-~]*"))*$/u

const viewOf = (info: ArtifactInfo): Artifact => ({
  id: info.id,
  namespace: info.namespace,
  name: info.name,
  content_type: info.contentType,
  size_bytes: info.sizeBytes,
  sha256: info.sha256,
  created_at: info.createdAt
})
