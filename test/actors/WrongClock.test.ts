/** A node whose wall clock is wrong: how long an attempt may take is measured from when Postgres says that it began. */
import { expect, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Layer } from "effect"
import { agent, command, ended, node, on, start, submit, switchable, world } from "./ActorHarness.ts"

const off = (by: Duration.Duration) =>
  Layer.effect(
    Clock.Clock,
    Effect.map(Clock.Clock, (clock): Clock.Clock => {
      const millis = () => clock.currentTimeMillisUnsafe() + Duration.toMillis(by)
      return {
        ...{ currentTimeMillisUnsafe: millis, currentTimeMillis: Effect.sync(millis) },
        currentTimeNanosUnsafe: () => BigInt(Math.round(millis())) * 1_000_000n,
        currentTimeNanos: Effect.sync(() => BigInt(Math.round(millis())) * 1_000_000n),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        sleep: (duration) => clock.sleep(duration)
      }
    })
  )

it.live(
  "a deadline neither cuts an attempt short nor lets it go on for longer on a node whose clock is an hour off",
  () =>
    Effect.gen(function* () {
      const cluster = switchable()
      const right = yield* start("right", cluster.of("right"))
      for (const hours of [1, -1]) {
        const name = `wrong-${hours}`
        cluster.move(name)
        yield* Layer.build(
          Layer.fresh(node(name)).pipe(
            Layer.provideMerge(cluster.of(name)),
            Layer.provideMerge(off(Duration.hours(hours)))
          )
        )
        // One that may begin before its claim is written, and one that may not.
        const ids = [yield* agent({ type: "pure", concurrency: 4 }), yield* agent({ concurrency: 4 })]
        const deadline = (milliseconds: number) =>
          Effect.map(DateTime.now, (now) => DateTime.formatIso(DateTime.add(now, { milliseconds })))
        const later = yield* deadline(60_000)
        const soon = yield* deadline(1_500)
        const done = yield* submit(ids.map((id) => command(id, {}, { deadline: later }))).pipe(on(right))
        const hung = yield* submit(ids.map((id) => command(id, { do: "hang" }, { deadline: soon }))).pipe(on(right))
        expect((yield* ended(done, "10 seconds")).map(({ status }) => status)).toEqual(["completed", "completed"])
        expect((yield* ended(hung, "10 seconds")).map(({ status }) => status)).toEqual(["timeout", "timeout"])
      }
    }).pipe(Effect.scoped, Effect.provide(world))
)
