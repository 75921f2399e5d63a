/** Orders for an agent's only instance, which lives where they were accepted: handed over without the bus, in order. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import type { AgentId } from "../../protocol/Ids.ts"
import { MemoryBusControl } from "../support/MemoryBus.ts"
import { agent, command, ended, solo, submit, untilTrue } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

const times = (count: number) => Array.from({ length: count }, (_, index) => index)

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("an agent's only instance", (it) => {
  /** Gives it tasks until one is not told over the bus: it is awake then, and knows that nothing else waits for it. */
  const settle = Effect.fnUntraced(function* (agentId: AgentId) {
    const bus = yield* MemoryBusControl
    for (let told = -1; bus.dispatched(agentId) > told; ) {
      told = bus.dispatched(agentId)
      yield* ended(yield* submit([command(agentId)]))
    }
  })

  const awake = Effect.fnUntraced(function* (options: Parameters<typeof agent>[0]) {
    const bus = yield* MemoryBusControl
    const agentId = yield* agent(options)
    yield* settle(agentId)
    return { agentId, bus }
  })

  describe("that lives where its tasks are accepted", () => {
    it.effect("is handed what it has slots for, and the bus carries none of it", () =>
      Effect.gen(function* () {
        const { agentId, bus } = yield* awake({ concurrency: 50 })
        const before = bus.dispatched(agentId)
        for (const { attempt, status } of yield* ended(yield* submit(times(20).map(() => command(agentId))))) {
          expect({ attempt, status }).toEqual({ attempt: 1, status: "completed" })
        }
        expect(bus.dispatched(agentId)).toBe(before)
      })
    )

    it.effect("has the rest told over the bus, and none overtakes another", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const { agentId, bus } = yield* awake({ concurrency: 1 })
        const before = bus.dispatched(agentId)
        const waves = yield* Effect.forEach([1, 7, 1, 30, 2, 1, 1, 19], (size) =>
          submit(times(size).map(() => command(agentId)))
        )
        const ids: ReadonlyArray<string> = waves.flat()
        yield* ended(waves.flat())
        const made = probe.made.map(({ taskId }) => taskId).filter((id) => ids.includes(id))
        expect(made).toEqual(ids)
        expect(bus.dispatched(agentId)).toBeGreaterThan(before)
      })
    )

    it.effect("finds what the bus lost, and is handed tasks again afterwards", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const { agentId, bus } = yield* awake({ concurrency: 2 })
        bus.cut(true)
        const stuck = yield* submit(times(6).map(() => command(agentId, { do: "wait", gate: "lost" })))
        yield* untilTrue(() => probe.running() >= 2)
        yield* probe.gate("lost").open
        yield* ended(stuck)
        bus.cut(false)
        yield* settle(agentId)
        const before = bus.dispatched(agentId)
        yield* ended(yield* submit([command(agentId)]))
        expect(bus.dispatched(agentId)).toBe(before)
      })
    )
  })

  describe("when it is not the only one", () => {
    it.effect("shares over the bus", () =>
      Effect.gen(function* () {
        const bus = yield* MemoryBusControl
        const agentId = yield* agent({ concurrency: 10, instances: 2 })
        const ids = yield* submit(times(20).map(() => command(agentId)))
        yield* ended(ids)
        yield* ended(yield* submit(times(5).map(() => command(agentId))))
        expect(bus.dispatched(agentId)).toBeGreaterThanOrEqual(25)
      })
    )
  })
})
