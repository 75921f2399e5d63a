/**
 * Carries the HTTP contract of supervision to its use cases.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { SteerInstance } from "../../protocol/Supervision.ts"
import { Supervision } from "../app/Supervision.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeSteer = inputDecoder(SteerInstance)

export const layer = HttpApiBuilder.group(
  Api,
  "supervision",
  Effect.fnUntraced(function* (handlers) {
    const supervision = yield* Supervision
    const body = yield* makeBodyReader
    const command = body.command(decodeSteer, { whenEmpty: {} })
    return handlers
      .handleRaw("restart", ({ params: { agent, index } }) =>
        Effect.flatMap(command, (given) => supervision.restart(agent, index, given))
      )
      .handleRaw("quarantine", ({ params: { agent, index } }) =>
        Effect.flatMap(command, (given) => supervision.quarantine(agent, index, given))
      )
      .handleRaw("release", ({ params: { agent, index } }) =>
        Effect.flatMap(command, (given) => supervision.release(agent, index, given))
      )
      .handleAll({ show: ({ query }) => supervision.show(query) })
  })
)
