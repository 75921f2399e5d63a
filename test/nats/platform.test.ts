/** The protocol over NATS against a whole node: real use cases, real Postgres, real JetStream. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { servePlatform } from "./ServedPlatform.ts"
import { rawClient } from "./support.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const run = (file: string, args: ReadonlyArray<string>, environment: Record<string, string>) =>
  Effect.promise(
    () =>
      new Promise<{ code: number | null; output: string }>((resolve) => {
        let output = ""
        const child = spawn(process.execPath, [file, ...args], { cwd: root, env: { ...process.env, ...environment } })
        child.stdout.on("data", (bytes: Buffer) => (output += bytes.toString()))
        child.stderr.on("data", (bytes: Buffer) => (output += bytes.toString()))
        child.once("exit", (code) => resolve({ code, output }))
      })
  )

describe("a whole node", () => {
  it.live(
    "carries tasks submitted over NATS to their recorded end",
    () =>
      Effect.gen(function* () {
        const platform = yield* servePlatform()
        const client = yield* rawClient(platform.nats.natsUrl)
        const headers = { Authorization: `Bearer ${platform.key}` }
        const ask = (endpoint: string, body: unknown, more: Record<string, string> = {}) =>
          Effect.promise(() => client.request(`datamcp.v1.default.${endpoint}`, body, { ...headers, ...more }))

        const submitted = yield* ask("tasks.submit", { agent: "echo", payload: { n: 1 } }, { "Idempotency-Key": "one" })
        expect(submitted.headers["nats-service-error"]).toBeUndefined()
        const again = yield* ask("tasks.submit", { agent: "echo", payload: { n: 1 } }, { "Idempotency-Key": "one" })
        expect(again.json).toMatchObject({ id: submitted.json.id, duplicate: true })
        const other = yield* ask("tasks.submit", { agent: "echo", payload: { n: 2 } }, { "Idempotency-Key": "one" })
        expect(other.json).toMatchObject({ status: 422, type: "urn:datamcp:problem:idempotency-mismatch" })

        const done = yield* ask("tasks.wait", { id: submitted.json.id })
        expect(done.json).toMatchObject({
          status: "completed",
          attempt: 1,
          result: { success: true, data: { echo: { n: 1 } } }
        })
        const events = yield* ask("tasks.events", { id: submitted.json.id })
        expect(events.json.data.map(({ type }: { type: string }) => type)).toContain("TaskCompleted")

        const batch = yield* ask("tasks.batch", [
          { agent: "echo", payload: 1 },
          { agent: "nobody" },
          { agent: "echo", payload: 3 }
        ])
        expect(batch.json).toMatchObject({
          accepted: 2,
          refused: 1,
          data: [{ status: 202 }, { index: 1 }, { status: 202 }]
        })

        const idle = { ...{ type: "nobody.can", configuration: { queue_timeout_ms: 300 } }, unique: { key: "held" } }
        const holder = yield* ask("tasks.submit", idle)
        const refused = yield* ask("tasks.submit", idle)
        expect(refused.headers["nats-service-error-code"]).toBe("409")
        expect(refused.json).toMatchObject({
          type: "urn:datamcp:problem:unique-key-held",
          task_id: holder.json.id
        })
        const typing = (n: number) => ({
          agent: "echo",
          payload: n,
          coalesce: { key: "t", keep: "latest", quiet_ms: 200 }
        })
        const first = yield* ask("tasks.submit", typing(1))
        const joined = yield* ask("tasks.submit", typing(2))
        expect(joined.json).toMatchObject({ id: first.json.id, coalesced: true })
        const unlike = yield* ask("tasks.submit", { ...typing(3), coalesce: { ...typing(3).coalesce, keep: "all" } })
        expect(unlike.json).toMatchObject({ status: 409, field: "coalesce.keep" })
        expect((yield* ask("tasks.wait", { id: first.json.id })).json).toMatchObject({ result: { data: { echo: 2 } } })
        expect((yield* ask("tasks.wait", { id: holder.json.id })).json).toMatchObject({
          status: "timeout",
          result: { error: { code: "queue_timeout" } }
        })

        const graph = yield* ask("tasks.graph", {
          tasks: {
            first: { agent: "echo", payload: { rows: 7 } },
            second: {
              agent: "echo",
              payload: { of: { $result: "first", path: "/echo/rows" } },
              dependencies: ["first"]
            }
          }
        })
        const second = yield* ask("tasks.wait", { id: graph.json.tasks.second })
        expect(second.json).toMatchObject({ status: "completed", result: { data: { echo: { of: 7 } } } })

        expect((yield* ask("graphs.wait", { id: graph.json.id })).json).toMatchObject({
          ended: true,
          counts: { completed: 2 }
        })
        expect((yield* ask("graphs.list", { limit: 1 })).json.data).toMatchObject([{ id: graph.json.id }])
        expect((yield* ask("graphs.cancel", { id: graph.json.id })).json).toMatchObject({ status: 409 })
        expect((yield* ask("graphs.retry", { id: graph.json.id })).json).toMatchObject({ status: 409 })
        expect((yield* ask("graphs.get", { id: second.json.id })).json).toMatchObject({ status: 404 })

        const slow = yield* ask("tasks.submit", { agent: "echo", payload: { sleep_ms: 30_000 } })
        const cancelled = yield* ask("tasks.cancel", { id: slow.json.id, reason: "not needed" })
        expect(cancelled.json).toMatchObject({ status: "cancelled" })
        expect((yield* ask("tasks.cancel", { id: slow.json.id })).json).toMatchObject({ status: 409 })
        expect((yield* ask("tasks.retry", { id: slow.json.id })).json).toMatchObject({ type: "echo" })
        expect((yield* ask("tasks.list", { limit: 3 })).json.data).toHaveLength(3)
        expect((yield* ask("agents.metrics", { agent: "echo" })).json.completed).toBeGreaterThan(2)

        const failing = yield* ask("tasks.submit", {
          ...{ agent: "echo", labels: { run: "dead" } },
          payload: { fail: { retryable: false }, customer: { id: 9 } }
        })
        expect((yield* ask("tasks.wait", { id: failing.json.id })).json).toMatchObject({ status: "failed" })
        const where = { status: ["failed", "timeout"], where: "payload./customer/id=9" }
        expect((yield* ask("tasks.list", where)).json.data).toMatchObject([{ id: failing.json.id }])
        expect((yield* ask("tasks.attempts", { id: failing.json.id })).json.data).toMatchObject([
          { attempt: 1, outcome: "failed", error: { code: "failed_on_request" }, instance: 0 }
        ])
        expect((yield* ask("dead_letters.list", { label: "run=dead" })).json.data).toMatchObject([
          { task: { id: failing.json.id }, attempts: [{ outcome: "failed" }] }
        ])
        const replayed = yield* ask("dead_letters.replay", { id: failing.json.id, payload: { fixed: true } })
        expect((yield* ask("tasks.wait", { id: replayed.json.id })).json).toMatchObject({
          status: "completed",
          retry_of: failing.json.id
        })
        expect((yield* ask("dead_letters.list", { label: "run=dead" })).json.data).toEqual([])
        const counts = yield* ask("tasks.counts", { agent: "echo" })
        expect(counts.json.counts).toMatchObject({ failed: 1, cancelled: 1 })
        const operation = yield* ask("tasks.actions", { action: "delete", filter: { label: "run=dead" } })
        expect(operation.json).toMatchObject({ action: "delete", status: "running" })
        const followed = yield* ask("operations.get", { id: operation.json.id }).pipe(
          Effect.repeat({ while: ({ json }) => json.status === "running", schedule: Schedule.spaced("50 millis") })
        )
        expect(followed.json).toMatchObject({ status: "completed", matched: 2, done: 2 })
        expect((yield* ask("tasks.get", { id: failing.json.id })).json).toMatchObject({ status: 404 })
        expect((yield* ask("tasks.actions", { action: "delete", filter: {} })).json).toMatchObject({ status: 422 })
        const rules = [{ status: ["completed"], delete_after_ms: 86_400_000 }]
        expect((yield* ask("retention.set", { rules })).json).toMatchObject({ rules, version: 1 })
        expect((yield* ask("retention.set", { rules, if_version: 9 })).json).toMatchObject({ status: 409 })
        expect((yield* ask("retention.get", {})).json).toMatchObject({ rules, version: 1 })

        yield* ask("agents.create", { name: "rolled", type: "echo" })
        const change = { agent: "rolled", configuration: { timeout_ms: 9_000 }, rollout: { percent: 50 } }
        expect((yield* ask("agents.update", change)).json.rollout).toMatchObject({ percent: 50, base_version: 1 })
        const rolled = yield* ask("agents.rollout", { agent: "rolled", percent: 100 })
        expect(rolled.json).toMatchObject({ version: 3, definition_version: 2 })
        expect((yield* ask("agents.rollout", { agent: "rolled", percent: 5 })).json).toMatchObject({ status: 409 })
        expect((yield* ask("agents.version", { agent: "rolled", version: 1 })).json.definition.configuration).toEqual(
          {}
        )
        const stale = { agent: "rolled", version: 1, if_version: 2 }
        expect((yield* ask("agents.rollback", stale)).json).toMatchObject({ status: 409, current_version: 3 })
        expect((yield* ask("agents.rollback", { agent: "rolled", version: 1 })).json).toMatchObject({ version: 4 })
        expect((yield* ask("agents.versions", { agent: "rolled" })).json.data).toHaveLength(3)

        const example = yield* run("examples/nats-client/client.mjs", ['{"from":"the example"}'], {
          NATS_URL: platform.nats.natsUrl,
          DATAMCP_API_KEY: platform.key
        })
        expect(example).toMatchObject({
          code: 0,
          output: expect.stringContaining('completed after attempt 1: {"echo":{"from":"the example"}}')
        })

        expect(platform.logs()).not.toContain(platform.key.slice(21))
        const stopped = yield* platform.stop
        expect(stopped.code === 0 || stopped.code === 130 || stopped.code === 143).toBe(true)
      }),
    90_000
  )
})
