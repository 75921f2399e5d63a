/**
 * Owns how the body of a request becomes a command: content type, JSON, schema, in that order, each refusal with its
 * own status (415, 400, 422).
 */

import type { IncomingHttpHeaders } from "node:http"
import { Effect, Result, type Schema } from "effect"
import { HttpServerRequest } from "effect/http"
import { MalformedRequest, UnsupportedMediaType } from "../../protocol/api/TransportProblem.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type InvalidInput, invalidField, type TooLarge } from "../../protocol/Problem.ts"
import { nodeRequest } from "./nodeRequest.ts"
import { type BodyProblem, RequestBodies } from "./RequestBodies.ts"

/** A schema's decoder, as `inputDecoder` compiles it. */
type Decoder<A> = (input: unknown, at?: string) => Result.Result<A, InvalidInput>

export type JsonProblem = BodyProblem | UnsupportedMediaType | InvalidInput

/** The command in the body of the current request. */
export const readCommand = <A>(
  decode: Decoder<A>,
  options: { readonly bytesMax?: number; readonly whenEmpty?: A } = {}
): Effect.Effect<A, JsonProblem, HttpServerRequest.HttpServerRequest | RequestBodies> =>
  Effect.gen(function* () {
    const { bytesMax = Limits.bodyBytesMax, whenEmpty } = options
    const bytes = yield* readBody(bytesMax, [json])
    if (bytes.length === 0 && whenEmpty !== undefined) return whenEmpty
    const input = yield* Effect.fromResult(parseBody(bytes, bytesMax))
    return yield* Effect.fromResult(decode(input))
  })

export const json = "application/json"
export const ndjson = "application/x-ndjson"

/** The bytes of the current request's body, when it is of an accepted type and not compressed. */
export const readBody = (
  bytesMax: number,
  accept: ReadonlyArray<string>
): Effect.Effect<Buffer, BodyProblem | UnsupportedMediaType, HttpServerRequest.HttpServerRequest | RequestBodies> =>
  Effect.gen(function* () {
    const request = yield* Effect.flatMap(HttpServerRequest.HttpServerRequest, nodeRequest)
    const refused = refusedType(request.headers, accept)
    if (refused !== undefined) return yield* refused
    const bodies = yield* RequestBodies
    return yield* bodies.read(request, bytesMax)
  })

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

/** The JSON value in a body. What is no JSON at all is malformed; what is and may not be kept is invalid. */
export const parseBody = (
  bytes: Uint8Array,
  bytesMax: number
): Result.Result<Schema.Json, MalformedRequest | InvalidInput | TooLarge> => {
  if (bytes.length === 0) return Result.fail(new MalformedRequest({ detail: "The body is empty; send JSON." }))
  return Result.mapError(parseJsonBytes(bytes, bytesMax), (problem) =>
    problem._tag === "InvalidInput" && !isJson(bytes) ? new MalformedRequest({ detail: problem.message }) : problem
  )
}

const isJson = (bytes: Uint8Array): boolean =>
  Result.isSuccess(Result.try(() => JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))))

/** A command with the key of the header `Idempotency-Key`; refused when its own differs. */
export const withIdempotencyKey = <A extends { readonly idempotency_key?: string }>(
  command: A,
  header: string | undefined
): Result.Result<A, InvalidInput> => {
  if (header === undefined || command.idempotency_key === header) return Result.succeed(command)
  return command.idempotency_key === undefined
    ? Result.succeed({ ...command, idempotency_key: header })
    : Result.fail(invalidField("idempotency_key", "differs from the header Idempotency-Key"))
}
