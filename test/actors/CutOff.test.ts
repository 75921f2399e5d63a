/** A node that is cut off from the bus, and does not know it yet: what it accepts is done elsewhere all the same. */
import { expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import { agent, command, ended, node, on, start, submit, switchable, world } from "./ActorHarness.ts"

/** What is said on it reaches nobody; what others say is heard. */
const cutOff = Layer.effect(
  Bus,
  Effect.map(Bus, (bus) => Bus.of({ ...bus, dispatch: () => Effect.void, notify: () => Effect.void }))
)

const withoutSingletons = Layer.effect(
  Placement,
  Effect.map(Placement, (placement) => Placement.of({ ...placement, singleton: () => Effect.void }))
)

it.live("tasks of a node whose messages are lost are found while those of another keep the instance busy", () =>
  Effect.gen(function* () {
    const cluster = switchable()
    cluster.move("healthy")
    const healthy = yield* start("healthy", withoutSingletons.pipe(Layer.provide(cluster.of("healthy"))))
    // The reconciler runs on this one: what it has to say is lost as well.
    const lost = yield* Layer.build(
      Layer.fresh(node("lost")).pipe(Layer.provideMerge(cluster.of("lost")), Layer.provideMerge(cutOff))
    )
    const agentId = yield* agent({ concurrency: 10 })
    const traffic = yield* submit([command(agentId)]).pipe(
      Effect.andThen(Effect.sleep("20 millis")),
      Effect.forever,
      on(healthy),
      Effect.forkScoped
    )
    yield* Effect.sleep("500 millis")
    const ids = yield* submit([command(agentId), command(agentId)]).pipe(on(lost))
    const rows = yield* ended(ids, "5 seconds")
    expect(traffic.pollUnsafe()).toBeUndefined()
    expect(rows.map(({ status }) => status)).toEqual(["completed", "completed"])
  }).pipe(Effect.scoped, Effect.provide(world))
)
