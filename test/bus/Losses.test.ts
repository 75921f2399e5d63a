/** The bus when its server is killed, frozen, emptied, or meddled with. */
import { rmSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream"
import { Context, Duration, Effect, Layer, Metric, Schedule } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { DispatchLimits } from "../../src/bus/DispatchPublisher.ts"
import { EventLimits } from "../../src/bus/Events.ts"
import { Nats, NatsLimits } from "../../src/bus/Nats.ts"
import * as NatsBus from "../../src/bus/NatsBus.ts"
import { ownNats } from "../support/Servers.ts"
import * as Fixture from "./BusFixture.ts"

const { busAt, collect, distinct, event, eventually, namespace, newAgent, orders, range, taskId } = Fixture

const counted = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
  Effect.map(Metric.value(metric), ({ count }) => count)

const managed = (natsUrl: string) =>
  Effect.flatMap(Fixture.stranger(natsUrl), (connection) => Effect.promise(() => jetstreamManager(connection)))

/** Waits for a stream that is there and holds what it should. */
const untilStream = (manager: JetStreamManager, name: string, holds: (messages: number) => boolean) =>
  Effect.tryPromise(() => manager.streams.info(name)).pipe(
    Effect.filterOrFail(({ state }) => holds(state.messages)),
    Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 })
  )

const dispatchLimits = (over: Partial<(typeof DispatchLimits)["Service"]>) =>
  Layer.effect(
    DispatchLimits,
    Effect.map(DispatchLimits, (limits) => ({ ...limits, ...over }))
  )

describe("a server that is killed", () => {
  it.live("gets what was dispatched while it was away, and consumers go on", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent)
        yield* bus.dispatch(orders(agent, range(10)))
        yield* eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 10
        )
        yield* nats.kill9
        yield* eventually("connected", bus.connected, (connected) => !connected)
        yield* bus.dispatch(orders(agent, range(10, 10)))
        yield* nats.start
        yield* eventually(
          "tasks",
          () => distinct(consumer.tasks()),
          (count) => count === 20
        )
        expect(bus.connected()).toBe(true)
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )

  it.live("tells events again to those who listened before, also of other nodes", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const far = Context.get(yield* Layer.build(Layer.fresh(busAt(nats.natsUrl))), Bus)
        const heard: Array<number> = []
        yield* bus.onEvents(namespace, (events) => heard.push(...events.map(({ number }) => number)))
        yield* nats.kill9
        yield* eventually("connected", bus.connected, (connected) => !connected)
        yield* bus.publishEvents([event("own", 1)])
        expect(heard).toEqual([1])
        yield* nats.start
        yield* eventually(
          "both connected",
          () => bus.connected() && far.connected(),
          (connected) => connected
        )
        yield* far.publishEvents([event("later", 2)])
        yield* eventually(
          "events",
          () => heard,
          ({ length }) => length === 2
        )
        expect(heard).toEqual([1, 2])
      }).pipe(Effect.provide(busAt(nats.natsUrl)), Effect.scoped)
    }).pipe(Effect.scoped)
  )

  it.live("with its store lost has streams and consumers again by itself", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent)
        yield* bus.dispatch(orders(agent, [1]))
        yield* eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 1
        )
        yield* nats.kill9
        rmSync(nats.storeFolder, { recursive: true })
        yield* nats.start
        yield* eventually(
          "failures of the consumer",
          () => consumer.failures.length,
          (count) => count > 0
        )
        yield* bus.dispatch(orders(agent, [2]))
        yield* eventually("tasks", consumer.tasks, (tasks) => tasks.includes(taskId(2)))
        const { config } = yield* Effect.flatMap(managed(nats.natsUrl), (manager) =>
          Effect.promise(() => manager.streams.info("EVENTS"))
        )
        expect(config.subjects).toEqual(["event.>"])
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )

  it.live("with its store lost has its streams again, though nobody uses them", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        yield* nats.kill9
        rmSync(nats.storeFolder, { recursive: true })
        yield* nats.start
        const manager = yield* managed(nats.natsUrl)
        yield* untilStream(manager, "EVENTS", (messages) => messages === 0)
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )

  it.live("never makes the bus keep more than its bounds", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      const limits = Layer.mergeAll(
        dispatchLimits({ messagesMax: 100 }),
        Layer.effect(
          EventLimits,
          Effect.map(EventLimits, (each) => ({ ...each, keptBytesMax: 10_000 }))
        )
      )
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const published = counted(Metrics.busEventsPublished)
        yield* nats.kill9
        yield* eventually("connected", bus.connected, (connected) => !connected)
        const publishedBefore = yield* published
        const droppedOrders = yield* counted(Metrics.busDropped({ kind: "dispatch" }))
        const droppedEvents = yield* counted(Metrics.busDropped({ kind: "event" }))
        for (const number of range(1_000)) {
          yield* bus.dispatch(orders(agent, [number]))
          yield* bus.publishEvents([event("many", number)])
        }
        expect((yield* counted(Metrics.busDropped({ kind: "dispatch" }))) - droppedOrders).toBe(900)
        expect((yield* counted(Metrics.busDropped({ kind: "event" }))) - droppedEvents).toBeGreaterThan(900)
        yield* nats.start
        const consumer = yield* collect(agent)
        yield* eventually(
          "tasks",
          () => distinct(consumer.tasks()),
          (count) => count === 100
        )
        const kept = (yield* published) - publishedBefore
        expect(kept).toBeGreaterThan(0)
        expect(kept).toBeLessThan(100)
        expect(new Set(consumer.tasks())).toEqual(new Set(range(100).map(taskId)))
      }).pipe(Effect.provide(busAt(nats.natsUrl).pipe(Layer.provide(limits))))
    }).pipe(Effect.scoped)
  )

  it.live("is not told of old orders for ever: they are given up and counted", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        yield* nats.kill9
        yield* eventually("connected", bus.connected, (connected) => !connected)
        const before = yield* counted(Metrics.dispatchGivenUp)
        yield* bus.dispatch(orders(agent, range(5), 1))
        yield* Effect.repeat(counted(Metrics.dispatchGivenUp), {
          until: (count) => count - before === 5,
          schedule: Schedule.spaced("10 millis"),
          times: 300
        })
        yield* nats.start
        const consumer = yield* collect(agent)
        yield* eventually("connected", bus.connected, (connected) => connected)
        yield* bus.dispatch(orders(agent, [9]))
        yield* eventually("tasks", consumer.tasks, (tasks) => tasks.includes(taskId(9)))
        expect(consumer.tasks()).toEqual([taskId(9)])
      }).pipe(
        Effect.provide(busAt(nats.natsUrl).pipe(Layer.provide(dispatchLimits({ patience: Duration.millis(500) }))))
      )
    }).pipe(Effect.scoped)
  )
})

