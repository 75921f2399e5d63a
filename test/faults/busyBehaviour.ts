/** A behaviour that blocks its node's event loop, and fills the heap meanwhile: the mistake that the fault F19 makes. */
import { Effect, Schema } from "effect"
import { type Behaviour, BehaviourFailure } from "../../actors/Behaviour.ts"

const Payload = Schema.Struct({ block_ms: Schema.Int })

export const behaviour: Behaviour = {
  type: "busy",
  description: "Blocks the event loop for block_ms milliseconds.",
  capabilities: [{ name: "busy.block", version: "1", description: "Blocks.", enabled: true }],
  check: () => Effect.void,
  open: () =>
    Effect.succeed((attempt) =>
      Schema.decodeUnknownEffect(Payload)(attempt.payload).pipe(
        Effect.mapError(({ message }) => new BehaviourFailure({ code: "payload_invalid", message, retryable: false })),
        Effect.map(({ block_ms }) => {
          const until = performance.now() + block_ms
          let garbage: Array<Array<number>> = []
          while (performance.now() < until) {
            garbage.push(Array.from({ length: 10_000 }, () => 1))
            if (garbage.length > 2_000) garbage = []
          }
          return { blocked: true }
        })
      )
    )
}
