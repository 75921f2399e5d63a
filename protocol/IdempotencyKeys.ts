/**
 * Owns how an idempotency key that stands beside a command (the header `Idempotency-Key`) gets into it, the same at every
 * door.
 */
import { Result, type Schema } from "effect"
import { type InvalidInput, invalidField } from "./Problem.ts"

/** A command with the key of the header; refused when its own differs. */
export const withIdempotencyKey = <A extends { readonly idempotency_key?: string }>(
  command: A,
  header: string | undefined
): Result.Result<A, InvalidInput> => {
  if (header === undefined || command.idempotency_key === header) return Result.succeed(command)
  return command.idempotency_key === undefined
    ? Result.succeed({ ...command, idempotency_key: header })
    : Result.fail(invalidField("idempotency_key", "differs from the header Idempotency-Key"))
}

/** An item of a batch with a key made of the batch's and its place, unless it has one of its own. */
export const withItemKey = (item: Schema.Json, header: string | undefined, index: number): Schema.Json =>
  header === undefined || !isObject(item) || "idempotency_key" in item
    ? item
    : Object.assign({}, item, { idempotency_key: `${header}/${index}` })

const isObject = (item: Schema.Json): item is Schema.JsonObject =>
  typeof item === "object" && item !== null && !Array.isArray(item)
