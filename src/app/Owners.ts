/**
 * Tells who stands behind stored work now: the grants of an API key as they are when its work runs, not as they were when
 * it was stored. A revoked or expired key grants nothing, so its schedules run no more.
 */
import { Effect, Layer, Schema } from "effect"
import { Owners } from "../../actors/ports/Owners.ts"
import { ApiKeyId } from "../../protocol/Ids.ts"
import { ApiKeyStore } from "../ledger/ApiKeyStore.ts"
import { granted } from "./ApiKeys.ts"
import { orUnavailable } from "./outage.ts"

const isKeyId = Schema.is(ApiKeyId)

export const layer = Layer.effect(
  Owners,
  Effect.gen(function* () {
    const keys = yield* ApiKeyStore
    const principalOf: Owners["Service"]["principalOf"] = Effect.fn("Owners.principalOf")(function* (actor, namespace) {
      const [kind, id] = actor.split(":")
      if (kind !== "key" || !isKeyId(id)) return undefined
      const key = yield* keys.usable(id)
      return key === undefined || key.namespace !== namespace
        ? undefined
        : { actor, namespace, role: key.role, permissions: new Set(granted(key)) }
    }, orUnavailable)
    return Owners.of({ principalOf })
  })
)
