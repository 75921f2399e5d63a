/** The servers of a platform on one machine: they start, stay, come back, keep their data and leave nothing behind. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { connect } from "@nats-io/transport-node"
import { Effect, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { EmbeddedServers } from "../../src/embedded/EmbeddedServers.ts"
import { freePort } from "../support/ServerMakers.ts"
import { ownFolder } from "../support/Servers.ts"

const none = { databaseUrl: Option.none(), natsUrl: Option.none() }

/** A `.datamcp` with the run's nats-server in its tools, so that nothing is downloaded, and a port nobody else wants. */
const dataFolder = Effect.fnUntraced(function* () {
  const folder = join(ownFolder("embedded-"), ".datamcp")
  mkdirSync(join(folder, "tools"), { recursive: true })
  if (inject("machine").nats.startsWith("/")) symlinkSync(inject("machine").nats, join(folder, "tools/nats-server"))
  writeFileSync(join(folder, "ports.json"), JSON.stringify({ nats: yield* freePort }))
  return folder
})

/** Starts the servers in the test's scope. */
const start = Effect.fnUntraced(function* (folder: string) {
  const context = yield* Layer.build(EmbeddedServers.layer({ folder, ...none }).pipe(Layer.provide(NodeServices.layer)))
  return yield* Effect.provide(EmbeddedServers, context)
})

const sqlOn = <A>(
  servers: EmbeddedServers["Service"],
  query: (sql: SqlClient.SqlClient) => Effect.Effect<A, unknown>
) =>
  Effect.flatMap(SqlClient.SqlClient, query).pipe(
    Effect.provide(PgClient.layer({ url: servers.databaseUrl, maxConnections: 1 }))
  )

const natsOn = (servers: EmbeddedServers["Service"], who: "natsAuth" | "natsClientAuth" = "natsAuth") =>
  Effect.acquireRelease(
    Effect.promise(() => {
      const { password, user } = Option.getOrThrow(servers[who])
      return connect({ servers: servers.natsUrl, user, pass: Redacted.value(password), reconnect: false })
    }),
    (connection) => Effect.promise(() => connection.close())
  )

const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("50 millis"), times: 200 })

const pidsOf = Effect.fnUntraced(function* (servers: EmbeddedServers["Service"]) {
  const { nats, postgres } = yield* servers.pids
  return { nats: Option.getOrThrow(nats), postgres: Option.getOrThrow(postgres) }
})

const isOther = (pid: Option.Option<number>, before: number) => Option.exists(pid, (now) => now !== before)

