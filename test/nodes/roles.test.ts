/** Nodes by their roles: what each answers and does, how they are seen, drained and brought back, through every door. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "../cli/runCli.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { rawClient } from "../nats/support.ts"
import { asked, asker, eventually, rows } from "./Platform.ts"

describe("a node with the role api and one with the role worker", () => {
  it.live(
    "share the work, and the worker is drained and comes back without a failed task or an attempt too many",
    () =>
      Effect.gen(function* () {
        const door = yield* servePlatform({ DATAMCP_NODE_NAME: "door", DATAMCP_ROLES: "api" })
        const worker = yield* servePlatform({ DATAMCP_NODE_NAME: "worker", DATAMCP_ROLES: "worker" }, door)
        const ask = asker(door)
        const cli = (...args: ReadonlyArray<string>) =>
          runCli(["nodes", ...args], { env: { DATAMCP_URL: door.url, DATAMCP_API_KEY: door.key } })
        const nats = yield* rawClient(door.nats.natsUrl)
        const request = (endpoint: string, body: unknown) =>
          Effect.promise(() =>
            nats.request(`datamcp.v1.default.${endpoint}`, body, { Authorization: `Bearer ${door.key}` })
          )

        // What the one accepts the other runs; a worker has health and metrics, and no API.
        const done = yield* ask("POST", "/tasks", { agent: "echo", payload: 1 })
        expect(done.status).toBe(202)
        expect((yield* ask("GET", `/tasks/${done.json.id}?wait=15s`)).json.status).toBe("completed")
        expect(yield* rows(door, "select distinct node from agent_instances")).toEqual([{ node: "worker" }])
        for (const path of ["/health/live", "/health/ready", "/metrics"]) {
          expect([path, (yield* asked(worker, path)).status]).toEqual([path, 200])
        }
        expect((yield* asked({ ...worker, key: "none" }, "/metrics")).status).toBe(401)
        for (const path of ["/api/v1/tasks", "/docs", "/openapi.json", "/"]) {
          const refused = yield* asked(worker, path)
          expect([path, refused.status, refused.json.type]).toEqual([path, 404, "urn:datamcp:problem:route-not-found"])
        }
        // Requests over NATS go to nodes with the role api alone.
        for (let n = 0; n < 5; n++)
          expect((yield* request("tasks.get", { id: done.json.id })).json.status).toBe("completed")

        // All doors say the same of them.
        const listed = yield* eventually(
          "both nodes are listed",
          ask("GET", "/nodes"),
          ({ json }) => json.data.length === 2 && json.data[1].shards === 128
        )
        expect(listed.json.data).toMatchObject([
          { name: "door", roles: ["api"], state: "ready", instances: 0, shards: 0, version: "0.1.0" },
          { name: "worker", roles: ["worker"], state: "ready", drain: false }
        ])
        expect(listed.json.data[1].heartbeat_age_ms).toBeLessThan(4_000)
        expect((yield* request("nodes.list", {})).json.data).toHaveLength(2)
        expect((yield* request("nodes.get", { node: "worker" })).json).toMatchObject({ name: "worker", shards: 128 })
        expect((yield* cli("list")).stdout).toMatch(/worker +0\.1\.0 +worker +ready/u)
        expect(JSON.parse((yield* cli("show", "door", "--json")).stdout)).toMatchObject({
          name: "door",
          roles: ["api"]
        })

        // Who is not of the platform's own namespace sees and drains nothing; names are checked.
        const other = yield* ask("POST", "/api-keys", { name: "other", role: "admin", namespace: "other" })
        const stranger = asker({ ...door, key: other.json.key })
        expect((yield* stranger("GET", "/nodes")).json).toMatchObject({ status: 403, permission: "node:read" })
        expect((yield* stranger("POST", "/nodes/worker/drain")).json).toMatchObject({ status: 403 })
        const viewer = yield* ask("POST", "/api-keys", { name: "viewer", role: "viewer" })
        expect((yield* asker({ ...door, key: viewer.json.key })("POST", "/nodes/worker/drain")).json).toMatchObject({
          status: 403,
          permission: "node:drain"
        })
        expect((yield* ask("POST", "/nodes/nobody/drain")).json).toMatchObject({ status: 404, node: "nobody" })
        expect((yield* ask("POST", "/nodes/a%20b/drain")).json).toMatchObject({ status: 422 })
        expect((yield* request("nodes.drain", { node: "nobody" })).json).toMatchObject({ status: 404 })
        expect((yield* cli("drain", "nobody")).code).toBe(1)

        // Drained: what runs is given back, nothing is taken, and it still answers.
        const long = yield* ask("POST", "/tasks", { agent: "echo", payload: { sleep_ms: 4_000 } })
        yield* eventually("it runs", ask("GET", `/tasks/${long.json.id}`), ({ json }) => json.status === "running")
        const drained = yield* cli("drain", "worker", "--json")
        expect(drained).toMatchObject({ code: 0, stderr: "" })
        expect(JSON.parse(drained.stdout)).toMatchObject({ state: "drained", drain: true, instances: 0, shards: 0 })
        expect((yield* ask("GET", `/tasks/${long.json.id}`)).json).toMatchObject({ status: "queued", attempt: 0 })
        const unready = yield* asked(worker, "/health/ready")
        expect([unready.status, unready.json]).toMatchObject([503, { ready: false, draining: true }])
        expect((yield* asked(worker, "/health/live")).status).toBe(200)
        expect((yield* ask("GET", "/nodes/worker")).json.state).toBe("drained")
        expect((yield* asked(door, "/health/ready")).json).toMatchObject({ ready: true, draining: false })

        // A process that starts by its name is drained too; taken back, it works.
        expect(yield* worker.stop).toMatchObject({ code: 0 })
        expect((yield* ask("GET", "/nodes/worker")).json).toMatchObject({ state: "gone", drain: true })
        expect((yield* ask("POST", "/nodes/worker/drain")).json).toMatchObject({ status: 409, reason: "state" })
        yield* servePlatform({ DATAMCP_NODE_NAME: "worker", DATAMCP_ROLES: "worker" }, door)
        yield* eventually("it is drained", ask("GET", "/nodes/worker"), ({ json }) => json.state === "drained")
        expect((yield* request("nodes.undrain", { node: "worker" })).json).toMatchObject({ drain: false })
        const ended = yield* ask("GET", `/tasks/${long.json.id}?wait=20s`)
        expect(ended.json).toMatchObject({ status: "completed", attempt: 1 })
        expect((yield* ask("GET", "/nodes/worker")).json.state).toBe("ready")
      }),
    90_000
  )
})

describe("roles that do not exist", () => {
  it.live("are refused with the names of those that do, from the command line and from the environment", () =>
    Effect.gen(function* () {
      const servers = { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none", NATS_URL: "nats://127.0.0.1:1" }
      const flag = yield* runCli(["serve", "--roles", "api,boss"], { env: servers })
      expect([flag.code, flag.stdout + flag.stderr]).toEqual([
        2,
        expect.stringContaining("Expected api or worker, or both with a comma, got api,boss")
      ])
      const variable = yield* runCli(["serve"], { env: { ...servers, DATAMCP_ROLES: "boss" } })
      expect([variable.code, variable.stderr]).toEqual([
        1,
        expect.stringMatching(/DATAMCP_ROLES: expected one or more with commas, each one of `api`, `worker`/u)
      ])
    })
  )
})