describe("a server that is frozen for a while", () => {
  it.live("gets each message once, though its acknowledgements came too late", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent)
        const before = yield* counted(Metrics.dispatchRepeated)
        yield* nats.freeze
        yield* bus.dispatch(orders(agent, range(20), 1))
        yield* Effect.repeat(counted(Metrics.dispatchRepeated), {
          until: (count) => count - before >= 20,
          schedule: Schedule.spaced("10 millis"),
          times: 500
        })
        yield* nats.thaw
        yield* eventually(
          "tasks",
          () => distinct(consumer.tasks()),
          (count) => count === 20
        )
        yield* bus.dispatch(orders(agent, [20]))
        yield* eventually("tasks", consumer.tasks, (tasks) => tasks.includes(taskId(20)))
        expect(consumer.tasks()).toEqual(range(21).map(taskId))
      }).pipe(
        Effect.provide(busAt(nats.natsUrl).pipe(Layer.provide(dispatchLimits({ ackPatience: Duration.millis(250) }))))
      )
    }).pipe(Effect.scoped)
  )
})

describe("a server that stays frozen", () => {
  const quick = Layer.effect(
    NatsLimits,
    Effect.map(NatsLimits, (limits) => ({ ...limits, pingEvery: Duration.millis(200) }))
  )

  it.live("is sent nothing above the bound, and is left for another though what was sent is still on its way", () =>
    Effect.gen(function* () {
      const both = yield* Effect.all([ownNats(), ownNats()], { concurrency: 2 })
      const options = { ...Fixture.accessTo(""), servers: both.map(({ natsUrl }) => natsUrl) }
      const access = NatsBus.layer.pipe(Layer.provideMerge(Nats.layer(options)), Layer.provide(quick))
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const { connection, ready } = yield* Nats
        const agent = newAgent()
        const consumer = yield* collect(agent)
        const first = connection.getServer()
        const text = "x".repeat(100_000)
        const sent = connection.stats().outBytes
        yield* Effect.forEach(both, (nats) => (nats.natsUrl.endsWith(first) ? nats.freeze : Effect.void))
        // More than the socket takes by itself: the client's own way out waits for the rest.
        for (const number of range(400)) yield* bus.publishEvents([event("large", number, { data: { text } })])
        expect(ready()).toBe(false)
        expect(connection.stats().outBytes - sent).toBeLessThan(17 * 1024 * 1024)
        yield* eventually(
          "server",
          () => connection.getServer(),
          (server) => server !== first && ready(),
          5
        )
        yield* bus.dispatch(orders(agent, [1]))
        yield* eventually("tasks", consumer.tasks, (tasks) => tasks.includes(taskId(1)))
      }).pipe(Effect.provide(access), Effect.ensuring(Effect.forEach(both, (nats) => nats.thaw)))
    }).pipe(Effect.scoped)
  )
})

