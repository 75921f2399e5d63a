/**
 * The use case of behaviours: look which ones this node can run.
 */
import { Context, Effect, Layer } from "effect"
import { Behaviours } from "../../actors/Behaviour.ts"
import type { BehaviourList } from "../../protocol/Behaviour.ts"
import type { Principal } from "../../protocol/Permission.ts"
import type { Forbidden } from "../../protocol/Problem.ts"
import { authorize } from "./authorize.ts"

export class BehaviourCatalogue extends Context.Service<
  BehaviourCatalogue,
  {
    /** In the order of their types. */
    readonly list: Effect.Effect<BehaviourList, Forbidden, Principal>
  }
>()("datamcp/app/BehaviourCatalogue") {
  static readonly layer = Layer.effect(
    BehaviourCatalogue,
    Effect.map(Behaviours, (behaviours) => {
      const data = behaviours.types
        .toSorted()
        .flatMap((type) => behaviours.get(type) ?? [])
        .map(({ capabilities, description, idempotent = false, isolated = false, type }) => ({
          ...{ type, description, capabilities, isolated, idempotent },
          built_in: behaviours.builtIn.has(type)
        }))
      return BehaviourCatalogue.of({
        list: Effect.as(authorize("agent:read"), { data }).pipe(Effect.withSpan("BehaviourCatalogue.list"))
      })
    })
  )
}
