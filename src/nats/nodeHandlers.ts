/**
 * Carries the service's endpoints of nodes to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { Nodes } from "../app/Nodes.ts"
import type { Handlers } from "./Handlers.ts"

export const nodeHandlers = Effect.gen(function* () {
  const nodes = yield* Nodes
  return {
    "nodes.list": () => nodes.list,
    "nodes.get": ({ node }) => nodes.get(node),
    "nodes.drain": ({ node }) => nodes.drain(node),
    "nodes.undrain": ({ node }) => nodes.undrain(node)
  } satisfies Partial<Handlers>
})