describe("an operator who", () => {
  it.live("deletes the stream while nobody consumes sees it again, with what is dispatched next in it", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const manager = yield* managed(nats.natsUrl)
        yield* Effect.promise(() => manager.streams.delete("TASKS"))
        yield* bus.dispatch(orders(newAgent(), range(3), 1))
        yield* untilStream(manager, "TASKS", (messages) => messages === 3)
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )

  it.live("deletes the stream sees it again, with the next dispatch", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent)
        const manager = yield* managed(nats.natsUrl)
        yield* bus.dispatch(orders(agent, [1]))
        yield* eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 1
        )
        yield* Effect.promise(() => manager.streams.delete("TASKS"))
        yield* bus.dispatch(orders(agent, [2]))
        yield* eventually(
          "failures of the consumer",
          () => consumer.failures.length,
          (count) => count > 0
        )
        yield* eventually("tasks", consumer.tasks, (tasks) => tasks.includes(taskId(2)))
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )

  it.live("deletes a consumer makes `consume` fail at once, and the next one finds what was not acknowledged", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent, { acknowledge: false })
        const manager = yield* managed(nats.natsUrl)
        yield* bus.dispatch(orders(agent, range(5), 1))
        yield* eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 5
        )
        yield* Effect.promise(() => manager.consumers.delete("TASKS", `${agent}-normal`))
        yield* eventually(
          "failures of the consumer",
          () => consumer.failures.length,
          (count) => count === 1,
          2
        )
        yield* eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 10,
          3
        )
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )

  it.live("purges the stream stops nothing that comes after", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const agent = newAgent()
        const consumer = yield* collect(agent, { acknowledge: false, prefetch: 4 })
        const manager = yield* managed(nats.natsUrl)
        yield* bus.dispatch(orders(agent, range(10), 1))
        yield* eventually(
          "tasks",
          () => consumer.tasks().length,
          (count) => count === 4
        )
        yield* Effect.promise(() => manager.streams.purge("TASKS"))
        for (const { ack } of consumer.deliveries) ack()
        yield* bus.dispatch(orders(agent, [77]))
        yield* eventually("tasks", consumer.tasks, (tasks) => tasks.includes(taskId(77)))
      }).pipe(Effect.provide(busAt(nats.natsUrl)))
    }).pipe(Effect.scoped)
  )
})

describe("a message that nobody acknowledges", () => {
  const impatient = Layer.effect(
    NatsBus.ConsumerLimits,
    Effect.map(NatsBus.ConsumerLimits, (limits) => ({ ...limits, ackWait: Duration.seconds(1) }))
  )

  it.live("comes again after `ackWait`, is counted, and stays away for as long as its holder says so", () =>
    Effect.gen(function* () {
      const nats = yield* ownNats()
      yield* Effect.gen(function* () {
        const bus = yield* Bus
        const [left, held] = [newAgent(), newAgent()]
        const leaving = yield* collect(left, { acknowledge: false })
        const holding = yield* collect(held, { acknowledge: false })
        const before = yield* counted(Metrics.dispatchRedelivered)
        yield* bus.dispatch([...orders(left, [1]), ...orders(held, [2])])
        yield* eventually(
          "the held one",
          () => holding.deliveries.length,
          (count) => count === 1
        )
        yield* Effect.forkScoped(
          Effect.repeat(
            Effect.sync(() => holding.deliveries[0]?.working()),
            Schedule.spaced("300 millis")
          )
        )
        yield* eventually(
          "deliveries of the one that was left",
          () => leaving.deliveries.length,
          (count) => count >= 3
        )
        expect(holding.deliveries.length).toBe(1)
        expect((yield* counted(Metrics.dispatchRedelivered)) - before).toBeGreaterThanOrEqual(2)
      }).pipe(Effect.provide(busAt(nats.natsUrl).pipe(Layer.provide(impatient))))
    }).pipe(Effect.scoped)
  )
})
