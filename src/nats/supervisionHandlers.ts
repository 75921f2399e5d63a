/**
 * Carries the service's endpoints of supervision to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { Supervision } from "../app/Supervision.ts"
import type { Handlers } from "./Handlers.ts"

export const supervisionHandlers = Effect.gen(function* () {
  const supervision = yield* Supervision
  return {
    "supervision.show": (query) => supervision.show(query),
    "supervision.restart": ({ agent, index, ...command }) => supervision.restart(agent, index, command),
    "supervision.quarantine": ({ agent, index, ...command }) => supervision.quarantine(agent, index, command),
    "supervision.release": ({ agent, index, ...command }) => supervision.release(agent, index, command)
  } satisfies Partial<Handlers>
})
