/** Tasks of idempotent behaviours: begun before they are claimed, and recorded once all the same. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { brokenHistories, eventTypes, retryAfter, statuses } from "../ledger/LedgerHarness.ts"
import { MemoryBusControl } from "../support/MemoryBus.ts"
import { agent, command, ended, home, solo, submit, until, untilTrue } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

const times = (count: number) => Array.from({ length: count }, (_, index) => index)

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("an idempotent task", (it) => {
  describe("that ends at once", () => {
    it.effect("is recorded with its claim, events and all, and its message acknowledged", () =>
      Effect.gen(function* () {
        const bus = yield* MemoryBusControl
        const agentId = yield* agent({ type: "pure", concurrency: 50 })
        const ids = yield* submit(times(300).map(() => command(agentId)))
        for (const { attempt, status } of yield* ended(ids)) {
          expect({ attempt, status }).toEqual({ attempt: 1, status: "completed" })
        }
        expect(yield* eventTypes(ids[0] ?? "")).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
        yield* untilTrue(() => bus.unacknowledged() === 0)
        expect(yield* brokenHistories).toEqual([])
      })
    )

    it.effect("runs one at a time and in order with one slot", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ type: "pure" })
        const ids = yield* submit(times(60).map(() => command(agentId)))
        yield* ended(ids)
        const mine = new Set<string>(ids)
        expect(probe.made.filter(({ taskId }) => mine.has(taskId)).map(({ taskId }) => taskId)).toEqual(ids)
      })
    )

    it.effect("is recorded once however often it is delivered", () =>
      Effect.gen(function* () {
        const bus = yield* MemoryBusControl
        bus.copies(3)
        const agentId = yield* agent({ type: "pure", concurrency: 50 })
        const ids = yield* submit(times(100).map(() => command(agentId)))
        yield* ended(ids)
        bus.copies(1)
        yield* untilTrue(() => bus.unacknowledged() === 0)
        expect(yield* brokenHistories).toEqual([])
        for (const { attempt } of yield* ended(ids)) expect(attempt).toBe(1)
      })
    )

    it.effect("and fails is tried again, counted, and failed when its attempts are used up", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ type: "pure", concurrency: 5 })
        const [id] = yield* submit([
          command(agentId, { do: "fail" }, { configuration: { retry: { max_attempts: 3, delay_ms: 1 } } })
        ])
        if (id === undefined) return
        const [found] = yield* ended([id])
        expect({ attempt: found?.attempt, status: found?.status }).toEqual({ attempt: 3, status: "failed" })
        expect(probe.of(id).map(({ number }) => number)).toEqual([1, 2, 3])
        expect(yield* brokenHistories).toEqual([])
      })
    )
  })

  describe("that lasts", () => {
    it.effect("is claimed while it runs, and interrupted when it is cancelled", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const ledger = yield* Ledger
        const bus = yield* Bus
        const agentId = yield* agent({ type: "pure", concurrency: 5 })
        const [id] = yield* submit([command(agentId, { do: "hang" })])
        if (id === undefined) return
        yield* until(statuses([id]), ([status]) => status === "running")
        const [ran] = yield* ledger.cancel(home, [id], { actor: "key:test", reason: undefined })
        expect(ran).toEqual({ id, ranOn: agentId })
        yield* bus.notify({ _tag: "Interrupt", agent: agentId, tasks: [id] })
        yield* untilTrue(() => probe.of(id)[0]?.how === "interrupted")
        expect(yield* eventTypes(id)).toEqual(["TaskCreated", "TaskStarted", "TaskCancelled"])
      })
    )

    it.effect("is recorded like any other", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ type: "pure", concurrency: 20 })
        const ids = yield* submit(times(20).map(() => command(agentId, { do: "wait", gate: "pure" })))
        yield* until(statuses(ids), (all) => all.every((status) => status === "running"))
        yield* probe.gate("pure").open
        for (const { attempt, status } of yield* ended(ids)) {
          expect({ attempt, status }).toEqual({ attempt: 1, status: "completed" })
        }
        expect(yield* brokenHistories).toEqual([])
      })
    )
  })

  it.effect("ends with its last attempt, also when that began from an outdated order", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const ledger = yield* Ledger
      const agentId = yield* agent({ type: "pure" })
      const [blocker] = yield* submit([command(agentId, { do: "wait", gate: "outdated" })])
      yield* untilTrue(() => probe.of(blocker ?? "").length > 0)
      const retry = { max_attempts: 2, delay_ms: 1 }
      const [id] = yield* submit([command(agentId, { do: "hang" }, { configuration: { retry, timeout_ms: 500 } })])
      if (id === undefined) return
      // It waits behind the other one; meanwhile its first attempt is made, and fails, elsewhere.
      const [order] = yield* until(ledger.backlog(agentId, { limit: 1 }), (orders) => orders.length > 0)
      const slot = { namespace: home, agentId, index: 7, epoch: (yield* ledger.takeOver({ agentId, index: 7 })).epoch }
      const { claimed } = yield* ledger.claim(slot, order === undefined ? [] : [order])
      for (const { attempt } of claimed) {
        yield* ledger.settle(slot, { id, namespace: home, attempt, trace: undefined }, retryAfter(1))
      }
      yield* until(statuses([id]), ([status]) => status === "queued")
      yield* probe.gate("outdated").open
      const [found] = yield* ended([id])
      expect({ attempt: found?.attempt, status: found?.status }).toEqual({ attempt: 2, status: "timeout" })
    })
  )

  it.effect("that may run at most once is claimed before it begins", () =>
    Effect.gen(function* () {
      const bus = yield* MemoryBusControl
      const probe = yield* Probe
      bus.copies(3)
      const agentId = yield* agent({ type: "pure", concurrency: 20 })
      const ids = yield* submit(
        times(40).map(() => command(agentId, {}, { configuration: { delivery: "at_most_once" } }))
      )
      yield* ended(ids)
      bus.copies(1)
      for (const id of ids) expect(probe.of(id).length).toBe(1)
    })
  )
})
