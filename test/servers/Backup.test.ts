/**
 * A platform is lost with all its servers and comes back from a backup (F36): a copy of Postgres's folder, the archive of its log
 * of writes, and the folder of artifacts; NATS begins empty. As docs/backup.md says to do it.
 */
import { execFileSync } from "node:child_process"
import { chmodSync, readdirSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { DateTime, Effect, Redacted } from "effect"
import { throwAwaySettings } from "../../src/embedded/PostgresServer.ts"
import { runCli } from "../cli/runCli.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { administer, copyPostgres, serveCopy } from "../support/PostgresCopy.ts"
import type { PostgresHandle } from "../support/ServerMakers.ts"
import { ownFolder, ownNats, ownPostgres } from "../support/Servers.ts"
import { asking, untilTrue } from "./Clients.ts"

const copyFolder = (from: string, to: string) => execFileSync("cp", ["-a", `${from}/.`, to])

/** Closes the log of writes, as `archive_timeout` would, and waits until it lies in the archive. */
const archiveAll = Effect.fnUntraced(function* (primary: PostgresHandle, archive: string) {
  const [row] = yield* administer<{ file: string }>(primary, "select pg_walfile_name(pg_switch_wal()) as file")
  yield* untilTrue(
    "the log in the archive",
    () => Effect.sync(() => readdirSync(archive).includes(row?.file ?? "")),
    20
  )
})

describe("a platform that is restored from a backup", () => {
  it.live(
    "has every task that was accepted before, and goes on with them on an empty NATS; at an earlier moment, with those of then",
    () =>
      Effect.gen(function* () {
        const [archive, artifacts, artifactsCopy] = [ownFolder("archive-"), ownFolder("artifacts-"), ownFolder("copy-")]
        chmodSync(archive, 0o777)
        const primary = yield* ownPostgres({
          archive_mode: "on",
          archive_command: `test ! -f "${archive}/%f" && cp "%p" "${archive}/%f"`
        })
        const first = yield* servePlatform({
          ...{ DATABASE_URL: Redacted.value(primary.url()), ARTIFACTS_DIR: artifacts }
        })
        const { get, post } = asking(first)
        yield* post("/agents", { name: "one", type: "echo", configuration: { max_concurrent_tasks: 1 } })
        yield* post("/agents", { name: "many", type: "echo" })
        yield* post("/schedules", {
          ...{ name: "tick", every_ms: 1_000, catch_up: "all", task: { agent: "many", payload: "tick" } }
        })
        const accepted: Array<string> = []
        const submit = Effect.fnUntraced(function* (body: unknown, key: string) {
          const answer = yield* post("/tasks", body, { "idempotency-key": key })
          expect(answer.status).toBe(202)
          accepted.push(String(answer.json["id"]))
          return String(answer.json["id"])
        })
        const large = yield* submit({ agent: "many", payload: { text: "x".repeat(400_000) } }, "large")
        expect((yield* get(`/tasks/${large}?wait=20s`)).json).toMatchObject({ status: "completed" })
        const running = yield* submit({ agent: "one", payload: { sleep_ms: 4_000 } }, "running")
        const queued = yield* submit({ agent: "one", payload: "queued" }, "queued")
        const later = yield* submit(
          { agent: "many", run_at: DateTime.formatIso(DateTime.add(yield* DateTime.now, { seconds: 6 })) },
          "later"
        )
        const graph = yield* post("/graphs", {
          tasks: {
            a: { agent: "one", payload: { of: "a" } },
            b: { agent: "many", payload: { of: { $result: "a", path: "/echo/of" } }, dependencies: ["a"] }
          }
        })

        const backup = yield* copyPostgres(primary, ownFolder("backup-"))
        const earlier = ownFolder("earlier-")
        copyFolder(backup, earlier)
        const between = (yield* administer<{ now: string }>(primary, "select clock_timestamp()::text as now"))[0]?.now
        const afterwards = yield* submit({ agent: "many", payload: { after: "x".repeat(400_000) } }, "afterwards")
        expect((yield* get(`/tasks/${afterwards}?wait=20s`)).json).toMatchObject({ status: "completed" })
        expect((yield* get(`/tasks/${running}`)).json).toMatchObject({ status: "running", attempt: 1 })
        yield* archiveAll(primary, archive)
        copyFolder(artifacts, artifactsCopy)
        yield* first.kill
        yield* primary.kill9
        yield* first.nats.kill9

        const begun = performance.now()
        const restored = yield* serveCopy(backup, { _tag: "Restored", archive }, throwAwaySettings)
        yield* untilTrue("the end of recovery", () => isWritable(restored), 20)
        const environment = { DATABASE_URL: Redacted.value(restored.url()), ARTIFACTS_DIR: artifactsCopy }
        const before = yield* runCli(["verify", "--all", "--json"], { env: environment })
        expect([before.code, before.stderr]).toEqual([0, ""])
        expect(JSON.parse(before.stdout)).toMatchObject({ ok: true })

        const second = yield* servePlatform(environment, { ...first, nats: yield* ownNats() })
        const there = asking(second)
        const endOf = (id: string) => there.get(`/tasks/${id}?wait=30s`)
        for (const id of accepted) expect((yield* endOf(id)).json).toMatchObject({ id, status: "completed" })
        const resumedMillis = performance.now() - begun
        expect((yield* endOf(running)).json).toMatchObject({ attempt: 2 })
        expect((yield* endOf(queued)).json).toMatchObject({ attempt: 1 })
        expect((yield* endOf(later)).json).toMatchObject({ attempt: 1 })
        const { b } = graph.json["tasks"] as unknown as { readonly b: string }
        expect((yield* endOf(b)).json).toMatchObject({ status: "completed", result: { data: { echo: { of: "a" } } } })
        for (const [key, id, body] of [
          ["queued", queued, { agent: "one", payload: "queued" }],
          ["afterwards", afterwards, { agent: "many", payload: { after: "x".repeat(400_000) } }]
        ] as const) {
          const again = yield* there.post("/tasks", body, { "idempotency-key": key })
          expect(again.json).toMatchObject({ id, duplicate: true })
        }
        const kept = (yield* endOf(afterwards)).json as unknown as {
          readonly result: { readonly data: { readonly $artifact: string } }
        }
        const content = yield* there.get(`/artifacts/${kept.result.data.$artifact}/content`)
        expect(content.json).toEqual({ echo: { after: "x".repeat(400_000) } })
        yield* untilTrue("runs of the schedule", () => Effect.map(there.get("/schedules/tick/runs"), hasLateRun), 20)
        const after = yield* runCli(["verify", "--all", "--json"], { env: environment })
        expect([after.code, after.stderr]).toEqual([0, ""])

        const past = yield* serveCopy(
          earlier,
          { _tag: "Restored", archive, ...(between === undefined ? {} : { until: between }) },
          throwAwaySettings
        )
        yield* untilTrue("the end of recovery", () => isWritable(past), 20)
        const ids = yield* administer<{ id: string }>(past, "select id::text from tasks")
        const known = new Set(ids.map(({ id }) => id))
        expect(accepted.filter((id) => !known.has(id))).toEqual([afterwards])
        console.info(`restore: every task that was accepted had ended after ${Math.round(resumedMillis)} ms`)
      }).pipe(Effect.scoped),
    90_000
  )
})

const isWritable = (server: PostgresHandle) =>
  Effect.map(administer<{ is: boolean }>(server, "select not pg_is_in_recovery() as is"), ([row]) => row?.is === true)

/** Whether the newest run was due within the last seconds: the schedule goes on. */
const hasLateRun = ({ json }: { readonly json: Readonly<Record<string, unknown>> }) => {
  const [newest] = (json["data"] ?? []) as ReadonlyArray<{ readonly due: string | null; readonly outcome: string }>
  return newest?.outcome === "fired" && Date.now() - Date.parse(newest.due ?? "") < 5_000
}
