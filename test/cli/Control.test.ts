/** Many tasks found and changed from the shell on the platform itself, a power cut in the middle of it included. */
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { FetchHttpClient } from "effect/http"
import { startPlatform } from "../../examples/demo/OwnPlatform.ts"
import { ownFolder } from "../support/Servers.ts"
import { runCli } from "./runCli.ts"

/** Enough for an operation to take several steps. */
const many = 3_000

describe("a platform with many tasks", () => {
  it.live(
    "is searched, counted and changed from the shell, and an action on many survives SIGKILL",
    () =>
      Effect.gen(function* () {
        const folder = ownFolder("cli-control-")
        const platform = yield* startPlatform(join(folder, ".datamcp"))
        const cli = (...args: ReadonlyArray<string>) => runCli(args, { cwd: folder })
        const json = (...args: ReadonlyArray<string>) =>
          Effect.map(cli(...args, "--json"), (run) => {
            expect({ args, code: run.code, stderr: run.stderr }).toEqual({ args, code: 0, stderr: "" })
            return JSON.parse(run.stdout)
          })

        const failing = yield* cli(
          ...["tasks", "submit", "--agent", "echo", "--label", "run=dead", "--wait", "--json"],
          ...["--payload", `{"fail":{"retryable":false}}`]
        )
        const dead = JSON.parse(failing.stdout).id
        expect((yield* json("dead-letters", "list", "--label", "run=dead")).data).toMatchObject([
          { task: { id: dead } }
        ])
        expect(yield* json("tasks", "attempts", dead)).toMatchObject([{ outcome: "failed" }])
        expect((yield* cli("dead-letters", "get", dead)).stdout).toContain("failed_on_request")
        expect(yield* json("dead-letters", "ack", dead, "--note", "known")).toMatchObject({
          acknowledged: { note: "known" }
        })
        expect((yield* cli("dead-letters", "list", "--label", "run=dead")).stdout).toBe("No dead letters.\n")
        const replayed = yield* json("dead-letters", "replay", dead, "--payload", `{"ok":true}`)
        expect(yield* json("tasks", "get", replayed.id, "--wait", "20s")).toMatchObject({ status: "completed" })

        yield* json("agents", "create", "stock", "--type", "echo")
        yield* json("agents", "pause", "stock")
        const tasks = Array.from({ length: many }, (_, n) => [
          `t${n}`,
          { agent: "stock", payload: { n, even: n % 2 === 0 } }
        ])
        const graph = JSON.stringify({ tasks: Object.fromEntries(tasks) })
        const run = yield* runCli(["graphs", "run", "-", "--detach", "--json"], { cwd: folder, stdin: graph })
        expect(run.code).toBe(0)
        const one = Object.values<string>(JSON.parse(run.stdout).tasks)[7] ?? ""
        expect(yield* json("tasks", "prioritise", one, "critical")).toMatchObject({ priority: "critical" })
        const urgent = ["--agent", "stock", "--status", "queued", "--sort", "priority", "--limit", "1"]
        expect((yield* json("tasks", "list", ...urgent)).data).toMatchObject([{ id: one }])
        const filter = ["--filter", "agent=stock", "--filter", "where=payload./even=true"]
        const cancel = ["tasks", "actions", "--action", "cancel", ...filter]
        expect(yield* json(...cancel, "--dry-run")).toMatchObject({ matched: many / 2, complete: true })

        const operation = yield* json(...cancel)
        yield* platform.kill
        yield* platform.startAgain
        const ended = yield* json("operations", "get", operation.id, "--wait")
        expect(ended).toMatchObject({ status: "completed", matched: many / 2, done: many / 2, failed: 0 })
        expect((yield* json("tasks", "counts", "--agent", "stock")).counts).toMatchObject({
          cancelled: many / 2,
          queued: many / 2
        })
        expect((yield* cli("tasks", "counts", "--by-agent")).stdout).toMatch(/^stock +0 +1500 +0 +0 +0 +0 +0 +1500$/mu)

        const rules = `{"rules":[{"status":["cancelled"],"delete_after_ms":0}]}`
        expect(yield* json("retention", "set", rules)).toMatchObject({ version: 1 })
        expect((yield* cli("retention", "get")).stdout).toContain("cancelled")
        expect(yield* json("tasks", "delete", dead)).toEqual({ id: dead, deleted: true })
        expect((yield* cli("tasks", "delete", dead)).code).toBe(1)

        for (const wrong of [
          ["tasks", "actions", "--action", "cancel", "--filter", "nosense=1"],
          ["tasks", "actions", "--action", "cancel", "--filter", "nosense"],
          ["tasks", "list", "--where", "payload=1"],
          ["tasks", "prioritise", one, "urgent"],
          ["dead-letters", "replay"],
          ["retention", "set", `{"rules":[{"delete_after_ms":-1}]}`]
        ]) {
          expect({ wrong, code: (yield* cli(...wrong)).code }).toEqual({ wrong, code: 2 })
        }
        expect((yield* cli("tasks", "actions", "--action", "cancel")).code).toBe(1)
      }).pipe(Effect.provide(FetchHttpClient.layer)),
    120_000
  )
})
