/**
 * Carries the HTTP contract of behaviours to their use case.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { BehaviourCatalogue } from "../app/BehaviourCatalogue.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "behaviours",
  Effect.fnUntraced(function* (handlers) {
    const behaviours = yield* BehaviourCatalogue
    return handlers.handleAll({ list: () => behaviours.list })
  })
)
