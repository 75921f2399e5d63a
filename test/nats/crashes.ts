/** A behaviour of which every attempt crashes, until its settings say that it is mended. */
import { Effect } from "effect"
import type { Behaviour } from "../../actors/Behaviour.ts"

export const behaviour: Behaviour = {
  type: "crashes",
  description: "Crashes until it is mended.",
  capabilities: [{ name: "crash" }],
  isolated: false,
  check: () => Effect.void,
  open: (settings) =>
    Effect.succeed(() =>
      JSON.stringify(settings) === '{"mended":true}' ? Effect.succeed("mended") : Effect.die(new Error("as always"))
    )
}
