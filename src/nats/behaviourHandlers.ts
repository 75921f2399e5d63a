/**
 * Carries the service's endpoint of behaviours to its use case. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { BehaviourCatalogue } from "../app/BehaviourCatalogue.ts"
import type { Handlers } from "./Handlers.ts"

export const behaviourHandlers = Effect.gen(function* () {
  const behaviours = yield* BehaviourCatalogue
  return { "behaviours.list": () => behaviours.list } satisfies Partial<Handlers>
})
