/** A Postgres primary dies and its standby takes over (F10): whole nodes that were told of both. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { throwAwaySettings } from "../../src/embedded/PostgresServer.ts"
import { servePlatform } from "../nats/ServedPlatform.ts"
import type { PostgresHandle } from "../support/ServerMakers.ts"
import { administer, copyPostgres, serveCopy } from "../support/PostgresCopy.ts"
import { ownFolder, ownPostgres } from "../support/Servers.ts"
import { asking, submitting, untilTrue } from "./Clients.ts"

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
        const again = yield* post(
          "/tasks",
          { agent: "worker", payload: { sleep_ms: 20 } },
          { "idempotency-key": first?.key ?? "" }
        )
        expect(again.json).toMatchObject({ id: first?.id, duplicate: true })
        expect(new Set(ids).size).toBe(ids.length)
        expect(resumedMillis - promotedMillis).toBeLessThan(5_000)
        console.info(
          `failover: promoted after ${Math.round(promotedMillis)} ms, 100 tasks accepted after ${Math.round(resumedMillis)} ms, ` +
            `longest pause ${Math.round(clients.longestPauseMillis())} ms, ${ids.length} kept, refusals ${JSON.stringify([...clients.refusals])}`
        )
        console.info(node.logs().split("\n").filter((line) => /warn|error/iu.test(line)).slice(0, 12).join("\n"))
      }).pipe(Effect.scoped),
    90_000
  )
})
