/**
 * What the HTTP door costs by itself: use cases are stubs that answer at once, so that all of it is door.
 *
 *   node bench/parts/http.ts [seconds per case] [connections]
 *
 * One JSON line per case and way: requests per second, CPU of the serving process per request, latency. Ways: `fast` (the
 * fast lane), `long` (the router), and `raw`, node:http that parses the body and answers the same text, as the floor of
 * the machine at that moment. Each server is a process of its own; this one is the client. The first seconds of load warm
 * a server up and are not counted.
 * With wrk instead of the client here: node bench/parts/http.ts serve, then wrk -t1 -c64 -d5 against the port it prints.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:http"
import { connect } from "node:net"
import { fileURLToPath } from "node:url"
import { Effect, Layer, type Redacted } from "effect"
import { Namespace, TaskId } from "../../protocol/Ids.ts"
import { Principal, rolePermissions } from "../../protocol/Permission.ts"
import type { AcceptedTask, Task } from "../../protocol/Task.ts"
import { Agents } from "../../src/app/Agents.ts"
import { AgentVersions } from "../../src/app/AgentVersions.ts"
import { ApiKeys } from "../../src/app/ApiKeys.ts"
import { Artifacts } from "../../src/app/Artifacts.ts"
import { BehaviourCatalogue } from "../../src/app/BehaviourCatalogue.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { Hooks } from "../../src/app/Hooks.ts"
import { LimitRules } from "../../src/app/LimitRules.ts"
import { Nodes } from "../../src/app/Nodes.ts"
import { Retention } from "../../src/app/Retention.ts"
import { Schedules } from "../../src/app/Schedules.ts"
import { Signals } from "../../src/app/Signals.ts"
import { Supervision } from "../../src/app/Supervision.ts"
import { System } from "../../src/app/System.ts"
import { TaskControl } from "../../src/app/TaskControl.ts"
import { TaskStreams } from "../../src/app/TaskStreams.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { Webhooks } from "../../src/app/Webhooks.ts"
import { HttpServer, layer as httpServer } from "../../src/http/HttpServer.ts"

const id = TaskId.make("01900000-0000-7000-8000-000000000001")
const namespace = Namespace.make("default")
const accepted: AcceptedTask = {
  id,
  namespace,
  name: "fetch",
  type: "http.fetch",
  agent_id: null,
  status: "queued",
  waiting_for: null,
  priority: "normal",
  duplicate: false,
  created_at: "2026-11-23T10:00:00.000Z"
}
const task: Task = {
  ...accepted,
  payload: { url: "https://example.org/a.csv", retries: 3 },
  configuration: {},
  progress: null,
  result: null,
  parent_id: null,
  graph_id: null,
  graph_key: null,
  retry_of: null,
  run_at: null,
  deadline: null,
  labels: { team: "data" },
  metadata: {},
  attempt: 0,
  max_attempts: 3,
  started_at: null,
  completed_at: null,
  version: 2
}
const principal = Principal.of({
  actor: "key:bench",
  namespace,
  role: "admin",
  permissions: new Set(rolePermissions.admin)
})

const stubs = Layer.mergeAll(
  Layer.mock(Tasks)({ submit: () => Effect.succeed(accepted), get: () => Effect.succeed(task) }),
  Layer.mock(ApiKeys)({ authenticate: (_: Redacted.Redacted) => Effect.succeed(principal) }),
  Layer.mock(TaskControl)({}),
  Layer.mock(Retention)({}),
  Layer.mock(Graphs)({}),
  Layer.mock(Agents)({}),
  Layer.mock(Signals)({}),
  Layer.mock(TaskStreams)({}),
  Layer.mock(AgentVersions)({}),
  Layer.mock(Artifacts)({}),
  Layer.mock(Schedules)({}),
  Layer.mock(LimitRules)({}),
  Layer.mock(Nodes)({ list: Effect.never }),
  Layer.mock(Supervision)({}),
  Layer.mock(BehaviourCatalogue)({ list: Effect.never }),
  Layer.mock(System)({ readiness: Effect.never }),
  Layer.mock(Webhooks)({}),
  Layer.mock(Hooks)({})
)

const serve = (options: { readonly fastLane: boolean }) =>
  Effect.gen(function* () {
    const { port } = yield* HttpServer
    process.send?.({ port })
    if (process.send === undefined) console.log(`http://127.0.0.1:${port}`)
    process.on("message", () => process.send?.(process.cpuUsage()))
    return yield* Effect.never
  }).pipe(
    Effect.provide(Layer.provide(httpServer({ host: "127.0.0.1", port: 0, ...options }), stubs)),
    Effect.runPromise
  )

const serveRaw = async () => {
  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const sent: unknown = chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString())
      const text = JSON.stringify(sent === undefined ? task : accepted)
      response.writeHead(sent === undefined ? 200 : 202, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text)
      })
      response.end(text)
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  process.send?.({ port: typeof address === "object" && address !== null ? address.port : 0 })
  process.on("message", () => process.send?.(process.cpuUsage()))
}

const body = JSON.stringify({
  type: "http.fetch",
  payload: { url: "https://example.org/a.csv", retries: 3, note: "x".repeat(40) },
  priority: "normal",
  labels: { team: "data" }
})
const head = "Host: localhost\r\nAuthorization: Bearer dma_benchbenchbench1_0123456789012345678901234567890123456789012"
const post = `POST /api/v1/tasks HTTP/1.1\r\n${head}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
const get = `GET /api/v1/tasks/${id} HTTP/1.1\r\n${head}\r\n\r\n`

/** Sends one request after another over each connection until the time is over. */
const load = async (port: number, request: string, connections: number, millis: number) => {
  const latencies: Array<number> = []
  const end = performance.now() + millis
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = connect(port, "127.0.0.1")
      socket.setNoDelay(true)
      let sentAt = performance.now()
      socket.write(request)
      // Every answer is small and of one write, so that a chunk is an answer.
      for await (const chunk of socket) {
        if (!chunk.toString("latin1", 9, 12).startsWith("20")) console.error(chunk.toString())
        const now = performance.now()
        latencies.push(now - sentAt)
        if (now >= end) break
        sentAt = now
        socket.write(request)
      }
    })
  )
  return latencies.sort((a, b) => a - b)
}

