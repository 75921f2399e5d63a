/** A bus on a file's own nats-server, orders to put on it, and waiting for what must come. */
import { connect, type NatsConnection } from "@nats-io/transport-node"
import { Effect, Layer, Schedule } from "effect"
import { Bus, type Delivery } from "../../actors/ports/Bus.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { Event } from "../../protocol/Event.ts"
import { AgentId, Namespace, TaskId } from "../../protocol/Ids.ts"
import { Nats } from "../../src/bus/Nats.ts"
import * as NatsBus from "../../src/bus/NatsBus.ts"
import type { NatsOptions } from "../../src/bus/NatsConnecting.ts"
import { TestServers } from "../support/Servers.ts"

export const namespace = Namespace.make("default")

const id = (number: number) => `018f0000-0000-7000-8000-${number.toString(16).padStart(12, "0")}`
let agents = 0
/** Another one with each call, so that tests of one file do not meet. */
export const newAgent = () => AgentId.make(id(0xa0000 + agents++))
export const taskId = (number: number) => TaskId.make(id(number))

export const order = (number: number, over: Partial<TaskOrder> = {}): TaskOrder => ({
  id: taskId(number),
  namespace,
  name: `task ${number}`,
  type: "echo",
  lane: "normal",
  payload: { number },
  max_attempts: 3,
  ...over
})

export const orders = (agentId: AgentId, numbers: ReadonlyArray<number>, tasksMax = 250) =>
  numbers.map((number) => ({ agentId, tasksMax, order: order(number) }))

export const event = (aggregate: string, number: number, over: Partial<Event> = {}): Event => ({
  type: "TaskStarted",
  kind: "task",
  aggregate,
  number,
  at: "2026-11-23T10:00:00.000Z",
  namespace,
  actor: "node:test",
  trace: null,
  data: {},
  ...over
})

export const accessTo = (natsUrl: string): NatsOptions => ({
  servers: [natsUrl],
  tls: false,
  credentials: { _tag: "None" },
  name: "test"
})

/** The bus and its connection. */
export const busAt = (natsUrl: string) => NatsBus.layer.pipe(Layer.provideMerge(Nats.layer(accessTo(natsUrl))))

/** Its own server with it. */
export const layer = Layer.unwrap(Effect.map(TestServers, ({ natsUrl }) => busAt(natsUrl))).pipe(
  Layer.provideMerge(TestServers.layer)
)

/** A connection of somebody else, to do what we would never do. */
export const stranger = (natsUrl: string) =>
  Effect.acquireRelease(
    Effect.promise(() => connect({ servers: natsUrl, name: "stranger" })),
    (connection: NatsConnection) => Effect.promise(() => connection.close())
  )

/** Waits until `reached`, for at most `seconds`; then dies with `what` and what `reached` said last. */
export const eventually = <A>(what: string, look: () => A, reached: (seen: A) => boolean, seconds = 10) =>
  Effect.suspend(() => {
    const seen = look()
    return reached(seen) ? Effect.succeed(seen) : Effect.fail(seen)
  }).pipe(
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: seconds * 100 }),
    Effect.catch((seen) => Effect.die(new Error(`${what}: still ${JSON.stringify(seen)} after ${seconds} s`)))
  )

/** Consumes a lane in the scope, as an instance does: again after every failure. Acknowledges unless told otherwise. */
export const collect = Effect.fnUntraced(function* (
  agentId: AgentId,
  options: { readonly acknowledge?: boolean; readonly prefetch?: number } = {}
) {
  const bus = yield* Bus
  const deliveries: Array<Delivery> = []
  const failures: Array<string> = []
  const tasks = () => deliveries.flatMap((delivery) => delivery.orders.map((each) => each.id))
  const fiber = yield* bus
    .consume({
      namespace,
      agentId,
      lane: "normal",
      prefetch: options.prefetch ?? 16,
      onDelivery: (delivery) => {
        deliveries.push(delivery)
        if (options.acknowledge !== false) delivery.ack()
      }
    })
    .pipe(
      Effect.catch((error) => Effect.sync(() => failures.push(error.operation))),
      Effect.andThen(Effect.sleep("50 millis")),
      Effect.forever,
      Effect.forkScoped
    )
  return { deliveries, failures, tasks, fiber }
})

/** How many different tasks have arrived. */
export const distinct = (tasks: ReadonlyArray<string>) => new Set(tasks).size

export const range = (count: number, from = 0) => Array.from({ length: count }, (_, index) => from + index)
