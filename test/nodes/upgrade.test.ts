/** An upgrade while it runs: nodes of two versions on one database and one NATS, and the way back. */
import { appendFileSync, cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { runCli } from "../cli/runCli.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { ownFolder } from "../support/Servers.ts"
import { asker, eventually, rows } from "./Platform.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** The program with another text in the ledger's functions, and so another set of them in the database. */
const otherVersion = (version: string) => {
  const folder = ownFolder("program-")
  for (const part of ["src", "protocol", "actors", "sql", "package.json"]) {
    cpSync(join(root, part), join(folder, part), { recursive: true })
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
  appendFileSync(join(folder, "sql/functions/claim.sql"), `\n-- As it was in ${version}.\n`)
  const manifest = join(folder, "package.json")
  writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest, "utf8")), version }))
  return folder
}

describe("nodes of two versions", () => {
  it.live(
    "accept and run each other's tasks without a failure, and the older one may come back",
    () =>
      Effect.gen(function* () {
        const folder = otherVersion("0.0.9")
        const old = yield* servePlatform({ DATAMCP_NODE_NAME: "old" }, undefined, folder)
        const young = yield* servePlatform({ DATAMCP_NODE_NAME: "young" }, old)
        const [askOld, askYoung] = [asker(old), asker(young)]
        const sets = rows<{ name: string }>(
          old,
          "select nspname as name from pg_namespace where nspname like 'ledger\\_%'"
        )
        expect(yield* sets).toHaveLength(2)
        const listed = yield* eventually(
          "both share",
          askYoung("GET", "/nodes"),
          ({ json }) => json.data.length === 2 && json.data.every(({ shards }: { shards: number }) => shards === 64)
        )
        expect(listed.json.data).toMatchObject([
          { name: "old", version: "0.0.9" },
          { name: "young", version: "0.1.0" }
        ])

        // Every agent of these is on both; what one accepts the other runs too.
        const wide = { type: "echo", desired_instances: 2, configuration: { max_concurrent_tasks: 2 } }
        yield* askOld("POST", "/agents", { name: "by-old", ...wide })
        yield* askYoung("POST", "/agents", { name: "by-young", ...wide })
        const round = Effect.fnUntraced(function* (asks: ReadonlyArray<typeof askOld>) {
          const graphs: Array<string> = []
          for (let n = 0; n < 10; n++) {
            for (const ask of asks) {
              const graph = yield* ask("POST", "/graphs", {
                tasks: {
                  first: { agent: "by-old", payload: { sleep_ms: 30, n } },
                  second: {
                    agent: "by-young",
                    payload: { of: { $result: "first", path: "/echo/n" } },
                    dependencies: ["first"]
                  }
                }
              })
              expect(graph.status).toBe(202)
              graphs.push(graph.json.id)
            }
          }
          return graphs.length
        })
        const finished = (count: number) =>
          eventually(
            "all tasks have ended",
            rows<{ all: number; completed: number; attempts: number }>(
              old,
              "select count(*)::int as all, count(*) filter (where status = 'completed')::int as completed, max(attempt) as attempts from tasks"
            ),
            ([found]) => found !== undefined && found.all === count && found.completed === count,
            30
          )
        let tasks = 2 * (yield* round([askOld, askYoung]))
        yield* finished(tasks)
        const held = yield* rows<{ node: string }>(old, "select distinct node from agent_instances order by 1")
        expect(held.map(({ node }) => node)).toEqual(["old", "young"])

        // The older one goes while there is work; it comes back, as when an upgrade is undone.
        tasks += 2 * (yield* round([askYoung]))
        expect(yield* old.stop).toMatchObject({ code: 0 })
        tasks += 2 * (yield* round([askYoung]))
        const again = yield* servePlatform({ DATAMCP_NODE_NAME: "again" }, young, folder)
        expect(yield* young.stop).toMatchObject({ code: 0 })
        tasks += 2 * (yield* round([asker(again)]))
        const counts = yield* finished(tasks)
        expect(counts[0]?.attempts).toBe(1)
        expect(yield* sets).toHaveLength(2)
        for (const { logs } of [old, young, again]) {
          expect(logs()).not.toMatch(/"level":"(error|fatal)"/u)
        }
        const verified = yield* runCli(["verify"], { env: { DATABASE_URL: Redacted.value(old.databaseUrl) } })
        expect([verified.code, verified.stderr]).toEqual([0, expect.any(String)])
      }),
    90_000
  )
})