const cpuMicros = async (server: ChildProcess) => {
  server.send("cpu")
  const [usage] = await once(server, "message")
  return usage.user + usage.system
}

const round = (value: number) => Math.round(value * 100) / 100

const measure = async (
  name: string,
  request: string,
  way: "raw" | "fast" | "long",
  connections: number,
  seconds: number
) => {
  const server = fork(fileURLToPath(import.meta.url), ["serve", way])
  const [{ port }] = await once(server, "message")
  await load(port, request, connections, 4_000)
  const before = await cpuMicros(server)
  const start = performance.now()
  const latencies = await load(port, request, connections, seconds * 1000)
  const elapsed = (performance.now() - start) / 1000
  const micros = (await cpuMicros(server)) - before
  server.kill()
  await once(server, "exit")
  const at = (share: number) => round(latencies[Math.floor(latencies.length * share)] ?? 0)
  console.log(
    JSON.stringify({
      part: "http",
      case: name,
      way,
      connections,
      requests_per_second: Math.round(latencies.length / elapsed),
      cpu_us_per_request: round(micros / latencies.length),
      p50_ms: at(0.5),
      p99_ms: at(0.99)
    })
  )
}

if (process.argv[2] === "serve" && process.argv[3] === "raw") await serveRaw()
else if (process.argv[2] === "serve") await serve({ fastLane: process.argv[3] !== "long" })
else {
  const seconds = Number(process.argv[2] ?? 4)
  const connections = Number(process.argv[3] ?? 64)
  for (const way of ["raw", "fast", "long"] as const) {
    await measure("POST /tasks", post, way, connections, seconds)
    await measure("GET /tasks/{id}", get, way, connections, seconds)
  }
}
