/**
 * Owns how one submitted task arrives over HTTP, the same whether the fast lane or the contract's handler reads it.
 */
import { Result } from "effect"
import type { MalformedRequest } from "../../protocol/api/TransportProblem.ts"
import { prefix } from "../../protocol/api/Wire.ts"
import { withIdempotencyKey } from "../../protocol/IdempotencyKeys.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type InvalidInput, TooLarge } from "../../protocol/Problem.ts"
import { SubmitTask } from "../../protocol/Task.ts"

const decode = inputDecoder(SubmitTask)

/** The command in a body, with the key of the header `Idempotency-Key`. */
export const submissionOf = (
  bytes: Uint8Array,
  idempotencyKey: string | undefined
): Result.Result<SubmitTask, MalformedRequest | InvalidInput | TooLarge> =>
  Result.flatMap(
    Result.flatMap(parseJsonBytes(bytes, Limits.largeBodyBytesMax), (input) => decode(input)),
    (command): Result.Result<SubmitTask, InvalidInput | TooLarge> =>
      bytes.length <= Limits.bodyBytesMax || isSmallBesidePayload(command)
        ? withIdempotencyKey(command, idempotencyKey)
        : Result.fail(tooLargeBesidePayload)
  )

/** Only a payload makes a large body: what else a command says stays in the task's row. */
const isSmallBesidePayload = ({ payload: _, ...others }: SubmitTask): boolean =>
  Buffer.byteLength(JSON.stringify(others)) <= Limits.bodyBytesMax

const tooLargeBesidePayload = new TooLarge({
  detail: `Without its payload the body has more than ${Limits.bodyBytesMax} bytes.`,
  field: "",
  limit: Limits.bodyBytesMax,
  unit: "bytes"
})

export const tasksPath = `${prefix}/tasks`

/** Where an accepted task is found. */
export const taskLocation = (id: string) => `${tasksPath}/${id}`
