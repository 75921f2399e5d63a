/**
 * The use cases of nodes. They belong to the platform and not to a tenant: only keys of the namespace `default` see or drain
 * them (`protocol/Permission.ts`). What is wanted is written down; the node itself does it (`NodeLife.ts`).
 */
import { Context, Effect, Layer } from "effect"
import type { NodeName } from "../../protocol/Ids.ts"
import type { Node, NodeList } from "../../protocol/Node.ts"
import type { Principal } from "../../protocol/Permission.ts"
import { Conflict, type Forbidden, NodeNotFound, type Unavailable } from "../../protocol/Problem.ts"
import { NodeStore } from "../ledger/NodeStore.ts"
import { authorize } from "./authorize.ts"
import { orUnavailable } from "./outage.ts"

export class Nodes extends Context.Service<
  Nodes,
  {
    /** By name: those that are there, and those that have gone within the last hour. */
    readonly list: Effect.Effect<NodeList, Forbidden | Unavailable, Principal>
    readonly get: (name: NodeName) => Effect.Effect<Node, NodeNotFound | Forbidden | Unavailable, Principal>
    /** Begins within 2 s. `Conflict` (`state`) when the node has gone. To ask again changes nothing. */
    readonly drain: (
      name: NodeName
    ) => Effect.Effect<Node, NodeNotFound | Conflict | Forbidden | Unavailable, Principal>
    /** Takes a drain back, also that of a node that has gone. */
    readonly undrain: (name: NodeName) => Effect.Effect<Node, NodeNotFound | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Nodes") {
  static readonly layer = Layer.effect(
    Nodes,
    Effect.gen(function* () {
      const store = yield* NodeStore

      const known = Effect.fnUntraced(function* (name: NodeName, node: Node | undefined) {
        return (
          node ?? (yield* new NodeNotFound({ node: name, detail: `There is no node ${name}, nor was one lately.` }))
        )
      })

      const list = Effect.gen(function* () {
        yield* authorize("node:read")
        return { data: yield* store.list }
      }).pipe(orUnavailable, Effect.withSpan("Nodes.list"))

      const get: Nodes["Service"]["get"] = Effect.fn("Nodes.get")(function* (name) {
        yield* authorize("node:read")
        return yield* known(name, yield* store.get(name))
      }, orUnavailable)

      const drain: Nodes["Service"]["drain"] = Effect.fn("Nodes.drain")(function* (name) {
        const { actor } = yield* authorize("node:drain")
        const node = yield* known(name, yield* store.want(name, true))
        if (!node.drain || node.state === "gone") {
          return yield* new Conflict({
            reason: "state",
            detail: `The node ${name} has gone: there is nothing to drain.`
          })
        }
        yield* Effect.logInfo("a node is to be drained").pipe(Effect.annotateLogs({ drained: name, by: actor }))
        return node
      }, orUnavailable)

      const undrain: Nodes["Service"]["undrain"] = Effect.fn("Nodes.undrain")(function* (name) {
        const { actor } = yield* authorize("node:drain")
        const node = yield* known(name, yield* store.want(name, false))
        yield* Effect.logInfo("a drain was taken back").pipe(Effect.annotateLogs({ drained: name, by: actor }))
        return node
      }, orUnavailable)

      return Nodes.of({ list, get, drain, undrain })
    })
  )
}
