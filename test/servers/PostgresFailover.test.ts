/** A Postgres primary dies and its standby takes over (F10): whole nodes that were told of both. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { throwAwaySettings } from "../../src/embedded/PostgresServer.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import { administer, copyPostgres, serveCopy } from "../support/PostgresCopy.ts"
import type { PostgresHandle } from "../support/ServerMakers.ts"
import { ownFolder, ownPostgres } from "../support/Servers.ts"
import { asking, submitting, untilTrue } from "./Clients.ts"

const run = promisify(execFile)

/** A primary whose commits wait for its standby, and that standby. */
const pair = Effect.gen(function* () {
  const primary = yield* ownPostgres({ wal_keep_size: "512MB" })
  const copy = yield* copyPostgres(primary, ownFolder("standby-"))
  const standby = yield* serveCopy(copy, { _tag: "Standby", primary, name: "standby" }, throwAwaySettings)
  yield* administer(primary, "alter system set synchronous_standby_names = 'ANY 1 (*)'")
  yield* administer(primary, "select pg_reload_conf()")
  yield* untilTrue("a synchronous standby", () => isSynchronous(primary), 10)
  return { primary, standby }
})

const isSynchronous = (primary: PostgresHandle) =>
  Effect.map(
    administer<{ sync_state: string }>(primary, "select sync_state from pg_stat_replication"),
    (rows) => rows.length === 1 && rows[0]?.sync_state === "quorum"
  )

const urlOfBoth = (first: PostgresHandle, second: PostgresHandle) =>
  Redacted.value(first.url()).replace(`:${first.port}/`, `:${first.port},127.0.0.1:${second.port}/`)

const promote = (standby: PostgresHandle) => administer(standby, "select pg_promote(true, 20)")

/** Tasks of these ids that Postgres has, by state. */
const states = (server: PostgresHandle, ids: ReadonlyArray<string>) =>
  Effect.map(
    administer<{ status: string; count: number }>(
      server,
      `select status::text, count(*)::int as count from tasks where id in (${ids.map((id) => `'${id}'`).join(",")}) group by 1`
    ),
    (rows) => new Map(rows.map(({ count, status }) => [status, count]))
  )

describe("a node that was told of a primary and its synchronous standby", () => {
  it.live(
    "goes on with the standby once it is promoted: every promise is kept, and the dead primary is not written to again",
    () =>
      Effect.gen(function* () {
        const { primary, standby } = yield* pair
        // The standby first: a start finds the primary wherever it stands.
        const node = yield* servePlatform({ DATABASE_URL: urlOfBoth(standby, primary) })
        const { get, post } = asking(node)
        yield* post("/agents", { name: "worker", type: "echo", configuration: { max_concurrent_tasks: 20 } })
        const slow = yield* post("/tasks", { agent: "worker", payload: { sleep_ms: 6_000 } })
        expect(slow.status).toBe(202)
        const clients = yield* submitting(node, { writers: 4, task: { agent: "worker", payload: { sleep_ms: 20 } } })
        yield* clients.further(100, 20)

        yield* primary.kill9
        const killedAt = performance.now()
        yield* promote(standby)
        const promotedMillis = performance.now() - killedAt
        yield* clients.further(100, 20)
        const resumedMillis = performance.now() - killedAt
        yield* clients.stop

        const ids = clients.promised.map(({ id }) => id)
        yield* untilTrue(
          "all ended",
          () => Effect.map(states(standby, ids), (found) => found.get("completed") === ids.length),
          30
        )
        const kept = yield* get(`/tasks/${slow.json["id"]}?wait=30s`)
        expect(kept.json).toMatchObject({ status: "completed" })
        // The same key is the same task on the new primary.
        const [first] = clients.promised
        yield* primary.start
        const again = yield* post(
          "/tasks",
          { agent: "worker", payload: { sleep_ms: 20 } },
          { "idempotency-key": first?.key ?? "" }
        )
        expect(again.json).toMatchObject({ id: first?.id, duplicate: true })
        expect(new Set(ids).size).toBe(ids.length)
        // Back without having been told of its fall, it gets no session: we stay where we are.
        expect(yield* hasNoSessions(primary)).toBe(true)
        expect(resumedMillis - promotedMillis).toBeLessThan(5_000)
        console.info(
          `failover: promoted after ${Math.round(promotedMillis)} ms, 100 tasks accepted after ${Math.round(resumedMillis)} ms, ` +
            `longest pause ${Math.round(clients.longestPauseMillis())} ms, ${ids.length} kept, refusals ${JSON.stringify([...clients.refusals])}`
        )
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "promises nothing that the standby does not have, and leaves a primary that freezes, also when it wakes again",
    () =>
      Effect.gen(function* () {
        const { primary, standby } = yield* pair
        const node = yield* servePlatform({ DATABASE_URL: urlOfBoth(primary, standby) })
        const { post } = asking(node)
        yield* post("/agents", { name: "worker", type: "echo" })
        const submit = (key: string) => post("/tasks", { agent: "worker" }, { "idempotency-key": key })
        expect((yield* submit("before")).status).toBe(202)

        yield* standby.kill9
        // The first commit may be there when the second comes, in the primary alone: that is no promise yet.
        expect((yield* submit("alone")).status).toBe(503)
        expect((yield* submit("alone")).status).toBe(503)
        yield* standby.start
        yield* untilTrue("an acceptance", () => Effect.map(submit("alone"), ({ status }) => status === 202), 10)

        yield* freezeAll(primary)
        const frozenAt = performance.now()
        yield* promote(standby)
        yield* untilTrue("an acceptance", () => Effect.map(submit("after"), ({ status }) => status === 202), 20)
        const resumedMillis = performance.now() - frozenAt
        yield* thawAll(primary)
        yield* untilTrue("no session on the former primary", () => hasNoSessions(primary), 5)
        const ids = yield* administer<{ id: string }>(standby, "select id::text from tasks")
        expect(ids).toHaveLength(3)
        expect(resumedMillis).toBeLessThan(15_000)
        console.info(`frozen primary: an acceptance after ${Math.round(resumedMillis)} ms`)
      }).pipe(Effect.scoped),
    60_000
  )
})

/** Of ours, but for commits that wait there for a standby: nobody hears of them any more. */
const hasNoSessions = (server: PostgresHandle) =>
  Effect.map(
    administer<{ count: number }>(
      server,
      `select count(*)::int as count from pg_stat_activity
       where application_name like 'datamcp %' and wait_event is distinct from 'SyncRep'`
    ),
    ([row]) => row?.count === 0
  )

/** The postmaster's children have sessions of their own, and go on when it alone is stopped. */
const signalAll = (server: PostgresHandle, signal: NodeJS.Signals) =>
  Effect.promise(async () => {
    const { stdout } = await run("ps", ["-o", "pid=", "--ppid", String(server.pid())])
    for (const pid of [server.pid(), ...stdout.trim().split(/\s+/u).map(Number)]) {
      try {
        process.kill(pid, signal)
      } catch {
        // It has ended meanwhile.
      }
    }
  })

const freezeAll = (server: PostgresHandle) => signalAll(server, "SIGSTOP")
const thawAll = (server: PostgresHandle) => signalAll(server, "SIGCONT")
