/**
 * Owns how a batch arrives and is answered: a JSON array or NDJSON, each item with an outcome at its own place.
 *
 * An item that is no JSON, or may not be kept, is refused where it stands; with `atomic` it refuses all.
 */

import { isUtf8 } from "node:buffer"
import { Effect, Option, Result, Schema } from "effect"
import { HttpServerRequest } from "effect/http"
import type { BatchOutcome } from "../../protocol/api/TasksApi.ts"
import { MalformedRequest } from "../../protocol/api/TransportProblem.ts"
import { withItemKey } from "../../protocol/IdempotencyKeys.ts"
import { parseJsonBytes, parseJsonText } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { InvalidField, InvalidInput, invalidField, TooLarge } from "../../protocol/Problem.ts"
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
    const refused = items.flatMap((item, index) => (Result.isFailure(item) ? [refusal(index, item.failure)] : []))
    if (options.atomic && refused.length > 0) return yield* nothingAccepted(refused)
    const places: Array<number> = []
    const good: Array<Schema.Json> = []
    items.forEach((item, index) => {
      if (Result.isFailure(item)) return
      places.push(index)
      good.push(withItemKey(item.success, options.idempotencyKey, index))
    })
    const answered = good.length === 0 ? [] : yield* tasks.submitBatch(good, { atomic: options.atomic })
    const outcomes = answered.map((outcome) => ({ ...outcome, index: places[outcome.index] ?? outcome.index }))
    const data = [...refused, ...outcomes].toSorted((a, b) => a.index - b.index)
    const accepted = data.filter((item) => "task" in item).length
    if (options.atomic && accepted === 0) return yield* nothingAccepted(data)
    const outcome: BatchOutcome = { accepted, refused: data.length - accepted, data }
    return outcome
  })
})

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

type Refusal = Extract<BatchItem, { readonly problem: unknown }>

const refusal = (index: number, problem: InvalidInput | MalformedRequest): Refusal => ({
  index,
  status: problem.status,
  problem: {
    type: problem.type,
    status: problem.status,
    title: problem.title,
    detail: problem.message,
    ...(problem._tag === "InvalidInput" ? { errors: problem.errors } : {})
  }
})

/** An atomic batch that was refused is refused as a whole, with each fault and the item it stands in. */
const nothingAccepted = (data: ReadonlyArray<BatchItem>) => {
  const refusals = data.flatMap((item) => ("problem" in item ? [item] : []))
  const errors = isShared(refusals)
    ? refusals.slice(0, 1).flatMap(({ problem }) => faultsOf(problem))
    : refusals.flatMap(({ index, problem }) => faultsOf(problem).map((fault) => within(index, fault)))
  // Items that fell with another one have no field of their own, and are not what is to be mended.
  const culprits = errors.filter(({ field }) => field.includes("."))
  const shown = (culprits.length > 0 ? culprits : errors).slice(0, faultsMax)
  const [first] = shown
  return new InvalidInput({
    detail: `Nothing was accepted, because with atomic=true one refused item refuses all. ${first?.field}: ${first?.message}`,
    errors: shown
  })
}

const faultsMax = 20

/** Whether one refusal, which names its item by itself, was given for all. */
const isShared = (refusals: ReadonlyArray<Refusal>): boolean => {
  const [first, ...others] = refusals.map(({ problem }) => JSON.stringify(problem))
  return others.length > 0 && others.every((problem) => problem === first)
}

const faultsOf = (problem: Refusal["problem"]): ReadonlyArray<InvalidField> => {
  const faults = Option.getOrElse(decodeFaults(problem["errors"]), () => [])
  const textOf = (name: string) => (typeof problem[name] === "string" ? problem[name] : "")
  return faults.length > 0 ? faults : [{ field: textOf("field"), message: textOf("detail") }]
}

const decodeFaults = Schema.decodeUnknownOption(Schema.Array(InvalidField))

const within = (index: number, fault: InvalidField): InvalidField => ({
  ...fault,
  field: fault.field === "" ? `${index}` : `${index}.${fault.field}`
})
