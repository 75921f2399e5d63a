/**
 * Carries the HTTP contract of artifacts to their use cases: bytes are streamed both ways and never held whole here.
 *
 * What a user stored is never rendered: it goes out as an attachment with sniffing off and a sandbox around it.
 */
import { Effect, Stream } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { MediaType } from "../../protocol/api/ArtifactsApi.ts"
import { UnsupportedMediaType } from "../../protocol/api/TransportProblem.ts"
import { prefix } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Limits from "../../protocol/Limits.ts"
import { invalidField, TooLarge, Unavailable } from "../../protocol/Problem.ts"
import { Artifacts } from "../app/Artifacts.ts"
import { addHeaders } from "./answers.ts"

const decodeMediaType = inputDecoder(MediaType)

export const layer = HttpApiBuilder.group(
  Api,
  "artifacts",
  Effect.fnUntraced(function* (handlers) {
    const artifacts = yield* Artifacts
    return handlers
      .handleRaw(
        "upload",
        Effect.fnUntraced(function* ({ headers, query, request }) {
          const name = query.name ?? headers["x-artifact-name"]
          if (name === undefined) return yield* invalidField("name", "is missing: give ?name= or X-Artifact-Name")
          const given = query.content_type ?? request.headers["content-type"] ?? "application/octet-stream"
          const contentType = yield* Effect.fromResult(decodeMediaType(given, "content_type"))
          yield* refuseEarly(request)
          const content = Stream.mapError(request.stream, () => cutOff)
          const artifact = yield* artifacts.upload({ name, contentType, content })
          yield* addHeaders({ location: `${prefix}/artifacts/${artifact.id}` })
          return artifact
        })
      )
      .handle("info", ({ params }) => artifacts.info(params.id))
      .handle(
        "content",
        Effect.fnUntraced(function* ({ params }) {
          const { content, info } = yield* artifacts.download(params.id)
          return HttpServerResponse.stream(content, {
            contentType: info.content_type,
            contentLength: info.size_bytes,
            headers: {
              "content-disposition": attachment(info.name),
              "content-security-policy": "default-src 'none'; sandbox",
              "cache-control": "private, no-cache",
              etag: `"${info.sha256}"`
            }
          })
        })
      )
  })
)

/** Refuses by headers alone what would be refused after 64 MiB. */
const refuseEarly = ({ headers }: HttpServerRequest.HttpServerRequest) => {
  const limit = Limits.artifactBytesMax
  const coding = headers["content-encoding"]
  if (coding !== undefined && coding !== "identity") {
    return Effect.fail(
      new UnsupportedMediaType({ detail: "Content-Encoding: send the body uncompressed.", accept: [] })
    )
  }
  return Number(headers["content-length"] ?? 0) > limit
    ? Effect.fail(new TooLarge({ detail: `An artifact has at most ${limit} bytes.`, field: "", limit, unit: "bytes" }))
    : Effect.void
}

const cutOff = new Unavailable({ detail: "The upload was cut off; nothing was stored.", retry_after_seconds: 1 })

/** `Content-Disposition` with a name of any characters (RFC 6266, RFC 8187). */
const attachment = (name: string): string => {
  const ascii = name.replaceAll(/[^\x20-\x7e]|["\\%]/gu, "_")
  const encoded = encodeURIComponent(name).replaceAll(
    /['()*]/gu,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`
  )
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`
}
