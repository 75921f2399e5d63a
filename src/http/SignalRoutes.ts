/**
 * Carries the HTTP contract of signals to their use cases. What an endpoint promises stands in `protocol/api/SignalsApi.ts`.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { PauseTask } from "../../protocol/Signal.ts"
import { Graphs } from "../app/Graphs.ts"
import { Signals } from "../app/Signals.ts"
import { json, makeBodyReader } from "./JsonRequest.ts"

const decodePause = inputDecoder(PauseTask)

export const layer = HttpApiBuilder.group(
  Api,
  "signals",
  Effect.fnUntraced(function* (handlers) {
    const signals = yield* Signals
    const graphs = yield* Graphs
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "send",
        Effect.fnUntraced(function* ({ headers, params }) {
          // The body is the payload: any JSON will do.
          const bytes = yield* body.bytes(Limits.bodyBytesMax, [json])
          const payload =
            bytes.length === 0 ? null : yield* Effect.fromResult(parseJsonBytes(bytes, Limits.bodyBytesMax))
          return yield* signals.send(params.id, {
            name: params.name,
            payload,
            idempotencyKey: headers["idempotency-key"]
          })
        })
      )
      .handleRaw(
        "pause",
        Effect.fnUntraced(function* ({ params, query }) {
          const { reason } = yield* body.command(decodePause, { whenEmpty: {} })
          return yield* query.tree === true ? graphs.pauseTree(params.id, reason) : signals.pause(params.id, reason)
        })
      )
      .handleAll({
        list: ({ params, query }) => signals.list(params.id, query),
        resume: ({ params, query }) => (query.tree === true ? graphs.resumeTree(params.id) : signals.resume(params.id))
      })
  })
)
