/** The behaviours that this node can run: built-in ones and modules named by configuration. */
import { Effect, Layer } from "effect"
import { Behaviours } from "../actors/Behaviour.ts"
import * as Echo from "../actors/behaviours/Echo.ts"

export const layer = (_modules: ReadonlyArray<string>) =>
  Layer.effect(
    Behaviours,
    Effect.sync(() => Behaviours.of({ types: ["echo"], get: (type) => (type === "echo" ? Echo.echo : undefined) }))
  )
