/**
 * Owns the HTTP contract of artifacts: bytes up, bytes down, and what is known of them.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Artifact } from "../Artifact.ts"
import { ArtifactId } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { ArtifactNotFound } from "../Problem.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, prefix } from "./Wire.ts"

const params = { id: ArtifactId }

/** What a person calls it; no control characters and no path. */
export const ArtifactName = Schema.String.check(
  Schema.isPattern(/^[^\p{Cc}\p{Cs}/\\]{1,200}$/u, {
    expected: `a name of 1 to ${Limits.nameCharactersMax} characters without "/", "\\" or control characters`
  })
)

/** A media type with its parameters (RFC 9110, 8.3.1). */
export const MediaType = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9!#$&^_.+-]{1,127}\/[A-Za-z0-9!#$&^_.+-]{1,127}( ?;[\x20-\x7e]{1,100})?$/u, {
    expected: "a media type such as text/csv"
  })
)

const upload = HttpApiEndpoint.post("upload", "/artifacts", {
  query: {
    name: Schema.optionalKey(ArtifactName.annotate({ description: "Its name; or in the header X-Artifact-Name." })),
    content_type: Schema.optionalKey(MediaType.annotate({ description: "Instead of the header Content-Type." }))
  },
  headers: { "x-artifact-name": Schema.optionalKey(ArtifactName) },
  payload: HttpApiSchema.StreamUint8Array({ maxBytes: Limits.artifactBytesMax }),
  success: Artifact.pipe(HttpApiSchema.status(201)),
  error: BodyProblem
}).annotateMerge(
  documented({
    summary: "Store an artifact",
    description:
      `The body is the content, of any content type, at most ${Limits.artifactBytesMax} bytes; all of it is stored or ` +
      "nothing.",
    answers: { 201: { location: "Path of the artifact." } }
  })
)

const info = HttpApiEndpoint.get("info", "/artifacts/:id", {
  params,
  success: Artifact,
  error: ArtifactNotFound
}).annotateMerge(documented({ summary: "What is known of an artifact" }))

const content = HttpApiEndpoint.get("content", "/artifacts/:id/content", {
  params,
  success: HttpApiSchema.StreamUint8Array(),
  error: ArtifactNotFound
}).annotateMerge(
  documented({
    summary: "The bytes of an artifact",
    description: "With the content type it was stored with, always as attachment.",
    answers: { 200: { "content-disposition": "attachment with the artifact's name", etag: "SHA-256 of the content." } }
  })
)

export class ArtifactsApi extends HttpApiGroup.make("artifacts")
  .add(upload, info, content)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Artifacts", description: "Stored blobs that tasks read and write." })) {}
