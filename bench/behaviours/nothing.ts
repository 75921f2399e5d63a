/** A behaviour that does nothing but wait as long as it is told, and says in which process: isolated, and the same in the node's own. */
import { Effect, Predicate, type Schema } from "effect"
import type { Behaviour } from "../../actors/Behaviour.ts"

const waitOf = (payload: Schema.Json) =>
  Predicate.hasProperty(payload, "wait_ms") && typeof payload.wait_ms === "number" ? payload.wait_ms : 0

export const behaviour: Behaviour = {
  type: "nothing-isolated",
  description: "Does nothing, in a process of its own.",
  capabilities: [{ name: "nothing-isolated" }],
  check: () => Effect.void,
  open: () =>
    Effect.succeed(({ payload }) => {
      const wait = waitOf(payload)
      const done = Effect.sync(() => process.pid)
      return wait === 0 ? done : Effect.delay(done, wait)
    })
}
