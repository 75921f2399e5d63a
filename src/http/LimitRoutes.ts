/**
 * Carries the HTTP contract of limits to their use cases. Every answer that shows one limit has its version as ETag.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { etag, prefix } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { CreateLimit, type Limit, UpdateLimit } from "../../protocol/Limit.ts"
import { LimitRules } from "../app/LimitRules.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeCreate = inputDecoder(CreateLimit)
const decodeUpdate = inputDecoder(UpdateLimit)

const versioned = (limit: Limit) => Effect.as(addHeaders({ etag: etag(limit.version) }), limit)

export const layer = HttpApiBuilder.group(
  Api,
  "limits",
  Effect.fnUntraced(function* (handlers) {
    const limits = yield* LimitRules
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const limit = yield* limits.create(yield* body.command(decodeCreate))
          yield* addHeaders({ location: `${prefix}/limits/${limit.id}` })
          return yield* versioned(limit)
        })
      )
      .handleRaw(
        "update",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeUpdate)
          return yield* Effect.flatMap(limits.update(params.limit, command, headers["if-match"]), versioned)
        })
      )
      .handleAll({
        list: ({ query }) => limits.list(query),
        get: ({ params }) => Effect.flatMap(limits.get(params.limit), versioned),
        remove: ({ params }) => limits.remove(params.limit),
        usage: ({ params, query }) => limits.usage(params.limit, query.key)
      })
  })
)
