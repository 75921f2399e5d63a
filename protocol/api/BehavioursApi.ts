/**
 * Owns the HTTP contract of behaviours: look which there are.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { BehaviourList } from "../Behaviour.ts"
import { Authentication } from "./Authentication.ts"
import { documented, prefix } from "./Wire.ts"

const list = HttpApiEndpoint.get("list", "/behaviours", { success: BehaviourList }).annotateMerge(
  documented({
    summary: "List behaviours",
    description: "All that the node which answers can run: the types that an agent may have."
  })
)

export class BehavioursApi extends HttpApiGroup.make("behaviours")
  .add(list)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Behaviours", description: "What agents can be made of." })) {}
