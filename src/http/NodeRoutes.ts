/**
 * Carries the HTTP contract of nodes to its use cases.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { Nodes } from "../app/Nodes.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "nodes",
  Effect.fnUntraced(function* (handlers) {
    const nodes = yield* Nodes
    return handlers.handleAll({
      list: () => nodes.list,
      get: ({ params }) => nodes.get(params.node),
      drain: ({ params }) => nodes.drain(params.node),
      undrain: ({ params }) => nodes.undrain(params.node)
    })
  })
)
