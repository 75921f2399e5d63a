/** The bus on a real nats-server that stays up. */

import { expect, layer as sharedLayer } from "@effect/vitest"
import { jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import { Context, Effect, Fiber, Layer, Metric } from "effect"
import { Bus, type EventBatch } from "../../actors/ports/Bus.ts"
import { type AgentId, Namespace } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { Notice } from "../../protocol/Notice.ts"
import { Nats } from "../../src/bus/Nats.ts"
import { TestServers } from "../support/Servers.ts"
import * as Fixture from "./BusFixture.ts"

const { collect, distinct, event, eventually, namespace, newAgent, orders, range, taskId } = Fixture

const counted = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
  Effect.map(Metric.value(metric), ({ count }) => count)

/** What the server knows of the consumer of an agent's normal lane. */
const lane = (agent: AgentId) =>
  Effect.flatMap(Nats, ({ manager }) => Effect.promise(() => manager.consumers.info("TASKS", `${agent}-normal`)))

sharedLayer(Fixture.layer, { excludeTestServices: true, timeout: "30 seconds" })("the bus", (it) => {
  it.effect("carries orders to whoever consumes their agent's lane, once", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      yield* bus.dispatch(orders(agent, range(300)))
      const consumer = yield* collect(agent)
      yield* eventually(
        "tasks",
        () => consumer.tasks().length,
        (count) => count >= 300
      )
      yield* bus.dispatch(orders(agent, [300]))
      yield* eventually(
        "tasks",
        () => consumer.tasks().length,
        (count) => count >= 301
      )
      expect(consumer.tasks()).toEqual(range(301).map(taskId))
    })
  )

  it.effect("shows nothing of what it carries to those who may read inboxes", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const { natsUrl } = yield* TestServers
      const listener = yield* Effect.acquireRelease(
        Effect.promise(() => connect({ servers: natsUrl })),
        (open) => Effect.promise(() => open.close())
      )
      const overheard: Array<string> = []
      listener.subscribe("_INBOX.>", { callback: (_, message) => void overheard.push(message.subject) })
      yield* Effect.promise(() => listener.flush())
      const agent = newAgent()
      yield* bus.dispatch(orders(agent, range(20)))
      const consumer = yield* collect(agent)
      yield* eventually(
        "tasks",
        () => consumer.tasks().length,
        (count) => count >= 20
      )
      yield* Effect.promise(() => listener.flush())
      expect(overheard).toEqual([])
    })
  )

  it.effect("leaves nothing behind of what was acknowledged", () =>
    Effect.gen(function* () {
      const { natsUrl } = yield* TestServers
      const bus = yield* Bus
      const agent = newAgent()
      const consumer = yield* collect(agent)
      yield* bus.dispatch(orders(agent, range(50), 1))
      yield* eventually(
        "tasks",
        () => consumer.tasks().length,
        (count) => count === 50
      )
      const stranger = yield* Fixture.stranger(natsUrl)
      const manager = yield* Effect.promise(() => jetstreamManager(stranger))
      const left = Effect.promise(() => manager.streams.info("TASKS", { subjects_filter: `task.default.${agent}.*` }))
      yield* Effect.repeat(left, { until: ({ state }) => Object.keys(state.subjects ?? {}).length === 0, times: 200 })
      expect((yield* left).state.subjects ?? {}).toEqual({})
    })
  )

  it.effect("shares an agent's lane between its consumers", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      const one = yield* collect(agent, { acknowledge: false, prefetch: 10 })
      const other = yield* collect(agent, { acknowledge: false, prefetch: 10 })
      yield* bus.dispatch(orders(agent, range(20), 1))
      yield* eventually(
        "tasks of each",
        () => [one.tasks().length, other.tasks().length],
        ([a, b]) => a === 10 && b === 10
      )
      expect(distinct([...one.tasks(), ...other.tasks()])).toBe(20)
    })
  )

  it.effect("never puts more than `prefetch` unacknowledged messages into one hand", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      const consumer = yield* collect(agent, { acknowledge: false, prefetch: 8 })
      yield* bus.dispatch(orders(agent, range(100), 1))
      yield* eventually(
        "messages",
        () => consumer.deliveries.length,
        (count) => count === 8
      )
      // Nothing more is asked for, so nothing more can come.
      expect(yield* lane(agent)).toMatchObject({ num_ack_pending: 8, num_waiting: 0, num_pending: 92 })
      for (const { ack } of consumer.deliveries.slice(0, 8)) ack()
      yield* eventually(
        "messages",
        () => consumer.deliveries.length,
        (count) => count === 16
      )
    })
  )

  it.effect("gives what an interrupted consumer held to the next at once", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      const first = yield* collect(agent, { acknowledge: false, prefetch: 64 })
      yield* bus.dispatch(orders(agent, range(40), 1))
      yield* eventually(
        "tasks",
        () => first.tasks().length,
        (count) => count === 40
      )
      yield* Fiber.interrupt(first.fiber)
      const second = yield* collect(agent, { prefetch: 64 })
      // Far below the server's own 30 s.
      yield* eventually(
        "tasks",
        () => distinct(second.tasks()),
        (count) => count === 40,
        3
      )
    })
  )

  it.effect("loses nothing to consumers that are interrupted in full flow", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      const arrived: Array<string> = []
      const consume = bus.consume({
        namespace,
        agentId: agent,
        lane: "normal",
        prefetch: 256,
        onDelivery: ({ ack, orders }) => {
          arrived.push(...orders.map(({ id }) => id))
          ack()
        }
      })
      for (const turn of range(8)) {
        yield* bus.dispatch(orders(agent, range(1_000, turn * 1_000), 1))
        const before = arrived.length
        const fiber = yield* Effect.forkScoped(consume)
        yield* eventually(
          "tasks",
          () => arrived.length - before,
          (count) => count > 300
        )
        yield* Fiber.interrupt(fiber)
      }
      yield* Effect.forkScoped(consume)
      // Far below the server's own 30 s.
      yield* eventually(
        "tasks",
        () => distinct(arrived),
        (count) => count === 8_000,
        5
      )
    })
  )

  it.effect("lets an acknowledgement count once, whatever is said after it", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      const consumer = yield* collect(agent, { acknowledge: false, prefetch: 1 })
      yield* bus.dispatch(orders(agent, range(3), 1))
      yield* eventually(
        "messages",
        () => consumer.deliveries.length,
        (count) => count === 1
      )
      const [delivery] = consumer.deliveries
      delivery?.ack()
      delivery?.ack()
      delivery?.working()
      yield* eventually(
        "messages",
        () => consumer.deliveries.length,
        (count) => count === 2
      )
      expect(yield* lane(agent)).toMatchObject({ num_ack_pending: 1, num_waiting: 0, num_pending: 1 })
    })
  )

  it.effect("does not stall on messages that are none of ours: they are counted and never come again", () =>
    Effect.gen(function* () {
      const { natsUrl } = yield* TestServers
      const bus = yield* Bus
      const agent = newAgent()
      const consumer = yield* collect(agent)
      const stranger = yield* Fixture.stranger(natsUrl)
      const before = yield* counted(Metrics.busUndecodable({ kind: "dispatch" }))
      const subject = `task.default.${agent}.normal`
      const bad = ["", "garbage", "{}", '{"version":9,"orders":[{}]}', "\u0000", `{"version":1,"orders":[{"id":1}]}`]
      for (const number of range(2_000)) stranger.publish(subject, bad[number % bad.length])
      yield* Effect.promise(() => stranger.flush())
      yield* bus.dispatch(orders(agent, range(20), 1))
      yield* eventually(
        "tasks",
        () => consumer.tasks().length,
        (count) => count === 20
      )
      const after = yield* counted(Metrics.busUndecodable({ kind: "dispatch" }))
      expect(after - before).toBe(2_000)
      const seen = yield* Effect.repeat(lane(agent), { until: (each) => each.num_ack_pending === 0, times: 200 })
      expect(seen).toMatchObject({ num_ack_pending: 0, num_redelivered: 0, num_pending: 0 })
    })
  )

  it.effect("goes on when a handler throws, and offers the message again later", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const agent = newAgent()
      const seen: Array<string> = []
      yield* Effect.forkScoped(
        bus.consume({
          namespace,
          agentId: agent,
          lane: "normal",
          prefetch: 4,
          onDelivery: (delivery) => {
            const [first] = delivery.orders
            seen.push(first?.id ?? "")
            if (seen.length === 1) throw new Error("a handler's own mistake")
            delivery.ack()
          }
        })
      )
      yield* bus.dispatch(orders(agent, range(10), 1))
      yield* eventually(
        "tasks",
        () => distinct(seen),
        (count) => count === 10
      )
      yield* eventually(
        "deliveries of the first",
        () => seen.filter((id) => id === taskId(0)).length,
        (n) => n === 2
      )
    })
  )

  it.effect(
    "brings notices to all handlers, of this node too, and outlives one that throws and one that is nonsense",
    () =>
      Effect.gen(function* () {
        const { natsUrl } = yield* TestServers
        const bus = yield* Bus
        const agent = newAgent()
        const heard: Array<Notice> = []
        yield* bus.onNotice(() => {
          throw new Error("a handler's own mistake")
        })
        yield* bus.onNotice((notice) => heard.push(notice))
        const stranger = yield* Fixture.stranger(natsUrl)
        for (const text of ["", "nonsense", "{}", '{"_tag":"Wake","agents":"*"}', '{"_tag":"FromTheFuture"}']) {
          stranger.publish("notice.Wake", text)
        }
        yield* Effect.promise(() => stranger.flush())
        const notice: Notice = { _tag: "Wake", agents: [{ id: agent, lanes: ["high"] }] }
        yield* bus.notify(notice)
        yield* eventually(
          "notices",
          () => heard,
          ({ length }) => length === 1
        )
        expect(heard).toEqual([notice])
      })
  )

  it.effect("splits a notice that names more tasks than one message takes", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const heard: Array<string> = []
      yield* bus.onNotice((notice) => {
        if (notice._tag === "Interrupt") heard.push(...notice.tasks)
      })
      yield* bus.notify({ _tag: "Interrupt", agent: newAgent(), tasks: range(40_000).map(taskId) })
      yield* eventually(
        "tasks",
        () => heard.length,
        (count) => count === 40_000
      )
    })
  )

  it.effect("tells events to the listeners of every node once: those of its own at once, the others over NATS", () =>
    Effect.gen(function* () {
      const { natsUrl } = yield* TestServers
      const bus = yield* Bus
      const far = Context.get(yield* Layer.build(Layer.fresh(Fixture.busAt(natsUrl))), Bus)
      const [here, there]: [Array<number>, Array<number>] = [[], []]
      const agent = newAgent()
      const mine = (heard: Array<number>) => (events: EventBatch) =>
        heard.push(...events.filter(({ aggregate }) => aggregate === agent).map(({ number }) => number))
      yield* bus.onEvents(namespace, mine(here))
      yield* far.onEvents(namespace, mine(there))
      yield* bus.publishEvents(range(300, 1).map((number) => event(agent, number)))
      expect(here).toEqual(range(300, 1))
      yield* eventually(
        "events of another node",
        () => there.length,
        (count) => count >= 300
      )
      expect(there).toEqual(range(300, 1))
      yield* far.publishEvents([event(agent, 301)])
      yield* eventually(
        "an event from another node",
        () => here.length,
        (count) => count > 300
      )
      expect(here).toEqual(range(301, 1))
    })
  )

  it.effect("tells events to those who listen to their namespace, in order, and to nobody else", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const other = Namespace.make("other")
      const mine: Array<number> = []
      const theirs: Array<number> = []
      yield* bus.onEvents(namespace, () => {
        throw new Error("a handler's own mistake")
      })
      yield* bus.onEvents(namespace, (events) => mine.push(...events.map(({ number }) => number)))
      yield* bus.onEvents(other, (events) => theirs.push(...events.map(({ number }) => number)))
      const agent = newAgent()
      yield* bus.publishEvents([
        ...range(600, 1).map((number) => event(agent, number)),
        event(agent, 1, { namespace: other }),
        event(agent, 1, { namespace: Namespace.make("unheard") })
      ])
      yield* eventually(
        "events",
        () => mine.length,
        (count) => count >= 600
      )
      yield* eventually(
        "events of the other",
        () => theirs.length,
        (count) => count >= 1
      )
      expect(mine).toEqual(range(600, 1))
      expect(theirs).toEqual([1])
    })
  )

  it.effect("stops telling events when the listener's scope closes", () =>
    Effect.gen(function* () {
      const bus = yield* Bus
      const heard: Array<number> = []
      const staying: Array<number> = []
      yield* bus.onEvents(namespace, (events) => staying.push(...events.map(({ number }) => number)))
      yield* Effect.scoped(bus.onEvents(namespace, (events) => heard.push(...events.map(({ number }) => number))))
      yield* bus.publishEvents([event(newAgent(), 41)])
      yield* eventually(
        "events",
        () => staying,
        (numbers) => numbers.includes(41)
      )
      expect(heard).toEqual([])
    })
  )

  it.effect("leaves out events of types that it does not know, and foreign ones, and tells the rest", () =>
    Effect.gen(function* () {
      const { natsUrl } = yield* TestServers
      const bus = yield* Bus
      const heard: Array<number> = []
      yield* bus.onEvents(namespace, (events) => heard.push(...events.map(({ number }) => number)))
      const stranger = yield* Fixture.stranger(natsUrl)
      const agent = newAgent()
      const mixed = [
        event(agent, 1),
        { ...event(agent, 2), type: "TaskTeleported" },
        event(agent, 3, { namespace: Namespace.make("other") }),
        event(agent, 4)
      ]
      for (const text of ["nonsense", "{}", JSON.stringify(mixed)]) stranger.publish("event.default.task", text)
      yield* eventually(
        "events",
        () => heard,
        ({ length }) => length === 2
      )
      expect(heard).toEqual([1, 4])
    })
  )

  it.effect("keeps published events in a stream for replay", () =>
    Effect.gen(function* () {
      const { natsUrl } = yield* TestServers
      const bus = yield* Bus
      const replayed = Namespace.make("replayed")
      yield* bus.publishEvents([event(newAgent(), 1, { namespace: replayed })])
      const stranger = yield* Fixture.stranger(natsUrl)
      const manager = yield* Effect.promise(() => jetstreamManager(stranger))
      const find = Effect.promise(() => manager.streams.getMessage("EVENTS", { last_by_subj: "event.replayed.task" }))
      const found = yield* Effect.repeat(find, { until: (message) => message !== null, times: 200 })
      expect(found?.json()).toMatchObject([{ namespace: "replayed", number: 1 }])
    })
  )
})
