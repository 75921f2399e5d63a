/**
 * Carries the HTTP contract of graphs to their use cases.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { prefix } from "../../protocol/api/Wire.ts"
import { withIdempotencyKey } from "../../protocol/IdempotencyKeys.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import * as Limits from "../../protocol/Limits.ts"
import { SubmitGraph } from "../../protocol/Task.ts"
import { Tasks } from "../app/Tasks.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeGraph = inputDecoder(SubmitGraph)

export const layer = HttpApiBuilder.group(
  Api,
  "graphs",
  Effect.fnUntraced(function* (handlers) {
    const tasks = yield* Tasks
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "submit",
        Effect.fnUntraced(function* ({ headers }) {
          const command = yield* body.command(decodeGraph, { bytesMax: Limits.batchBodyBytesMax })
          const accepted = yield* tasks.submitGraph(
            yield* Effect.fromResult(withIdempotencyKey(command, headers["idempotency-key"]))
          )
          yield* addHeaders({ location: `${prefix}/graphs/${accepted.id}` })
          return accepted
        })
      )
      .handle("get", ({ params }) => tasks.graph(params.id))
  })
)
