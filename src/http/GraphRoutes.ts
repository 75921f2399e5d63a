/**
 * Carries the HTTP contract of graphs to their use cases.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { CancelTask } from "../../protocol/api/TasksApi.ts"
import { prefix } from "../../protocol/api/Wire.ts"
import { withIdempotencyKey } from "../../protocol/IdempotencyKeys.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Limits from "../../protocol/Limits.ts"
import { PauseTask } from "../../protocol/Signal.ts"
import { SubmitGraph } from "../../protocol/Task.ts"
import { Graphs } from "../app/Graphs.ts"
import { Tasks } from "../app/Tasks.ts"
import { addHeaders } from "./answers.ts"
import { Draining } from "./Draining.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeGraph = inputDecoder(SubmitGraph)
const decodeCancel = inputDecoder(CancelTask)
const decodePause = inputDecoder(PauseTask)

const graphLocation = (id: string) => `${prefix}/graphs/${id}`

export const layer = HttpApiBuilder.group(
  Api,
  "graphs",
  Effect.fnUntraced(function* (handlers) {
    const tasks = yield* Tasks
    const graphs = yield* Graphs
    const draining = yield* Draining
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "submit",
        Effect.fnUntraced(function* ({ headers }) {
          const command = yield* body.command(decodeGraph, { bytesMax: Limits.batchBodyBytesMax })
          const accepted = yield* tasks.submitGraph(
            yield* Effect.fromResult(withIdempotencyKey(command, headers["idempotency-key"]))
          )
          yield* addHeaders({ location: graphLocation(accepted.id) })
          return accepted
        })
      )
      .handleRaw(
        "cancel",
        Effect.fnUntraced(function* ({ params }) {
          const { reason } = yield* body.command(decodeCancel, { whenEmpty: {} })
          return yield* graphs.cancel(params.id, reason)
        })
      )
      .handleRaw(
        "pause",
        Effect.fnUntraced(function* ({ params }) {
          const { reason } = yield* body.command(decodePause, { whenEmpty: {} })
          return yield* graphs.pause(params.id, reason)
        })
      )
      .handleAll({
        resume: ({ params }) => graphs.resume(params.id),
        list: ({ query }) => graphs.list(query),
        get: ({ params, query: { wait } }) =>
          wait === undefined
            ? tasks.graph(params.id)
            : // A node that stops answers with the graph as it stands rather than keep its caller waiting.
              Effect.raceFirst(graphs.wait(params.id, wait), Effect.andThen(draining.begun, tasks.graph(params.id))),
        retry: Effect.fnUntraced(function* ({ headers, params }) {
          const accepted = yield* graphs.retry(params.id, headers["idempotency-key"])
          yield* addHeaders({ location: graphLocation(accepted.id) })
          return accepted
        })
      })
  })
)
