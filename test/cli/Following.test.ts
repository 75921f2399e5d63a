/** Waiting for tasks and graphs from a shell: what is shown, what survives a restart, what Ctrl-C leaves behind. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "./runCli.ts"
import { type Answer, inTurn, json, problem, stubPlatform } from "./StubPlatform.ts"
import { agentId, completed, event, graph, graphId, graphTask, sse, task, taskId } from "./things.ts"

const stub = Effect.map(stubPlatform, (platform) => ({
  platform,
  env: { DATAMCP_URL: platform.url, DATAMCP_API_KEY: "dma_0123456789abcdef_secret" }
}))

/** A stream with these events that is then ended, cut, or held open. */
const stream =
  (then: "end" | "cut" | "hold", ...events: ReadonlyArray<ReturnType<typeof event>>): Answer =>
  (_asked, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" })
    response.write(`retry: 1000\n\n${events.map(sse).join("")}: still here\n\n`)
    if (then === "end") response.end()
    if (then === "cut") setImmediate(() => response.destroy())
  }

const eventsRoute = `GET /api/v1/tasks/${taskId}/events`
const taskRoute = `GET /api/v1/tasks/${taskId}`
const numbersIn = (ndjson: string) =>
  ndjson
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { number: number }).number)

describe("tasks watch", () => {
  it.live("goes on after a cut where it was, without gap or double", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      platform.on(taskRoute, inTurn(json(200, task()), json(200, completed())))
      platform.on(
        eventsRoute,
        inTurn(
          stream("cut", event(1, "TaskCreated"), event(2, "TaskStarted")),
          problem(503, "unavailable", "A part that is needed cannot be reached", { retry_after_seconds: 1 }),
          stream("end", event(2, "TaskStarted"), event(3, "TaskProgressed", { percentage: 50 })),
          stream("hold", event(4, "TaskCompleted", { execution_time_ms: 12 }))
        )
      )
      const run = yield* runCli(["tasks", "watch", taskId, "--json"], { env })
      expect(numbersIn(run.stdout)).toEqual([1, 2, 3, 4])
      const asked = platform.asked.filter(({ path }) => path.includes("/events"))
      expect(asked.map(({ headers }) => headers["last-event-id"])).toEqual(["0", "2", "2", "3"])
      expect(run.code).toBe(0)
    })
  )

  it.live("tells events as plain lines and exits with 1 when the task failed", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      const error = { code: "http_status", message: "503 from example.com" }
      platform.on(taskRoute, json(200, task({ status: "failed", result: { success: false, error } })))
      platform.on(eventsRoute, stream("end", event(1, "TaskCreated"), event(2, "TaskFailed", { error })))
      const run = yield* runCli(["tasks", "watch", taskId], { env })
      expect(run.stdout).toContain("10:00:00.000  #2  TaskFailed  http_status: 503 from example.com\n")
      expect(run.stderr).toContain("ended as failed")
      expect(run.code).toBe(1)
    })
  )

  it.live("stopped by Ctrl-C says that the task goes on and exits with 130", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      platform.on(taskRoute, json(200, task()))
      platform.on(eventsRoute, stream("hold", event(1, "TaskCreated")))
      const run = yield* runCli(["tasks", "watch", taskId], {
        env,
        onOutput: (soFar, kill) => {
          if (soFar.includes("TaskCreated") && !soFar.includes("Stopped")) kill("SIGINT")
        }
      })
      expect(run.stderr).toContain(`task ${taskId} goes on`)
      expect(run.stderr).toContain(`datamcp tasks watch ${taskId}`)
      expect(run.code).toBe(130)
      expect(platform.asked.some(({ method }) => method === "POST")).toBe(false)
    })
  )

  it.live("of an unknown task does not try again", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      platform.on(taskRoute, problem(404, "task-not-found", "No such task", { task_id: taskId }))
      const run = yield* runCli(["tasks", "watch", taskId], { env })
      expect(run.stderr).toContain("No such task")
      expect(run.code).toBe(1)
      expect(platform.asked).toHaveLength(1)
    })
  )
})

