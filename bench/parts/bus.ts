/**
 * What the bus costs by itself: one process that dispatches and consumes, one nats-server, no ledger.
 *
 *   node bench/parts/bus.ts [seconds per case]
 *
 * One JSON line per case: messages and tasks per second from dispatch to acknowledgement, CPU per message and per task
 * of this process (both sides of the bus) and of nats-server. Prints nothing that depends on the machine but figures.
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Fiber, Layer, Schedule } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { Event } from "../../protocol/Event.ts"
import { AgentId, Namespace, TaskId } from "../../protocol/Ids.ts"
import { Nats } from "../../src/bus/Nats.ts"
import * as NatsBus from "../../src/bus/NatsBus.ts"
import { natsProgram } from "../../src/embedded/NatsProgram.ts"
import { makeNats } from "../../test/support/ServerMakers.ts"

const seconds = Number(process.argv[2] ?? 3)
const namespace = Namespace.make("default")
const id = (n: number) => `018f0000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`
const agent = (n: number) => AgentId.make(id(n))
const payload = { text: "x".repeat(120), numbers: [1, 2, 3], nested: { note: "y".repeat(40) } }
let serial = 0
const order = (): TaskOrder => ({
  id: TaskId.make(id(serial++), { disableChecks: true }),
  namespace,
  name: "echo",
  type: "echo",
  lane: "normal",
  payload,
  max_attempts: 3,
  trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
})

const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))
const serverMicros = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1e6
}

const round = (value: number) => Math.round(value * 100) / 100

/** Keeps `window` tasks between dispatch and acknowledgement. */
const dispatching = Effect.fnUntraced(function* (
  name: string,
  pid: number,
  shape: {
    readonly agents: number
    readonly tasksPerMessage: number
    readonly perCall: number
    readonly window: number
  }
) {
  const bus = yield* Bus
  const agents = Array.from({ length: shape.agents }, (_, index) => agent(index))
  let tasks = 0
  let messages = 0
  let open = 0
  const consumers = yield* Effect.forEach(agents, (agentId) =>
    Effect.forkScoped(
      bus.consume({
        namespace,
        agentId,
        lane: "normal",
        prefetch: 64,
        onDelivery: ({ ack, orders }) => {
          ack()
          messages++
          tasks += orders.length
          open -= orders.length
        }
      })
    )
  )
  let turn = 0
  const feed = Effect.gen(function* () {
    while (true) {
      while (open < shape.window) {
        const orders = Array.from({ length: shape.perCall }, () => {
          const agentId = agents[Math.floor(turn++ / shape.tasksPerMessage) % agents.length] ?? agent(0)
          return { agentId, tasksMax: shape.tasksPerMessage, order: order() }
        })
        open += orders.length
        yield* bus.dispatch(orders)
      }
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
  })
  const feeder = yield* Effect.forkScoped(feed)
  yield* Effect.sleep("1500 millis")
  const from = { tasks, messages, cpu: process.cpuUsage(), server: serverMicros(pid), at: performance.now() }
  yield* Effect.sleep(`${seconds} seconds`)
  const used = process.cpuUsage(from.cpu)
  const client = used.user + used.system
  const server = serverMicros(pid) - from.server
  const took = (performance.now() - from.at) / 1000
  yield* Fiber.interrupt(feeder)
  yield* Effect.repeat(
    Effect.sync(() => open),
    { until: (left) => left <= 0, schedule: Schedule.spaced("10 millis"), times: 500 }
  )
  yield* Fiber.interruptAll(consumers)
  const moved = { tasks: tasks - from.tasks, messages: messages - from.messages }
  console.log(
    JSON.stringify({
      case: name,
      messages_per_second: Math.round(moved.messages / took),
      tasks_per_second: Math.round(moved.tasks / took),
      tasks_per_message: round(moved.tasks / moved.messages),
      client_us_per_message: round(client / moved.messages),
      client_us_per_task: round(client / moved.tasks),
      server_us_per_message: round(server / moved.messages),
      lost_tasks: Math.max(0, open)
    })
  )
}, Effect.scoped)

const eventing = Effect.fnUntraced(function* (name: string, pid: number, listening: boolean) {
  const bus = yield* Bus
  let heard = 0
  let published = 0
  if (listening) yield* bus.onEvents(namespace, (events) => (heard += events.length))
  const batch = Array.from(
    { length: 250 },
    (_, number): Event => ({
      type: "TaskCompleted",
      kind: "task",
      aggregate: id(number),
      number: 3,
      at: "2026-11-23T10:00:00.123456Z",
      namespace,
      actor: "node:bench",
      trace: null,
      data: { attempt: 1, result: { success: true, data: { ok: true, text: "z".repeat(60) } } }
    })
  )
  const feeder = yield* Effect.forkScoped(
    Effect.gen(function* () {
      while (true) {
        if (!listening || published - heard < 20_000) {
          yield* bus.publishEvents(batch)
          published += batch.length
        }
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
    })
  )
  yield* Effect.sleep("1 second")
  const from = { published, cpu: process.cpuUsage(), server: serverMicros(pid), at: performance.now() }
  yield* Effect.sleep(`${seconds} seconds`)
  const used = process.cpuUsage(from.cpu)
  const took = (performance.now() - from.at) / 1000
  const events = published - from.published
  yield* Fiber.interrupt(feeder)
  console.log(
    JSON.stringify({
      case: name,
      events_per_second: Math.round(events / took),
      client_us_per_event: round((used.user + used.system) / events),
      server_us_per_event: round((serverMicros(pid) - from.server) / events)
    })
  )
}, Effect.scoped)

const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-bus-"))
const tools = fileURLToPath(new URL("../../.datamcp/tools", import.meta.url))

const main = Effect.gen(function* () {
  const nats = yield* natsProgram(tools)
  const server = yield* makeNats({ nats }, folder)
  const bus = NatsBus.layer.pipe(
    Layer.provide(Nats.layer({ servers: [server.natsUrl], tls: false, credentials: { _tag: "None" }, name: "bench" }))
  )
  yield* Effect.gen(function* () {
    const pid = server.pid()
    yield* dispatching("a task per message, one agent", pid, {
      agents: 1,
      tasksPerMessage: 1,
      perCall: 16,
      window: 256
    })
    yield* dispatching("50 tasks per message, one agent", pid, {
      agents: 1,
      tasksPerMessage: 50,
      perCall: 200,
      window: 4_000
    })
    yield* dispatching("250 tasks per message, one agent", pid, {
      agents: 1,
      tasksPerMessage: 250,
      perCall: 500,
      window: 8_000
    })
    yield* dispatching("20 tasks per message, 10 agents", pid, {
      agents: 10,
      tasksPerMessage: 20,
      perCall: 200,
      window: 4_000
    })
    yield* dispatching("20 tasks per message, 100 agents", pid, {
      agents: 100,
      tasksPerMessage: 20,
      perCall: 200,
      window: 4_000
    })
    yield* eventing("events, nobody listens", pid, false)
    yield* eventing("events, heard in the same process", pid, true)
  }).pipe(Effect.provide(bus))
})

await Effect.runPromise(main.pipe(Effect.scoped, Effect.provide(NodeServices.layer))).finally(() =>
  rmSync(folder, { recursive: true, force: true })
)
