/**
 * Carries the HTTP contract of API keys to their use cases, and tells a caller who it is.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { CreateApiKey } from "../../protocol/ApiKey.ts"
import { Api } from "../../protocol/api/Api.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { Principal } from "../../protocol/Permission.ts"
import { ApiKeys } from "../app/ApiKeys.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeCreate = inputDecoder(CreateApiKey)

export const layer = HttpApiBuilder.group(
  Api,
  "apiKeys",
  Effect.fnUntraced(function* (handlers) {
    const keys = yield* ApiKeys
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const created = yield* keys.create(yield* body.command(decodeCreate))
          yield* addHeaders({ "cache-control": "no-store" })
          return created
        })
      )
      .handleAll({
        list: ({ query }) => keys.list(query),
        revoke: ({ params }) => keys.revoke(params.id),
        me: () =>
          Effect.map(Principal, ({ actor, namespace, permissions, role }) => ({
            actor,
            namespace,
            role,
            permissions: [...permissions]
          }))
      })
  })
)
