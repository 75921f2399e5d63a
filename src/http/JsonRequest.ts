/**
 * Owns how the body of a request becomes a command: content type, JSON, schema, in that order, each refusal with its
 * own status (415, 400, 422).
 */

import type { IncomingHttpHeaders } from "node:http"
import { Effect, type Result } from "effect"
import { HttpServerRequest } from "effect/http"
import { UnsupportedMediaType } from "../../protocol/api/TransportProblem.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import { nodeRequest } from "./nodeRequest.ts"
import { type BodyProblem, RequestBodies } from "./RequestBodies.ts"

/** A schema's decoder, as `inputDecoder` compiles it. */
type Decoder<A> = (input: unknown, at?: string) => Result.Result<A, InvalidInput>

export type JsonProblem = BodyProblem | UnsupportedMediaType | InvalidInput

/** Reads bodies of the request that the calling fiber works for. */
export interface BodyReader {
  /** The command in the body; `whenEmpty` when there is none and that is allowed. */
  readonly command: <A>(
    decode: Decoder<A>,
    options?: { readonly bytesMax?: number; readonly whenEmpty?: A }
  ) => Effect.Effect<A, JsonProblem, HttpServerRequest.HttpServerRequest>
  /** The bytes of the body, when it is of an accepted type and not compressed. */
  readonly bytes: (
    bytesMax: number,
    accept: ReadonlyArray<string>
  ) => Effect.Effect<Buffer, BodyProblem | UnsupportedMediaType, HttpServerRequest.HttpServerRequest>
}

export const makeBodyReader = Effect.gen(function* () {
  const bodies = yield* RequestBodies

  const bytes: BodyReader["bytes"] = Effect.fnUntraced(function* (bytesMax, accept) {
    const request = yield* Effect.flatMap(HttpServerRequest.HttpServerRequest, nodeRequest)
    const refused = refusedType(request.headers, accept)
    return yield* refused === undefined ? bodies.read(request, bytesMax) : Effect.fail(refused)
  })

  const command: BodyReader["command"] = Effect.fnUntraced(function* (decode, options = {}) {
    const { bytesMax = Limits.bodyBytesMax, whenEmpty } = options
    const body = yield* bytes(bytesMax, [json])
    if (body.length === 0 && whenEmpty !== undefined) return whenEmpty
    const input = yield* Effect.fromResult(parseJsonBytes(body, bytesMax))
    return yield* Effect.fromResult(decode(input))
  })

  const reader: BodyReader = { bytes, command }
  return reader
})

export const json = "application/json"
export const ndjson = "application/x-ndjson"

/** Media type of a body without its parameters; the default when it says none. */
export const mediaType = (headers: IncomingHttpHeaders): string => {
  const given = headers["content-type"] ?? json
  const semicolon = given.indexOf(";")
  return (semicolon === -1 ? given : given.slice(0, semicolon)).trim().toLowerCase()
}

/** Why a body cannot be of use, from its headers alone. */
export const refusedType = (
  headers: IncomingHttpHeaders,
  accept: ReadonlyArray<string>
): UnsupportedMediaType | undefined => {
  const coding = headers["content-encoding"]
  if (coding !== undefined && coding !== "identity") {
    return new UnsupportedMediaType({ detail: "Content-Encoding: send the body uncompressed.", accept })
  }
  const type = mediaType(headers)
  if (accept.includes(type)) return undefined
  return new UnsupportedMediaType({
    detail: `Content-Type: ${type.slice(0, 100)} is not accepted here; send ${accept.join(" or ")}.`,
    accept
  })
}
