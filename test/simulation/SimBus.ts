/**
 * A simulated NATS behind the `Bus` of each process: messages are delivered at least once, out of order, twice, late, or,
 * when the store is lost, not at all; notices are lost at will.
 *
 *   published --> [lost | stored once or twice] --> waiting --> delivered --> acknowledged
 *                                                     ^            |
 *                                                     '-- ack wait | released
 *
 * Nothing here is kinder than `src/bus/NatsBus.ts` is: a message may come again after its acknowledgement was lost, and the
 * consumers of a lost store fail late, or hear nothing more.
 */
import { Effect } from "effect"
import { Bus, BusUnavailable, type Delivery } from "../../actors/ports/Bus.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { Notice } from "../../protocol/Notice.ts"
import type { Chance } from "./Chance.ts"
import type { Machine, Process } from "./Machine.ts"

export interface BusFaults {
  readonly latencyMillis: number
  readonly dispatchLost: number
  /** A message is stored twice. */
  readonly doubled: number
  readonly acknowledgementLost: number
  readonly noticeLost: number
}

export const healthy: BusFaults = {
  latencyMillis: 2,
  dispatchLost: 0,
  doubled: 0,
  acknowledgementLost: 0,
  noticeLost: 0
}

/** As `ConsumerLimits.ackWait`. */
const ackWaitMillis = 30_000

interface Message {
  readonly serial: number
  readonly orders: ReadonlyArray<TaskOrder>
  /** Counts deliveries; acknowledgements of earlier ones count too. */
  deliveries: number
}

interface Consumer {
  readonly process: Process
  readonly prefetch: number
  readonly held: Map<number, Message>
  readonly onDelivery: (delivery: Delivery) => void
  readonly fail: () => void
  open: boolean
}

interface Lane {
  waiting: Array<Message>
  /** Stored and neither waiting nor acknowledged. */
  readonly out: Map<number, Message>
  consumers: Array<Consumer>
}

export interface SimBus {
  readonly of: (process: Process) => Bus["Service"]
  readonly setFaults: (faults: BusFaults) => void
  /** Nobody reaches the server. */
  readonly outage: (millis: number) => void
  /** Everything that is stored is gone, consumers too. */
  readonly loseStore: () => void
  /** Messages in the hands of consumers. */
  readonly held: () => number
  readonly delivered: () => number
}

