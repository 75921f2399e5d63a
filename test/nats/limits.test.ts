/** Limits as users meet them: over HTTP, over NATS and on the command line of one node, on real servers. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { until } from "../actors/ActorHarness.ts"
import { runCli } from "../cli/runCli.ts"
import { askPort } from "../http/support/TestServer.ts"
import { servePlatform } from "./ServedPlatform.ts"
import { rawClient } from "./support.ts"

describe("limits of a whole node", () => {
  it.live(
    "are defined, changed, looked at and kept through every door",
    () =>
      Effect.gen(function* () {
        const platform = yield* servePlatform()
        const { key, url } = platform
        const send = (method: string, path: string, body?: unknown) =>
          Effect.promise(() =>
            askPort(Number(new URL(url).port), {
              key,
              method,
              path: `/api/v1${path}`,
              ...(body !== undefined && {
                body: JSON.stringify(body),
                headers: { "content-type": "application/json" }
              })
            })
          )
        const nats = yield* rawClient(platform.nats.natsUrl)
        const ask = (endpoint: string, body: unknown) =>
          Effect.promise(() => nats.request(`datamcp.v1.default.${endpoint}`, body, { Authorization: `Bearer ${key}` }))
        const cli = (...args: ReadonlyArray<string>) =>
          runCli(["limits", ...args, "--json"], { env: { DATAMCP_URL: url, DATAMCP_API_KEY: key } })

        // The command line defines, HTTP binds and shows, NATS widens.
        const made = yield* cli("create", "per-customer", "--key", "labels.customer", "--concurrency", "1")
        expect(made).toMatchObject({ code: 0, stderr: "" })
        expect(JSON.parse(made.stdout)).toMatchObject({ name: "per-customer", concurrency: 1, version: 1 })
        const submit = send("POST", "/tasks", {
          agent: "echo",
          labels: { customer: "acme" },
          payload: { sleep_ms: 60_000 }
        })
        const first = yield* submit
        expect(first.json).toMatchObject({ status: "queued" })
        const second = yield* submit
        expect(second.json).toMatchObject({ status: "pending", waiting_for: "capacity" })
        const waiting = yield* send("GET", `/tasks/${second.json.id}`)
        expect(waiting.json.waiting_on).toMatchObject({ limit: "per-customer", key: "acme", position: 1 })
        expect((yield* ask("limits.usage", { limit: "per-customer", key: "acme" })).json).toMatchObject({
          keys: [{ key: "acme", running: 1, waiting: 1, tokens: null }]
        })
        const usage = yield* cli("usage", "per-customer")
        expect(JSON.parse(usage.stdout)).toMatchObject({ keys: [{ key: "acme", running: 1, waiting: 1 }] })

        const widened = yield* ask("limits.update", { limit: "per-customer", concurrency: 2, if_version: 1 })
        expect(widened.json).toMatchObject({ concurrency: 2, version: 2 })
        yield* until(send("GET", `/tasks/${second.json.id}`), ({ json }) => json.status === "running")

        // Over HTTP and NATS: the rest of the life of a rate.
        const rate = { name: "provider", agent: "echo", rate: { limit: 10, window_ms: 60_000, burst: 2 } }
        expect(yield* send("POST", "/limits", rate)).toMatchObject({ status: 201, json: { rate: rate.rate } })
        expect((yield* ask("limits.create", rate)).json).toMatchObject({ status: 409, reason: "name-taken" })
        expect((yield* ask("limits.list", { limit: 1 })).json).toMatchObject({ data: [{ name: "provider" }] })
        expect((yield* send("GET", "/limits")).json.data).toHaveLength(2)
        expect((yield* cli("list")).stdout).toContain('"provider"')
        expect((yield* ask("limits.get", { limit: "provider" })).json).toMatchObject({ key: "*" })
        expect(JSON.parse((yield* cli("get", "provider")).stdout)).toMatchObject({ rate: { burst: 2 } })
        expect(JSON.parse((yield* cli("update", "provider", "--rate", "20")).stdout)).toMatchObject({ version: 2 })
        expect(yield* send("PUT", "/limits/provider", { rate: { limit: 30, window_ms: 1_000 } })).toMatchObject({
          status: 200,
          json: { version: 3, rate: { limit: 30, burst: 30 } }
        })

        // What is wrong is refused by each door, and changes nothing.
        expect(yield* send("PUT", "/limits/provider", { concurrency: 1 })).toMatchObject({ status: 422 })
        expect(yield* send("POST", "/limits", { name: "none" })).toMatchObject({ status: 422 })
        expect((yield* ask("limits.create", { name: "bad", key: "color", concurrency: 1 })).json).toMatchObject({
          status: 422
        })
        expect(
          (yield* ask("limits.update", { limit: "provider", description: "late", if_version: 1 })).json
        ).toMatchObject({ status: 409, current_version: 3 })
        expect((yield* cli("create", "bad", "--rate", "0")).code).not.toBe(0)
        expect((yield* cli("usage", "nothing")).code).toBe(1)

        expect((yield* ask("limits.delete", { limit: "provider" })).json).toMatchObject({ name: "provider" })
        expect((yield* cli("delete", "per-customer")).code).toBe(0)
        expect((yield* send("GET", "/limits/per-customer")).status).toBe(404)
        expect((yield* send("GET", "/limits")).json.data).toEqual([])
      }),
    120_000
  )
})
