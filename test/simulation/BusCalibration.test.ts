/**
 * Holds the model of NATS against NATS: what the actors rely on is asked of both, by the same tests. The model runs on real
 * timers here; its faults are its own and stay off.
 */
import { expect, layer } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import type { Notice } from "../../protocol/Notice.ts"
import * as Fixture from "../bus/BusFixture.ts"
import * as Chance from "./Chance.ts"
import type { Machine, Process } from "./Machine.ts"
import * as SimBus from "./SimBus.ts"

const { collect, distinct, eventually, newAgent, orders, range, taskId } = Fixture

/** As much of the machine as the bus needs, on real time. */
const realMachine: Pick<Machine, "after" | "now" | "say"> = {
  now: () => performance.now(),
  after: (millis, run) => void setTimeout(run, millis),
  say: () => {}
}

const realProcess: Pick<Process, "after" | "alive" | "name"> = {
  name: "n1",
  alive: () => true,
  after: (millis, run) => {
    const timer = setTimeout(run, millis)
    return () => clearTimeout(timer)
  }
}

const model = Layer.sync(Bus, () =>
  SimBus.make(realMachine as Machine, Chance.make(1, "bus")).of(realProcess as Process)
)

const suite = <R>(name: string, bus: Layer.Layer<Bus | R, unknown>) =>
  layer(bus, { excludeTestServices: true, timeout: "30 seconds" })(name, (it) => {
    it.effect("carries every order to whoever consumes its lane, from before and after it came", () =>
      Effect.gen(function* () {
        const { dispatch } = yield* Bus
        const agent = newAgent()
        yield* dispatch(orders(agent, range(60)))
        const consumer = yield* collect(agent)
        const count = () => distinct(consumer.tasks())
        yield* eventually("tasks", count, (seen) => seen === 60)
        yield* dispatch(orders(agent, range(60, 60)))
        yield* eventually("tasks", count, (seen) => seen === 120)
        expect(new Set(consumer.tasks())).toEqual(new Set(range(120).map(taskId)))
      })
    )

    it.effect("puts no more orders into a message than may be", () =>
      Effect.gen(function* () {
        const { dispatch } = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent)
        yield* dispatch(orders(agent, range(25), 10))
        yield* eventually(
          "tasks",
          () => distinct(consumer.tasks()),
          (seen) => seen === 25
        )
        expect(consumer.deliveries.map((delivery) => delivery.orders.length).sort((one, other) => other - one)).toEqual(
          [10, 10, 5]
        )
      })
    )

    it.effect("lets a consumer hold no more messages than it asked for", () =>
      Effect.gen(function* () {
        const { dispatch } = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent, { acknowledge: false, prefetch: 4 })
        yield* dispatch(orders(agent, range(12), 1))
        yield* eventually(
          "deliveries",
          () => consumer.deliveries.length,
          (seen) => seen >= 4
        )
        yield* Effect.sleep("200 millis")
        expect(consumer.deliveries.length).toBe(4)
        consumer.deliveries[0]?.ack()
        consumer.deliveries[1]?.ack()
        yield* eventually(
          "deliveries",
          () => consumer.deliveries.length,
          (seen) => seen === 6
        )
      })
    )

    it.effect("gives what a consumer leaves behind to another one", () =>
      Effect.gen(function* () {
        const { dispatch } = yield* Bus
        const agent = newAgent()
        const first = yield* collect(agent, { acknowledge: false })
        yield* dispatch(orders(agent, range(5), 1))
        yield* eventually(
          "deliveries",
          () => distinct(first.tasks()),
          (seen) => seen === 5
        )
        first.deliveries[0]?.ack()
        const [kept] = first.tasks()
        yield* Effect.sleep("100 millis")
        yield* Fiber.interrupt(first.fiber)
        const second = yield* collect(agent)
        yield* eventually(
          "deliveries",
          () => distinct(second.tasks()),
          (seen) => seen === 4
        )
        yield* Effect.sleep("200 millis")
        expect(new Set(second.tasks())).toEqual(
          new Set(
            range(5)
              .map(taskId)
              .filter((id) => id !== kept)
          )
        )
      })
    )

    it.effect("tells notices to everybody, whoever says them", () =>
      Effect.gen(function* () {
        const { notify, onNotice } = yield* Bus
        const heard: Array<Notice> = []
        yield* onNotice((notice) => heard.push(notice))
        yield* onNotice((notice) => heard.push(notice))
        const notice: Notice = { _tag: "Wake", agents: [{ id: newAgent(), lanes: ["normal"] }] }
        yield* Effect.sleep("100 millis")
        yield* notify(notice)
        yield* eventually(
          "notices",
          () => heard.length,
          (seen) => seen === 2
        )
        expect(heard).toEqual([notice, notice])
      })
    )
  })

suite("the real bus", Fixture.layer)
suite("the simulated bus", model)
