/**
 * Carries the service's endpoints of limits to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { LimitRules } from "../app/LimitRules.ts"
import type { Handlers } from "./Handlers.ts"

export const limitHandlers = Effect.gen(function* () {
  const limits = yield* LimitRules
  return {
    "limits.create": (command) => limits.create(command),
    "limits.get": ({ limit }) => limits.get(limit),
    "limits.list": (query) => limits.list(query),
    "limits.update": ({ if_version, limit, ...change }) => limits.update(limit, change, if_version),
    "limits.delete": ({ limit }) => limits.remove(limit),
    "limits.usage": ({ key, limit }) => limits.usage(limit, key)
  } satisfies Partial<Handlers>
})