export const make = (machine: Machine, chance: Chance): SimBus => {
  const lanes = new Map<string, Lane>()
  const listeners = new Set<{ readonly process: Process; readonly handler: (notice: Notice) => void }>()
  let faults = healthy
  let awayUntil = 0
  let serial = 0
  let delivered = 0

  const isAway = () => machine.now() < awayUntil
  const latency = () => 1 + chance.below(Math.max(1, faults.latencyMillis))

  const laneOf = (agentId: string, lane: string) => {
    const subject = `${agentId}.${lane}`
    const known = lanes.get(subject)
    if (known !== undefined) return known
    const made: Lane = { waiting: [], out: new Map(), consumers: [] }
    lanes.set(subject, made)
    return made
  }

  const pump = (lane: Lane) => {
    while (lane.waiting.length > 0 && !isAway()) {
      const free = lane.consumers.filter(
        ({ held, open, prefetch, process }) => open && process.alive() && held.size < prefetch
      )
      if (free.length === 0) return
      const [message] = lane.waiting.splice(chance.is(0.8) ? 0 : chance.below(lane.waiting.length), 1)
      if (message !== undefined) deliver(lane, message, chance.of(free))
    }
  }

  const putBack = (lane: Lane, message: Message) => {
    if (!lane.out.delete(message.serial)) return
    lane.waiting.push(message)
    pump(lane)
  }

  const deliver = (lane: Lane, message: Message, consumer: Consumer) => {
    const delivery = ++message.deliveries
    consumer.held.set(message.serial, message)
    lane.out.set(message.serial, message)
    const expect = () =>
      machine.after(ackWaitMillis, () => {
        if (message.deliveries !== delivery || !lane.out.has(message.serial)) return
        if (workedOn) {
          workedOn = false
          return expect()
        }
        consumer.held.delete(message.serial)
        putBack(lane, message)
      })
    let workedOn = false
    expect()
    consumer.process.after(latency(), () => {
      if (!consumer.open) return
      delivered++
      machine.say(`${consumer.process.name} gets message ${message.serial} (${message.orders.length} orders)`)
      consumer.onDelivery({
        orders: message.orders,
        working: () => {
          workedOn = !isAway()
        },
        ack: () => {
          if (!consumer.held.delete(message.serial)) return
          if (!isAway() && !chance.is(faults.acknowledgementLost)) lane.out.delete(message.serial)
          pump(lane)
        }
      })
    })
  }

  const store = (lane: Lane, orders: ReadonlyArray<TaskOrder>) => {
    const copies = chance.is(faults.doubled) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const message = { serial: serial++, orders, deliveries: 0 }
      machine.after(latency(), () => {
        if (isAway()) return
        lane.waiting.push(message)
        pump(lane)
      })
    }
  }

  const of = (process: Process): Bus["Service"] =>
    Bus.of({
      connected: () => !isAway(),
      survey: () => Effect.succeed(new Map()),
      onSurvey: () => Effect.void,
      dispatch: (orders) =>
        Effect.sync(() => {
          const messages = new Map<string, Array<Array<TaskOrder>>>()
          for (const { agentId, order, tasksMax } of orders) {
            const key = `${agentId}.${order.lane}`
            const known = messages.get(key) ?? [[]]
            messages.set(key, known)
            const last = known.at(-1)
            if (last !== undefined && last.length < tasksMax) last.push(order)
            else known.push([order])
          }
          for (const [key, all] of messages) {
            const [agentId = "", lane = ""] = key.split(".")
            for (const each of all) {
              if (!isAway() && !chance.is(faults.dispatchLost)) store(laneOf(agentId, lane), each)
            }
          }
        }),
      consume: ({ agentId, lane: name, onDelivery, prefetch }) =>
        Effect.callback((resume) => {
          const away = () => resume(Effect.fail(new BusUnavailable({ operation: "consume", cause: "it is gone" })))
          if (isAway()) {
            process.after(latency(), away)
            return
          }
          const lane = laneOf(agentId, name)
          const consumer: Consumer = { process, prefetch, held: new Map(), onDelivery, fail: away, open: true }
          lane.consumers.push(consumer)
          process.after(latency(), () => pump(lane))
          return Effect.sync(() => {
            consumer.open = false
            lane.consumers = lane.consumers.filter((each) => each !== consumer)
            if (!isAway()) for (const message of consumer.held.values()) putBack(lane, message)
          })
        }),
      notify: (notice) =>
        Effect.sync(() => {
          if (isAway()) return
          for (const listener of listeners) {
            if (!chance.is(faults.noticeLost)) {
              listener.process.after(latency(), () => {
                if (listeners.has(listener)) listener.handler(notice)
              })
            }
          }
        }),
      onNotice: (handler) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => {
              const listener = { process, handler }
              listeners.add(listener)
              return listener
            }),
            (listener) => Effect.sync(() => listeners.delete(listener))
          )
        ),
      publishEvents: () => Effect.void,
      onEvents: () => Effect.void,
      publishChunks: () => Effect.void,
      onChunks: () => Effect.void
    })

  const live = () => [...lanes.values()].flatMap(({ consumers }) => consumers).filter(({ process }) => process.alive())

  return {
    of,
    setFaults: (next) => {
      faults = next
    },
    outage: (millis) => {
      machine.say(`nats is away for ${millis} ms`)
      awayUntil = machine.now() + millis
      machine.after(millis, () => {
        for (const lane of lanes.values()) pump(lane)
      })
    },
    loseStore: () => {
      machine.say("nats loses its store")
      for (const lane of lanes.values()) {
        lane.waiting = []
        lane.out.clear()
        for (const consumer of lane.consumers) {
          consumer.open = false
          // Some hear of it; the others only miss the heartbeats.
          consumer.process.after(chance.is(0.5) ? latency() : chance.between(1_000, 13_000), consumer.fail)
        }
        lane.consumers = []
      }
    },
    held: () => live().reduce((sum, { held }) => sum + held.size, 0),
    delivered: () => delivered
  }
}
