/** Nodes behind a real PgBouncer in transaction mode, with fewer sessions than they have connections, as docs/operations.md sets it up. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Redacted, Result } from "effect"
import { SqlClient } from "effect/sql"
import { runCli } from "../cli/runCli.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { asker, eventually } from "../nodes/Platform.ts"
import { pgBouncerProgram, startPgBouncer } from "../support/PgBouncer.ts"
import { ownPostgres } from "../support/Servers.ts"

const poolSize = 4
/** Of each node; as `servePlatform` says. */
const connectionsMax = 6

/** Connections that a process holds to a port of this machine; undefined where /proc does not say. */
const connectionsTo = (pid: number, port: number): number | undefined => {
  if (process.platform !== "linux") return
  const sockets = new Set(
    readdirSync(`/proc/${pid}/fd`).map((descriptor) =>
      Result.getOrUndefined(Result.try(() => /\d+/u.exec(readlinkSync(`/proc/${pid}/fd/${descriptor}`))?.[0]))
    )
  )
  const target = `:${port.toString(16).toUpperCase().padStart(4, "0")}`
  return readFileSync(`/proc/${pid}/net/tcp`, "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/u))
    .filter(([, , remote, state, , , , , , inode]) => remote?.endsWith(target) && state === "01" && sockets.has(inode))
    .length
}

const found = await Effect.runPromise(pgBouncerProgram)
const reason = "missing" in found ? `: skipped, ${found.missing}` : ""

describe.skipIf("missing" in found)(`behind PgBouncer in transaction mode${reason}`, () => {
  it.live(
    "two nodes do all they do elsewhere, one takes over from the other, and the pooler may be away",
    () =>
      Effect.gen(function* () {
        if ("missing" in found) return
        const postgres = yield* ownPostgres()
        const query = <A extends object>(statement: string) =>
          Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<A>(statement)).pipe(
            Effect.provide(PgClient.layer({ url: postgres.url(), maxConnections: 1, applicationName: "looking on" })),
            Effect.orDie
          )
        const role = new URL(Redacted.value(postgres.url())).username
        yield* query(`alter role ${role} set synchronous_commit = off`)
        const pooler = yield* startPgBouncer(found, postgres, poolSize)
        const environment = { DATABASE_URL: Redacted.value(pooler.url), DATABASE_PREPARE: "false" }

        const refused = yield* Effect.exit(Effect.scoped(servePlatform(environment)))
        expect(Exit.isFailure(refused) ? Cause.pretty(refused.cause) : "").toMatch(
          /sessions commit with synchronous_commit=off[^]*alter role/u
        )
        for (const setting of [
          "synchronous_commit = on",
          "statement_timeout = '15s'",
          "lock_timeout = '10s'",
          "idle_in_transaction_session_timeout = '20s'"
        ]) {
          yield* query(`alter role ${role} set ${setting}`)
        }
        yield* pooler.restart

        const first = yield* servePlatform({ ...environment, DATAMCP_NODE_NAME: "first" })
        const second = yield* servePlatform({ ...environment, DATAMCP_NODE_NAME: "second" }, first)
        const [askFirst, askSecond] = [asker(first), asker(second)]
        yield* eventually(
          "both share",
          askSecond("GET", "/nodes"),
          ({ json }) => json.data.length === 2 && json.data.every(({ shards }: { shards: number }) => shards === 64)
        )
        yield* askFirst("POST", "/agents", {
          ...{ name: "wide", type: "echo", desired_instances: 4, configuration: { max_concurrent_tasks: 2 } }
        })
        yield* askFirst("POST", "/limits", { name: "two", key: "labels.two", concurrency: 2 })

        // Work of every kind at once, on both.
        const bulk = { agent: "wide", payload: { sleep_ms: 5 } }
        const batches = yield* Effect.forEach(
          [askFirst, askSecond],
          (ask) =>
            ask(
              "POST",
              "/tasks/batch",
              Array.from({ length: 150 }, () => bulk)
            ),
          { concurrency: 2 }
        )
        expect(batches.map(({ json }) => json.accepted)).toEqual([150, 150])
        const graph = yield* askSecond("POST", "/graphs", {
          tasks: {
            first: { agent: "wide", payload: { n: 7 } },
            second: {
              agent: "wide",
              payload: { of: { $result: "first", path: "/echo/n" } },
              dependencies: ["first"]
            }
          }
        })
        const limited: Array<string> = []
        for (let n = 0; n < 6; n++) {
          const task = { agent: "wide", labels: { two: "yes" }, payload: { sleep_ms: 150 } }
          limited.push((yield* (n % 2 === 0 ? askFirst : askSecond)("POST", "/tasks", task)).json.id)
        }
        const asks = yield* askFirst("POST", "/tasks", { agent: "wide", payload: { await: [{ signal: "color" }] } })
        yield* eventually(
          "it awaits",
          askSecond("GET", `/tasks/${asks.json.id}/signals`),
          ({ json }) => json.awaiting?.length > 0
        )
        expect((yield* askSecond("POST", `/tasks/${asks.json.id}/signals/color`, "blue")).status).toBe(202)
        const ended = (ask: typeof askFirst, id: string) =>
          Effect.map(ask("GET", `/tasks/${id}?wait=30s`), ({ json }) => json)
        expect(JSON.stringify((yield* ended(askFirst, asks.json.id)).result)).toContain("blue")
        expect((yield* ended(askFirst, graph.json.tasks.second)).result.data.echo).toEqual({ of: 7 })
        for (const id of limited) expect((yield* ended(askSecond, id)).status).toBe("completed")
        const together = yield* query<{ most: number }>(`
          select max((select count(*) from tasks b where b.labels ->> 'two' = 'yes'
            and b.started_at <= a.started_at and b.completed_at > a.started_at))::int as most
          from tasks a where a.labels ->> 'two' = 'yes'`)
        expect(together).toEqual([{ most: 2 }])
        // What one node did is told live by the other.
        const events = yield* askSecond("GET", `/tasks/${asks.json.id}/events`, undefined, {
          accept: "text/event-stream"
        })
        expect(events.text.match(/^event: \w+/gmu)).toContain("event: TaskCompleted")

        // Ten or so of theirs on four of Postgres's.
        const held = [first, second].map(({ pid }) => connectionsTo(pid, pooler.port))
        for (const each of held) {
          if (each === undefined) continue
          expect(each).toBeGreaterThan(0)
          expect(each).toBeLessThanOrEqual(connectionsMax)
        }
        const sessions = yield* eventually(
          "locks are held within transactions only",
          query<{ open: number; locks: number }>(`
            select (select count(*)::int from pg_stat_activity
                where backend_type = 'client backend' and application_name <> 'looking on') as open,
              (select count(*)::int from pg_locks where locktype = 'advisory') as locks`),
          ([found]) => found?.locks === 0
        )
        expect(sessions[0]?.open).toBeLessThanOrEqual(poolSize)

        // The one that dies has work; the other takes it over.
        const cut: Array<string> = []
        for (let n = 0; n < 8; n++) {
          cut.push((yield* askSecond("POST", "/tasks", { agent: "wide", payload: { sleep_ms: 800, n } })).json.id)
        }
        yield* eventually(
          "all run",
          query<{ node: string }>(
            "select distinct i.node from tasks t join agent_instances i on i.agent_id = t.agent_id and i.status = 'active' where t.status = 'running'"
          ),
          (nodes) => nodes.length === 2
        )
        yield* first.kill
        for (const id of cut) expect((yield* ended(askSecond, id)).status).toBe("completed")
        const attempts = yield* query<{ most: number }>("select max(attempt)::int as most from tasks")
        expect(attempts[0]?.most).toBeLessThanOrEqual(2)

        // Without the pooler nothing is promised; with it work goes on by itself.
        const long = yield* askSecond("POST", "/tasks", { agent: "wide", payload: { sleep_ms: 1_000 } })
        yield* pooler.kill9
        const away = yield* askSecond("POST", "/tasks", bulk)
        expect([away.status, away.headers["retry-after"]]).toEqual([503, expect.any(String)])
        yield* pooler.start
        const back = yield* eventually(
          "it accepts",
          askSecond("POST", "/tasks", bulk),
          ({ status }) => status === 202,
          20
        )
        expect((yield* ended(askSecond, back.json.id)).status).toBe("completed")
        expect((yield* ended(askSecond, long.json.id)).status).toBe("completed")
        expect(yield* second.stop).toMatchObject({ code: 0 })

        const verified = yield* runCli(["verify"], { env: { DATABASE_URL: Redacted.value(postgres.url()) } })
        expect([verified.code, verified.stderr]).toEqual([0, expect.any(String)])
      }),
    180_000
  )
})
