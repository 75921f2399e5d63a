/** The use case of behaviours over two that need nothing, for the doors to be tested without servers. */
import { Layer } from "effect"
import { Behaviours } from "../../actors/Behaviour.ts"
import { echo } from "../../actors/behaviours/Echo.ts"
import { BehaviourCatalogue } from "../../src/app/BehaviourCatalogue.ts"

const known = new Map([
  ["echo", echo],
  ["mine", { ...echo, type: "mine", isolated: true }]
])

export const layer = BehaviourCatalogue.layer.pipe(
  Layer.provide(
    Layer.succeed(
      Behaviours,
      Behaviours.of({ get: (type) => known.get(type), types: [...known.keys()], builtIn: new Set(["echo"]) })
    )
  )
)
