/** `nothing` in the node's own process. */
import type { Behaviour } from "../../actors/Behaviour.ts"
import { behaviour as isolated } from "./nothing.ts"

export const behaviour: Behaviour = {
  ...isolated,
  type: "nothing-in-node",
  description: "Does nothing, in the node's process.",
  capabilities: [{ name: "nothing-in-node" }],
  isolated: false
}