describe("embedded servers", () => {
  it.live("keep data, ports and passwords over a stop and a second start, which takes under 4 s", () =>
    Effect.gen(function* () {
      const folder = yield* dataFolder()
      const first = yield* Effect.scoped(
        Effect.gen(function* () {
          const servers = yield* start(folder)
          yield* sqlOn(servers, (sql) => sql`create table kept as select 42 as answer`)
          return { ...servers, gone: yield* pidsOf(servers) }
        })
      )
      for (const pid of [first.gone.nats, first.gone.postgres]) expect(() => process.kill(pid, 0)).toThrow("ESRCH")
      const began = performance.now()
      const second = yield* start(folder)
      expect(performance.now() - began).toBeLessThan(4_000)
      expect(Redacted.value(second.databaseUrl)).toBe(Redacted.value(first.databaseUrl))
      expect(second.natsUrl).toBe(first.natsUrl)
      expect(yield* sqlOn(second, (sql) => sql`select answer from kept`)).toEqual([{ answer: 42 }])
      const durable = yield* sqlOn(second, (sql) => sql`select current_setting('fsync') as fsync`)
      expect(durable).toEqual([{ fsync: "on" }])
    }).pipe(Effect.scoped)
  )

  it.live("refuse a second platform on the same data, naming the first", () =>
    Effect.gen(function* () {
      const folder = yield* dataFolder()
      yield* start(folder)
      const problem = yield* Effect.flip(start(folder))
      expect(problem.reason).toBe("AlreadyRunning")
      expect(problem.what).toContain(String(process.pid))
    }).pipe(Effect.scoped)
  )

  it.live("come back with their data after kill -9 of Postgres and of nats-server", () =>
    Effect.gen(function* () {
      const servers = yield* start(yield* dataFolder())
      yield* sqlOn(servers, (sql) => sql`create table kept as select 42 as answer`)
      const before = yield* pidsOf(servers)
      process.kill(before.postgres, "SIGKILL")
      process.kill(before.nats, "SIGKILL")
      yield* eventually(
        Effect.flatMap(servers.pids, ({ nats, postgres }) =>
          isOther(nats, before.nats) && isOther(postgres, before.postgres) ? Effect.void : Effect.fail("not yet")
        )
      )
      const rows = yield* eventually(sqlOn(servers, (sql) => sql`select answer from kept`))
      expect(rows).toEqual([{ answer: 42 }])
      const connection = yield* eventually(natsOn(servers))
      expect(connection.info?.jetstream).toBe(true)
    }).pipe(Effect.scoped)
  )

  it.live("start over what a killed platform left, without its servers in the way", () =>
    Effect.gen(function* () {
      const folder = yield* dataFolder()
      const killed = yield* Effect.promise(async () => {
        const program = fileURLToPath(new URL("holdServers.ts", import.meta.url))
        const child = spawn(process.execPath, [program, folder], { stdio: ["ignore", "pipe", "inherit"] })
        const [pids] = await once(child.stdout, "data")
        child.kill("SIGKILL")
        await once(child, "exit")
        return JSON.parse(String(pids)) as { nats: number; postgres: number }
      })
      const servers = yield* start(folder)
      expect(yield* sqlOn(servers, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }])
      const now = yield* pidsOf(servers)
      expect([now.nats, now.postgres]).not.toContain(killed.nats)
      expect([now.nats, now.postgres]).not.toContain(killed.postgres)
    }).pipe(Effect.scoped)
  )

  it.live.each(["postgres.draft", "postgres/postmaster.pid", "nats.pid"])(
    "can be started again after a start that was interrupted when it had made %s",
    (made) =>
      Effect.gen(function* () {
        const folder = yield* dataFolder()
        const starting = yield* Effect.forkChild(Effect.scoped(Effect.andThen(start(folder), Effect.never)))
        yield* eventually(Effect.suspend(() => (existsSync(join(folder, made)) ? Effect.void : Effect.fail("not yet"))))
        yield* Fiber.interrupt(starting)
        const servers = yield* start(folder)
        expect(yield* sqlOn(servers, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }])
      }).pipe(Effect.scoped)
  )

  it.live("take another port, and remember it, when somebody listens on theirs", () =>
    Effect.gen(function* () {
      const folder = yield* dataFolder()
      const port = Number(new URL(yield* Effect.scoped(Effect.map(start(folder), ({ natsUrl }) => natsUrl))).port)
      const squatter = createServer().listen(port, "127.0.0.1")
      yield* Effect.promise(() => once(squatter, "listening"))
      yield* Effect.addFinalizer(() => Effect.sync(() => squatter.close()))
      const second = yield* Effect.scoped(Effect.map(start(folder), ({ natsUrl }) => natsUrl))
      expect(new URL(second).port).not.toBe(String(port))
      expect(JSON.parse(readFileSync(`${folder}/ports.json`, "utf8")).nats).toBe(Number(new URL(second).port))
    }).pipe(Effect.scoped)
  )

  it.live("are not started, and leave no folder, when others are named", () =>
    Effect.gen(function* () {
      const folder = join(ownFolder("named-"), ".datamcp")
      const named = {
        databaseUrl: Option.some(Redacted.make("postgres://db.example/x")),
        natsUrl: Option.some("nats://n")
      }
      const context = yield* Layer.build(
        EmbeddedServers.layer({ folder, ...named }).pipe(Layer.provide(NodeServices.layer))
      )
      const servers = yield* Effect.provide(EmbeddedServers, context)
      expect(servers.natsUrl).toBe("nats://n")
      expect(yield* servers.pids).toEqual({ nats: Option.none(), postgres: Option.none() })
      expect(existsSync(folder)).toBe(false)
    }).pipe(Effect.scoped)
  )

  it.live("say what to do when their folder cannot be made", () =>
    Effect.gen(function* () {
      const parent = ownFolder("file-")
      writeFileSync(join(parent, "taken"), "a file, not a folder")
      const problem = yield* Effect.flip(start(join(parent, "taken", ".datamcp")))
      expect(problem).toMatchObject({ _tag: "EmbeddedProblem", reason: "NotPermitted" })
      expect(problem.what).toContain("taken")
    }).pipe(Effect.scoped)
  )
})

describe("secrets of embedded servers", () => {
  it.live("are files that only their owner can read", () =>
    Effect.gen(function* () {
      const folder = yield* dataFolder()
      yield* start(folder)
      for (const file of ["secrets/postgres", "secrets/nats", "secrets/nats-client", "nats.conf"]) {
        expect([file, (statSync(join(folder, file)).mode & 0o777).toString(8)]).toEqual([file, "600"])
      }
    }).pipe(Effect.scoped)
  )

  it.live("keep out whoever has none, and clients out of everything but the service", () =>
    Effect.gen(function* () {
      const servers = yield* start(yield* dataFolder())
      const url = servers.natsUrl
      yield* Effect.flip(Effect.tryPromise(() => connect({ servers: url, reconnect: false })))
      const wrong = { url: Redacted.make(Redacted.value(servers.databaseUrl).replace(/:[^:@]+@/, ":wrong@")) }
      yield* Effect.flip(
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 1`).pipe(Effect.provide(PgClient.layer(wrong)))
      )
      const node = yield* natsOn(servers)
      const client = yield* natsOn(servers, "natsClientAuth")
      node.subscribe("datamcp.v1.>", { callback: (_, message) => void message.respond("heard") })
      yield* Effect.promise(() => node.flush())
      const answer = yield* Effect.promise(() => client.request("datamcp.v1.default.tasks.get", "", { timeout: 2_000 }))
      expect(answer.string()).toBe("heard")
      for (const subject of ["task.default.agent.normal", "event.default.task.1", "$JS.API.STREAM.NAMES"]) {
        yield* Effect.flip(Effect.tryPromise(() => client.request(subject, "", { timeout: 2_000 })))
      }
    }).pipe(Effect.scoped)
  )
})
