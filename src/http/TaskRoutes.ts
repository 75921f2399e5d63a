/**
 * Carries the HTTP contract of tasks to their use cases. What an endpoint promises stands in `protocol/api/TasksApi.ts`.
 */
import { Effect, Option, Semaphore } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { CancelTask } from "../../protocol/api/TasksApi.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Overloaded } from "../../protocol/Problem.ts"
import { Graphs } from "../app/Graphs.ts"
import { Tasks } from "../app/Tasks.ts"
import { addHeaders, jsonAnswer } from "./answers.ts"
import { makeSubmitBatch } from "./Batch.ts"
import { Draining } from "./Draining.ts"
import { makeEventStream } from "./EventStream.ts"
import { HttpLimits } from "./HttpLimits.ts"
import { json, makeBodyReader } from "./JsonRequest.ts"
import { submissionOf, taskLocation } from "./Submission.ts"

const decodeCancel = inputDecoder(CancelTask)

export const layer = HttpApiBuilder.group(
  Api,
  "tasks",
  Effect.fnUntraced(function* (handlers) {
    const tasks = yield* Tasks
    const graphs = yield* Graphs
    const body = yield* makeBodyReader
    const submitBatch = yield* makeSubmitBatch
    const eventStream = yield* makeEventStream
    const draining = yield* Draining
    const { largeSubmissionsMax } = yield* HttpLimits
    const largeOnes = yield* Semaphore.make(largeSubmissionsMax)
    /** One of the few with a large payload that are received and stored at a time; refused when there are too many. */
    const large = <A, E, R>(submission: Effect.Effect<A, E, R>) =>
      Effect.flatMap(largeOnes.withPermitsIfAvailable(1)(submission), (accepted) =>
        Option.isSome(accepted)
          ? Effect.succeed(accepted.value)
          : Effect.fail(
              new Overloaded({
                detail: `At most ${largeSubmissionsMax} tasks with bodies above ${Limits.bodyBytesMax} bytes are received at a time.`,
                retry_after_seconds: 1
              })
            )
      )
    return handlers
      .handleRaw(
        "submit",
        Effect.fnUntraced(function* ({ headers, request }) {
          const submit = Effect.fnUntraced(function* (bytesMax: number) {
            const bytes = yield* body.bytes(bytesMax, [json])
            return yield* tasks.submit(yield* Effect.fromResult(submissionOf(bytes, headers["idempotency-key"])))
          })
          const declared = Number(request.headers["content-length"] ?? 0)
          const accepted = yield* declared <= Limits.bodyBytesMax
            ? submit(Limits.bodyBytesMax)
            : large(submit(Limits.largeBodyBytesMax))
          yield* addHeaders({ location: taskLocation(accepted.id) })
          return accepted
        })
      )
      .handleRaw(
        "submitBatch",
        Effect.fnUntraced(function* ({ headers, query }) {
          const outcome = yield* submitBatch({
            atomic: query.atomic ?? false,
            idempotencyKey: headers["idempotency-key"]
          })
          return outcome.refused === 0 ? outcome : jsonAnswer(207, outcome)
        })
      )
      .handleRaw(
        "cancel",
        Effect.fnUntraced(function* ({ params, query }) {
          const { reason } = yield* body.command(decodeCancel, { whenEmpty: {} })
          return yield* query.tree === true ? graphs.cancelTree(params.id, reason) : tasks.cancel(params.id, reason)
        })
      )
      .handleAll({
        list: ({ query }) => tasks.list(query),
        get: ({ params, query: { tree, wait } }) =>
          wait === undefined
            ? tasks.get(params.id)
            : // A node that stops answers with the task as it stands rather than keep its caller waiting.
              Effect.raceFirst(
                (tree === true ? graphs.waitTree : tasks.wait)(params.id, wait),
                Effect.andThen(draining.begun, tasks.get(params.id))
              ),
        events: Effect.fnUntraced(function* ({ headers, params, query }) {
          const after = query.after ?? headers["last-event-id"] ?? 0
          if (headers.accept?.includes("text/event-stream") === true) return yield* eventStream(params.id, after)
          const limit = query.limit ?? Limits.pageEntriesDefault
          const data = yield* tasks.events(params.id, { after, limit })
          return { data, next_after: data.length < limit ? null : (data.at(-1)?.number ?? null) }
        }),
        graph: ({ params }) => tasks.graphOf(params.id),
        retry: Effect.fnUntraced(function* ({ params }) {
          const accepted = yield* tasks.retry(params.id)
          yield* addHeaders({ location: taskLocation(accepted.id) })
          return accepted
        })
      })
  })
)
