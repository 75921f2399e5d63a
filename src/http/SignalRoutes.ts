/**
 * Carries the HTTP contract of signals to their use cases. What an endpoint promises stands in `protocol/api/SignalsApi.ts`.
 */
import { Effect, Result, type Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import type { InvalidInput } from "../../protocol/Problem.ts"
import { PauseTask } from "../../protocol/Signal.ts"
import { Signals } from "../app/Signals.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodePause = inputDecoder(PauseTask)
/** The body is the payload: any JSON will do. */
const anyJson = (input: unknown): Result.Result<Schema.Json, InvalidInput> => Result.succeed(input as Schema.Json)

export const layer = HttpApiBuilder.group(
  Api,
  "signals",
  Effect.fnUntraced(function* (handlers) {
    const signals = yield* Signals
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "send",
        Effect.fnUntraced(function* ({ headers, params }) {
          const payload = yield* body.command(anyJson, { whenEmpty: null })
          return yield* signals.send(params.id, {
            name: params.name,
            payload,
            idempotencyKey: headers["idempotency-key"]
          })
        })
      )
      .handleRaw(
        "pause",
        Effect.fnUntraced(function* ({ params }) {
          const { reason } = yield* body.command(decodePause, { whenEmpty: {} })
          return yield* signals.pause(params.id, reason)
        })
      )
      .handleAll({
        list: ({ params }) => signals.list(params.id),
        resume: ({ params }) => signals.resume(params.id)
      })
  })
)
