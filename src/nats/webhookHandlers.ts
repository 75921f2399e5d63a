/**
 * Carries the service's endpoints of webhooks and hooks to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { Hooks } from "../app/Hooks.ts"
import { Webhooks } from "../app/Webhooks.ts"
import type { Handlers } from "./Handlers.ts"

export const webhookHandlers = Effect.gen(function* () {
  const webhooks = yield* Webhooks
  const hooks = yield* Hooks
  return {
    "webhooks.create": (command) => webhooks.create(command),
    "webhooks.get": ({ id }) => webhooks.get(id),
    "webhooks.list": (query) => webhooks.list(query),
    "webhooks.update": ({ id, if_version, ...change }) => webhooks.update(id, change, if_version),
    "webhooks.delete": ({ id }) => Effect.as(webhooks.remove(id), { id, deleted: true as const }),
    "webhooks.rotate": ({ id, ...command }) => webhooks.rotate(id, command),
    "webhooks.test": ({ id }) => webhooks.test(id),
    "webhooks.enable": ({ id }) => webhooks.enable(id),
    "webhooks.disable": ({ id }) => webhooks.disable(id),
    "webhooks.deliveries": ({ id, ...query }) => webhooks.deliveries(id, query),
    "webhooks.replay": ({ id, ...command }) =>
      "delivery" in command
        ? Effect.as(webhooks.replayOne(id, command.delivery), { replayed: 1, more: false })
        : webhooks.replay(id, command),
    "hooks.create": (command) => hooks.create(command),
    "hooks.get": ({ id }) => hooks.get(id),
    "hooks.list": (query) => hooks.list(query),
    "hooks.update": ({ id, if_version, ...change }) => hooks.update(id, change, if_version),
    "hooks.delete": ({ id }) => Effect.as(hooks.remove(id), { id, deleted: true as const }),
    "hooks.rotate": ({ id, ...command }) => hooks.rotate(id, command)
  } satisfies Partial<Handlers>
})
