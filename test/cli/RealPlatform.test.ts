/** The command line against the platform itself, through what its users do in the first hour, a power cut included. */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit } from "effect"
import { FetchHttpClient } from "effect/http"
import { startPlatform } from "../../examples/demo/OwnPlatform.ts"
import { ownFolder } from "../support/Servers.ts"
import { runCli } from "./runCli.ts"

const parse = (text: string): Record<string, unknown> => JSON.parse(text)

describe("a platform started here", () => {
  it.live(
    "is used, steered and followed from the shell, also across SIGKILL of the serving process",
    () =>
      Effect.gen(function* () {
        const folder = ownFolder("cli-")
        const platform = yield* startPlatform(join(folder, ".datamcp"))
        // No flag and no variable: URL and key come from the files of the platform that was started here.
        const cli = (...args: ReadonlyArray<string>) => runCli(args, { cwd: folder })
        const json = (...args: ReadonlyArray<string>) =>
          Effect.map(cli(...args, "--json"), (run) => {
            expect({ args, code: run.code, stderr: run.stderr }).toEqual({ args, code: 0, stderr: "" })
            return parse(run.stdout)
          })

        expect(yield* json("status")).toMatchObject({ namespace: "default", parts: { postgres: true, nats: true } })
        expect(yield* json("doctor")).toMatchObject({ ok: true })

        yield* json("agents", "create", "worker", "--type", "echo", "--concurrency", "2", "--label", "team=blue")
        expect((yield* cli("agents", "create", "worker", "--type", "echo")).code).toBe(1)
        expect(yield* json("agents", "update", "worker", "--concurrency", "4")).toMatchObject({
          version: 2,
          configuration: { max_concurrent_tasks: 4 }
        })
        expect((yield* cli("agents", "update", "worker", "--concurrency", "5", "--if-version", "1")).code).toBe(1)

        const payload = JSON.stringify({ hello: "world" })
        const done = yield* json("tasks", "submit", "--agent", "worker", "--payload", payload, "--wait")
        expect(done).toMatchObject({ status: "completed", result: { data: { echo: { hello: "world" } } } })
        const failing = yield* cli(
          "tasks",
          "submit",
          "-a",
          "worker",
          "-p",
          `{"fail":{"retryable":false}}`,
          "--wait",
          "--json"
        )
        expect(failing.code).toBe(1)
        expect(parse(failing.stdout)).toMatchObject({
          status: "failed",
          result: { error: { code: "failed_on_request" } }
        })

        const once = ["tasks", "submit", "--agent", "worker", "--idempotency-key", "k1"]
        const [first, second] = [yield* json(...once), yield* json(...once)]
        expect(second).toMatchObject({ id: first["id"], duplicate: true })

        const held = ["tasks", "submit", "nobody.can", "--unique", "report-42", "--queue-timeout", "20s"]
        const holder = yield* json(...held)
        const conflict = yield* cli(...held)
        expect([conflict.code, conflict.stderr]).toEqual([1, expect.stringContaining(String(holder["id"]))])
        expect(yield* json(...held, "--on-conflict", "existing")).toMatchObject({ id: holder["id"], duplicate: true })
        const gather = (n: number) =>
          json(
            "tasks",
            "submit",
            "-a",
            "worker",
            "--coalesce",
            "rows",
            "--keep",
            "all",
            "--max-items",
            "2",
            "--max-wait",
            "1m",
            "-p",
            `${n}`
          )
        const [one, two] = [yield* gather(1), yield* gather(2)]
        expect(two).toMatchObject({ id: one["id"], coalesced: true })
        expect(yield* json("tasks", "get", String(one["id"]), "--wait", "20s")).toMatchObject({
          result: { data: { echo: [1, 2] } }
        })
        expect((yield* cli("tasks", "submit", "echo", "--quiet", "1s")).code).toBe(2)
        expect((yield* cli("tasks", "submit", "echo", "--coalesce", "k")).stderr).toContain("needs quiet_ms")

        const file = join(folder, "table.csv")
        writeFileSync(file, "a,b\n1,2\n")
        const artifact = yield* json("artifacts", "put", file)
        expect(artifact).toMatchObject({ name: "table.csv", content_type: "text/csv", size_bytes: 8 })
        yield* json("artifacts", "get", String(artifact["id"]), "--output", join(folder, "back.csv"))
        expect(readFileSync(join(folder, "back.csv"), "utf8")).toBe("a,b\n1,2\n")

        const cycle = { tasks: { a: { type: "echo", dependencies: ["b"] }, b: { type: "echo", dependencies: ["a"] } } }
        const refused = yield* runCli(["graphs", "run", "-"], { cwd: folder, stdin: JSON.stringify(cycle) })
        expect(refused.code).toBe(1)
        expect(refused.stderr).toMatch(/cycle/u)

        const tick = ["schedules", "create", "tick", "--every", "1s", "--agent", "worker", "--payload", payload]
        expect(yield* json(...tick, "--label", "a=b")).toMatchObject({ every_ms: 1000, labels: { a: "b" }, version: 1 })
        expect((yield* cli(...tick)).stderr).toContain("already")
        expect((yield* cli("schedules", "create", "no", "--cron", "* * *", "-a", "worker")).stderr).toContain("five")
        expect((yield* cli("schedules", "create", "no", "--every", "1ms", "-a", "worker")).code).toBe(2)
        const preview = yield* json("schedules", "preview", "30 2 * * *", "--time-zone", "Europe/Berlin", "-n", "2")
        expect(preview["data"]).toHaveLength(2)
        const ranNow = yield* json("schedules", "run", "tick")
        expect(ranNow).toMatchObject({ task: { type: "echo", duplicate: false } })
        const changed = ["schedules", "update", "tick", "--priority", "low", "--overlap", "skip"]
        expect(yield* json(...changed)).toMatchObject({
          version: 2,
          task: { agent: "worker", payload: { hello: "world" }, priority: "low" }
        })
        expect((yield* cli(...changed, "--if-version", "1")).code).toBe(1)
        const fired = yield* json("schedules", "runs", "tick").pipe(
          Effect.repeat({ until: (page) => JSON.stringify(page).includes('"due":"') })
        )
        expect(fired["data"]).toContainEqual(expect.objectContaining({ outcome: "fired", due: expect.any(String) }))
        expect((yield* cli("schedules", "list")).stdout).toContain("every 1.0 s")
        expect((yield* cli("schedules", "get", "tick")).stdout).toContain("runs for")
        expect((yield* cli("schedules", "next", "tick")).stdout).toContain("DUE (UTC)")
        expect(yield* json("schedules", "pause", "tick")).toMatchObject({ status: "paused" })
        expect(yield* json("schedules", "resume", "tick")).toMatchObject({ status: "active" })
        expect((yield* cli("schedules", "delete", "tick")).stdout).toContain("deleted")
        expect((yield* cli("schedules", "get", "tick")).code).toBe(1)

        const key = yield* json("keys", "create", "looker", "--role", "viewer")
        const env = { DATAMCP_API_KEY: String(key["key"]) }
        const asViewer = yield* runCli(["tasks", "submit", "echo"], { cwd: folder, env })
        expect(asViewer.code).toBe(1)
        expect(asViewer.stderr).toContain("task:create")
        yield* json("keys", "revoke", String(key["id"]))
        const wrong = yield* runCli(["tasks", "list"], {
          cwd: folder,
          env: { DATAMCP_API_KEY: `${env.DATAMCP_API_KEY}x` }
        })
        expect(wrong.code).toBe(3)

        const long = yield* json("tasks", "submit", "--agent", "worker", "--payload", `{"sleep_ms":5000,"steps":10}`)
        const id = String(long["id"])
        const started = yield* Deferred.make<void>()
        const [watched] = yield* Effect.all(
          [
            runCli(["tasks", "watch", id, "--json"], {
              cwd: folder,
              onOutput: (soFar) => {
                if (soFar.includes("TaskStarted")) Deferred.doneUnsafe(started, Exit.void)
              }
            }),
            Effect.gen(function* () {
              yield* Deferred.await(started)
              yield* platform.kill
              yield* platform.startAgain
            })
          ],
          { concurrency: 2 }
        )
        const events = watched.stdout.trim().split("\n").map(parse)
        expect(events.map(({ number }) => number)).toEqual(events.map((_, index) => index + 1))
        expect(events.filter(({ type }) => type === "TaskStarted")).toHaveLength(2)
        expect(events.at(-1)).toMatchObject({ type: "TaskCompleted" })
        expect(watched.code).toBe(0)
      }).pipe(Effect.provide(FetchHttpClient.layer)),
    120_000
  )
})
