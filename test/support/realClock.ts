/** Lets a fixture wait for a real server inside a test whose own clock is simulated. */
import { Clock, Effect } from "effect"

const clock = Effect.runSync(Clock.Clock)

export const onRealClock = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, clock)
