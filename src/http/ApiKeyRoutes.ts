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
import { readCommand } from "./JsonRequest.ts"

const decodeCreate = inputDecoder(CreateApiKey)

export const layer = HttpApiBuilder.group(
  Api,
  "apiKeys",
  Effect.fnUntraced(function* (handlers) {
    const keys = yield* ApiKeys
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const created = yield* keys.create(yield* readCommand(decodeCreate))
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