describe("tasks submit --wait", () => {
  it.live("with --json prints the ended task as its only document", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      const accepted = { ...task({ status: "queued" }), duplicate: false }
      platform.on("POST /api/v1/tasks", json(202, accepted))
      platform.on(taskRoute, inTurn(json(200, task()), json(200, completed())))
      platform.on(eventsRoute, stream("end", event(1, "TaskCreated"), event(2, "TaskCompleted")))
      const args = [
        "tasks",
        "submit",
        "echo",
        "--payload",
        "-",
        "--label",
        "team=blue",
        "--attempts",
        "2",
        "--wait",
        "--json"
      ]
      const run = yield* runCli(args, { env, stdin: `{"hello":"world"}` })
      expect(JSON.parse(run.stdout)).toMatchObject({ id: taskId, status: "completed" })
      const sent = JSON.parse(platform.asked[0]?.body ?? "") as { idempotency_key?: string }
      expect(sent).toMatchObject({
        type: "echo",
        payload: { hello: "world" },
        labels: { team: "blue" },
        configuration: { retry: { max_attempts: 2 } }
      })
      expect(sent.idempotency_key).toMatch(/^[0-9a-f-]{36}$/u)
      expect(run.code).toBe(0)
    })
  )

  it.live("sends again with the same key when the answer was lost", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      const accepted = { ...task({ status: "queued" }), duplicate: true }
      platform.on(
        "POST /api/v1/tasks",
        inTurn((_asked, response) => response.destroy(), json(202, accepted))
      )
      const run = yield* runCli(["tasks", "submit", "echo"], { env })
      expect(run.code).toBe(0)
      const keys = platform.asked.map(({ body }) => (JSON.parse(body) as { idempotency_key: string }).idempotency_key)
      expect(keys).toHaveLength(2)
      expect(keys[0]).toBe(keys[1])
    })
  )
})

const submitted = { id: graphId, name: "greeting", duplicate: false, tasks: { hello: taskId } }
const small = JSON.stringify({ tasks: { hello: { type: "echo" }, world: { type: "echo", dependencies: ["hello"] } } })

describe("graphs run", () => {
  it.live("tells each change in plain lines, ends with a table, and exits with 0 when all completed", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      platform.on("POST /api/v1/graphs", json(202, submitted))
      platform.on(`GET /api/v1/agents/${agentId}`, json(404, {}))
      platform.on(
        `GET /api/v1/graphs/${graphId}`,
        inTurn(
          json(200, graph([graphTask("world", "pending", { dependencies: ["hello"] }), graphTask("hello", "running")])),
          (_asked, response) => response.destroy(),
          json(
            200,
            graph([graphTask("world", "completed", { dependencies: ["hello"] }), graphTask("hello", "completed")])
          )
        )
      )
      const run = yield* runCli(["graphs", "run", "-"], { env, stdin: small })
      expect(run.stdout).toContain("world  pending  waits for hello\n")
      expect(run.stdout).toMatch(/hello {2}completed.*\nworld {2}completed/u)
      expect(run.stdout).toMatch(/TASK {3}STATUS {5}AGENT {2}ATTEMPT {2}TIME {3}NOTE\nhello {2}completed/u)
      expect(run.stderr).toContain("The server is away")
      expect(run.stderr).toContain("The server is back")
      expect(run.code).toBe(0)
    })
  )

  it.live("with --json prints the ended graph once, and exits with 1 when a task did not complete", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      platform.on("POST /api/v1/graphs", json(202, submitted))
      const error = { code: "sql_error", message: "no such column" }
      platform.on(`GET /api/v1/graphs/${graphId}`, json(200, graph([graphTask("hello", "failed", { error })])))
      const run = yield* runCli(["graphs", "run", "-", "--json"], { env, stdin: small })
      expect(JSON.parse(run.stdout)).toMatchObject({ id: graphId, ended: true, tasks: [{ status: "failed" }] })
      expect(run.code).toBe(1)
    })
  )

  it.live("refuses a file with an unknown field before anything is sent, naming it", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      const stdin = JSON.stringify({ tasks: { hello: { type: "echo", depends_on: ["x"] } }, colour: "red" })
      const run = yield* runCli(["graphs", "run", "-"], { env, stdin })
      expect(run.code).toBe(2)
      expect(run.stderr).toContain("tasks.hello.depends_on")
      expect(run.stderr).toContain("colour")
      expect(platform.asked).toEqual([])
    })
  )

  it.live("tells the server's word on a cycle and exits with 1", () =>
    Effect.gen(function* () {
      const { env, platform } = yield* stub
      const errors = [{ field: "tasks", message: "form a cycle: a -> b -> a" }]
      platform.on(
        "POST /api/v1/graphs",
        problem(422, "invalid-input", "The input breaks a rule", { detail: "tasks: form a cycle: a -> b -> a", errors })
      )
      const stdin = JSON.stringify({
        tasks: { a: { type: "echo", dependencies: ["b"] }, b: { type: "echo", dependencies: ["a"] } }
      })
      const run = yield* runCli(["graphs", "run", "-"], { env, stdin })
      expect(run.stderr).toBe("error: tasks: form a cycle: a -> b -> a\n")
      expect(run.code).toBe(1)
    })
  )
})
