/** Placement on the only node there is: it owns every instance and runs every singleton. */
import { Effect, Layer } from "effect"
import { Placement } from "../../actors/ports/Placement.ts"
import { NodeName } from "../../protocol/Ids.ts"

export const layer = Layer.succeed(
  Placement,
  Placement.of({
    node: NodeName.make("solo"),
    takesWork: () => true,
    nodes: Effect.succeed([NodeName.make("solo")]),
    owns: () => true,
    onChange: () => Effect.void,
    singleton: (_, loop) => Effect.asVoid(Effect.forkScoped(loop))
  })
)
