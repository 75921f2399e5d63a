/**
 * Owns how a batch arrives and is answered: a JSON array or NDJSON, each item with an outcome at its own place.
 *
 * An item that is no JSON, or may not be kept, is refused where it stands; with `atomic` it refuses all.
 */

import { isUtf8 } from "node:buffer"
import { Effect, Result, type Schema } from "effect"
import { HttpServerRequest } from "effect/http"
import type { BatchOutcome } from "../../protocol/api/TasksApi.ts"
import { MalformedRequest } from "../../protocol/api/TransportProblem.ts"
import { parseJsonBytes, parseJsonText } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { InvalidInput, invalidField, TooLarge } from "../../protocol/Problem.ts"
import type { BatchItem } from "../../protocol/Query.ts"
import { Tasks } from "../app/Tasks.ts"
import { type BodyReader, json, makeBodyReader, mediaType, ndjson } from "./JsonRequest.ts"

type Item = Result.Result<Schema.Json, InvalidInput | MalformedRequest>

/** Makes what accepts the batch in the body of the current request. */
export const makeSubmitBatch = Effect.gen(function* () {
  const tasks = yield* Tasks
  const body = yield* makeBodyReader
  return Effect.fnUntraced(function* (options: {
    readonly atomic: boolean
    readonly idempotencyKey: string | undefined
  }) {
    const items = yield* readItems(body)
    const refusals = items.flatMap((item, index) => (Result.isFailure(item) ? [{ index, problem: item.failure }] : []))
    if (options.atomic && refusals.length > 0) return yield* refusedAll(refusals)
    const places: Array<number> = []
    const good: Array<Schema.Json> = []
    items.forEach((item, index) => {
      if (Result.isFailure(item)) return
      places.push(index)
      good.push(withKey(item.success, options.idempotencyKey, index))
    })
    const outcomes = good.length === 0 ? [] : yield* tasks.submitBatch(good, { atomic: options.atomic })
    return outcomeOf(items.length, [
      ...refusals.map(({ index, problem }) => ({ index, status: problem.status, problem: membersOf(problem) })),
      ...outcomes.map((outcome) => ({ ...outcome, index: places[outcome.index] ?? outcome.index }))
    ])
  })
})

const outcomeOf = (count: number, unordered: ReadonlyArray<BatchItem>): BatchOutcome => {
  const data = unordered.toSorted((a, b) => a.index - b.index)
  const accepted = data.filter((item) => "task" in item).length
  return { accepted, refused: count - accepted, data }
}

const readItems = Effect.fnUntraced(function* (body: BodyReader) {
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  const bytes = yield* body.bytes(Limits.batchBodyBytesMax, [json, ndjson])
  const items = mediaType(headers) === ndjson ? lines(bytes) : yield* Effect.fromResult(entries(bytes))
  if (items.length === 0) return yield* invalidField("", "the batch holds no tasks")
  if (items.length <= Limits.batchTasksMax) return items
  return yield* new TooLarge({
    detail: `The batch holds ${items.length} tasks; the limit is ${Limits.batchTasksMax}.`,
    field: "",
    limit: Limits.batchTasksMax,
    unit: "tasks"
  })
})

/** Items of a JSON array. What cannot be kept is refused for its item alone, when the text is an array at all. */
const entries = (bytes: Uint8Array): Result.Result<ReadonlyArray<Item>, InvalidInput | MalformedRequest | TooLarge> => {
  const whole = Result.match(parseJsonBytes(bytes, Limits.batchBodyBytesMax), {
    onSuccess: (value) => (Array.isArray(value) ? Result.succeed(value.map(Result.succeed)) : notAnArray),
    onFailure: Result.fail
  })
  if (Result.isSuccess(whole) || whole.failure._tag !== "InvalidInput") return whole
  const refusal = whole.failure
  return Result.flatMap(
    Result.try({ try: (): unknown => JSON.parse(decoder.decode(bytes)), catch: () => refusal }),
    (value) =>
      Array.isArray(value)
        ? Result.try({ try: () => value.map((item) => parseJsonText(JSON.stringify(item))), catch: () => refusal })
        : Result.fail(refusal)
  )
}

const decoder = new TextDecoder()

const notAnArray = Result.fail(invalidField("", "must be an array of tasks"))

/** Items of NDJSON, one per line; empty lines count for nothing. */
const lines = (bytes: Uint8Array): ReadonlyArray<Item> => {
  const isSound = isUtf8(bytes)
  return decoder
    .decode(bytes)
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => (!isSound && line.includes("\uFFFD") ? malformedLine : parseJsonText(line)))
}

const malformedLine = Result.fail(new MalformedRequest({ detail: "The line is not valid UTF-8." }))

/** Gives an item without an idempotency key one of its own, made of the batch's key and its place. */
const withKey = (item: Schema.Json, batchKey: string | undefined, index: number): Schema.Json =>
  batchKey === undefined ||
  typeof item !== "object" ||
  item === null ||
  Array.isArray(item) ||
  "idempotency_key" in item
    ? item
    : Object.assign(item, { idempotency_key: `${batchKey}/${index}` })

const membersOf = (problem: InvalidInput | MalformedRequest) => ({
  type: problem.type,
  status: problem.status,
  title: problem.title,
  detail: problem.message,
  ...(problem._tag === "InvalidInput" ? { errors: problem.errors } : {})
})

/** The refusal of an atomic batch: each fault with the item it stands in. */
const refusedAll = (
  refusals: ReadonlyArray<{ readonly index: number; readonly problem: InvalidInput | MalformedRequest }>
) => {
  const errors = refusals.flatMap(({ index, problem }) =>
    problem._tag === "InvalidInput"
      ? problem.errors.map((error) => ({
          ...error,
          field: error.field === "" ? `${index}` : `${index}.${error.field}`
        }))
      : [{ field: `${index}`, message: problem.message }]
  )
  return new InvalidInput({
    detail: `${refusals.length} of the items cannot be read, and with atomic=true that refuses all`,
    errors: errors.slice(0, 20)
  })
}
