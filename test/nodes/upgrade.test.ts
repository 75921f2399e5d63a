/** An upgrade while it runs: nodes of two versions on one database and one NATS, and the way back. */
import { appendFileSync, cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import manifest from "../../package.json" with { type: "json" }
import { runCli } from "../cli/runCli.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { freshDatabase, ownFolder, ownNats } from "../support/Servers.ts"
import { asked, asker, eventually, rows } from "./Platform.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Replaces a text of a source wherever it is, which must be somewhere. */
const edit = (file: string, from: string, to: string) => {
  const parts = readFileSync(file, "utf8").split(from)
  if (parts.length === 1) throw new Error(`${file} has no more: ${from}`)
  writeFileSync(file, parts.join(to))
}

/**
 * The program as a later version may be: other functions in the ledger, migrations that add, a field more in all that it says over
 * NATS, and events and notices of kinds that nobody here knows. `migration` is the text of its last migration.
 */
const laterVersion = (version: string, migration: string) => {
  const folder = ownFolder("program-")
  for (const part of ["src", "protocol", "actors", "sql", "package.json"]) {
    cpSync(join(root, part), join(folder, part), { recursive: true })
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
  appendFileSync(join(folder, "sql/functions/claim.sql"), `\n-- As it is in ${version}.\n`)
  writeFileSync(join(folder, "sql/9999_later.sql"), migration)
  const manifest = join(folder, "package.json")
  writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest, "utf8")), version }))
  const bus = join(folder, "src/bus")
  edit(join(bus, "DispatchCodec.ts"), "JSON.stringify(order)", 'JSON.stringify({ ...order, hue: "blue" })')
  edit(join(bus, "DispatchCodec.ts"), ',"orders":[`', ',"hurry":true,"orders":[`')
  edit(join(bus, "Events.ts"), "JSON.stringify(event)", 'JSON.stringify({ ...event, hue: "blue" })')
  edit(join(bus, "Events.ts"), "text: `[${group.text}]`", 'text: `[{"type":"TaskAdmired"},${group.text}]`')
  edit(
    join(bus, "Notices.ts"),
    "const sent = nats.publish(Subjects.notice(part._tag), JSON.stringify(part))",
    `nats.publish(Subjects.notice(part._tag), JSON.stringify({ _tag: "Admired" }))
          const sent = nats.publish(Subjects.notice(part._tag), JSON.stringify({ ...part, hue: "blue" }))`
  )
  edit(
    join(bus, "Surveys.ts"),
    "return JSON.stringify(answer)",
    'return JSON.stringify({ ...answer, hue: "blue", instances: part.map((each) => ({ ...each, hue: "blue" })) })'
  )
  return folder
}

const adding = `
alter table tasks add column hue text;
alter table events add column hue text not null default 'blue';
alter table agents add column hue text;
alter table agent_instances add column hue text;
create table hues (name text primary key);
`

describe("nodes of two versions", () => {
  it.live(
    "accept and run each other's tasks without a failure, and the older one may come back",
    () =>
      Effect.gen(function* () {
        const folder = laterVersion("99.0.0", adding)
        const old = yield* servePlatform({ DATAMCP_NODE_NAME: "old" })
        const young = yield* servePlatform({ DATAMCP_NODE_NAME: "young" }, old, folder)
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
          { name: "old", version: manifest.version },
          { name: "young", version: "99.0.0" }
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

        // Each sees live, and in the tree, what the other does, and leaves alone what it does not know.
        for (const ask of [askOld, askYoung]) {
          for (const agent of ["by-old", "by-young"]) {
            const { json } = yield* (ask === askOld ? askYoung : askOld)("POST", "/tasks", {
              ...{ agent, payload: { sleep_ms: 200 } }
            })
            const { text } = yield* ask("GET", `/tasks/${json.id}/events`, undefined, { accept: "text/event-stream" })
            expect(text.match(/^event: \w+/gmu)).toEqual(
              ["TaskCreated", "TaskStarted", "TaskCompleted"].map((type) => `event: ${type}`)
            )
          }
          const tree = yield* ask("GET", "/supervision")
          expect(tree.json.nodes).toMatchObject([
            { node: "old", state: "up" },
            { node: "young", state: "up" }
          ])
        }
        tasks += 4
        const metrics = (yield* asked(old, "/metrics")).text
        expect(metrics).toMatch(/^datamcp_bus_undecodable_total\{.*kind="event".*\} [1-9]/mu)
        expect(metrics).toMatch(/^datamcp_bus_undecodable_total\{.*kind="notice".*\} [1-9]/mu)
        expect(metrics).not.toMatch(/^datamcp_bus_undecodable_total\{.*kind="(dispatch|survey|chunk)".*\} [1-9]/mu)

        // The older one goes while there is work; it comes back, as when an upgrade is undone.
        tasks += 2 * (yield* round([askYoung]))
        expect(yield* old.stop).toMatchObject({ code: 0 })
        tasks += 2 * (yield* round([askYoung]))
        const again = yield* servePlatform({ DATAMCP_NODE_NAME: "again" }, young)
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
    150_000
  )

  it.live(
    "do not meet where the newer one has said that it leaves the older one nothing: that is told, and it does not start",
    () =>
      Effect.gen(function* () {
        const changing = "-- Nodes must know: 9999_later.sql\nalter table agents rename column description to about;\n"
        const folder = laterVersion("99.0.0", changing)
        const databaseUrl = yield* freshDatabase()
        const nats = yield* ownNats()
        const env = { DATABASE_URL: Redacted.value(databaseUrl), NATS_URL: nats.natsUrl, PORT: "0" }
        const changed = yield* runCli(["migrate"], { env, program: join(folder, "src/cli.ts") })
        expect([changed.code, changed.stderr]).toEqual([0, expect.any(String)])
        const refused = yield* runCli(["migrate"], { env })
        expect(refused.code).not.toBe(0)
        expect(refused.stderr).toContain("versions that do not know 9999_later.sql cannot use it")
        const served = yield* runCli(["serve"], { env })
        expect(served.code).not.toBe(0)
        expect(served.stderr).toContain("versions that do not know 9999_later.sql cannot use it")
      }),
    90_000
  )
})
