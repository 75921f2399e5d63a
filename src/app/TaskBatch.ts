/**
 * The items of a batch: decoded one by one, each with its own problem, and put together again with their outcomes in
 * the order they came.
 */
import { Effect, Result, Schema } from "effect"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import {
  CoalesceMismatch,
  IdempotencyMismatch,
  InvalidInput,
  invalidField,
  TooLarge,
  UniqueKeyHeld
} from "../../protocol/Problem.ts"
import type { BatchItem } from "../../protocol/Query.ts"
import { type AcceptedTask, SubmitTask } from "../../protocol/Task.ts"

const problems = [InvalidInput, TooLarge, IdempotencyMismatch, UniqueKeyHeld, CoalesceMismatch] as const
export type ItemProblem = InstanceType<(typeof problems)[number]>

/** Items decoded between two looks at what else the node has to do. */
const decodedAtOnce = 250

/** Each item as a command, or what is wrong with it. */
export const decodeItems = Effect.fnUntraced(function* (items: ReadonlyArray<Schema.Json>) {
  const decoded: Array<Result.Result<SubmitTask, InvalidInput>> = []
  for (let from = 0; from < items.length; from += decodedAtOnce) {
    for (const item of items.slice(from, from + decodedAtOnce)) decoded.push(decode(item))
    yield* Effect.yieldNow
  }
  return decoded
})

/** With `atomic` one bad item refuses all: the others say because of which. Undefined when none is bad. */
export const refuseAll = (
  decoded: ReadonlyArray<Result.Result<SubmitTask, InvalidInput>>
): ReadonlyArray<Result.Result<never, InvalidInput>> | undefined => {
  const first = decoded.findIndex(Result.isFailure)
  if (first < 0) return undefined
  const because = Result.fail(invalidField("", `refused with the batch, because item ${first} is invalid`))
  return decoded.map((item) => (Result.isFailure(item) ? Result.fail(item.failure) : because))
}

/** The outcomes of those that could be decoded, put where they belong among those that could not. */
export const merged = (
  decoded: ReadonlyArray<Result.Result<SubmitTask, InvalidInput>>,
  outcomes: ReadonlyArray<Result.Result<AcceptedTask, ItemProblem>>
): ReadonlyArray<Result.Result<AcceptedTask, ItemProblem>> => {
  let next = 0
  return decoded.map((item) =>
    Result.isFailure(item) ? Result.fail(item.failure) : (outcomes[next++] ?? Result.fail(unanswered))
  )
}

const unanswered = invalidField("", "was not answered")

export const outcomesOf = (
  results: ReadonlyArray<Result.Result<AcceptedTask, ItemProblem>>
): ReadonlyArray<BatchItem> =>
  results.map(
    (result, index): BatchItem =>
      Result.isSuccess(result)
        ? { index, status: 202, task: result.success }
        : { index, status: result.failure.status, problem: encode(result.failure) }
  )

const decode = inputDecoder(SubmitTask)

const encode = Schema.encodeSync(Schema.Union(problems))
