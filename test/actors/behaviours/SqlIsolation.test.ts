/** What a hostile or broken query can do: nothing to the node, its files, its network or the next task. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, type Schema, Semaphore } from "effect"
import { sql } from "../../../actors/behaviours/Sql.ts"
import { EngineSlots } from "../../../actors/behaviours/sql/Engines.ts"
import { attemptOf, failureOf, perform, recordProgress, services } from "./attempts.ts"
import { stubServer, until } from "./StubServer.ts"

const refusal = (payload: Schema.Json, settings: Schema.Json = {}) => failureOf(sql, payload, { settings })

/** Folders of attempts, and engine processes of this process; the handle of one that has ended closes a moment later. */
const taskFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith(`datamcp-sql-`))
const processes = () => process.getActiveResourcesInfo().filter((name) => name === "ProcessWrap").length

/** Runs for minutes, in native code, over nothing but a few numbers. */
const endless =
  "select count(*) as n from range(100000) a, range(100000) b, range(1000) c where a.range * b.range % 7 = c.range"

const tempFile = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = mkdtempSync(join(tmpdir(), "sql-isolation-"))
    writeFileSync(join(folder, "secret.csv"), "secret\n42\n")
    return folder
  }),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

layer(services, { excludeTestServices: true })("a query", (it) => {
  it.effect("reads no file but its inputs, whatever it calls it", () =>
    Effect.gen(function* () {
      const folder = yield* tempFile
      const secret = `${folder}/secret.csv`
      const run = yield* sql.open({})
      const refused = (payload: Schema.Json) =>
        Effect.map(Effect.flip(Effect.scoped(run(attemptOf(sql, payload)))), String)
      const readers = [
        `read_csv('${secret}')`,
        `read_csv_auto('${secret}')`,
        `read_text('${secret}')`,
        `read_blob('${secret}')`,
        `read_json('${secret}')`,
        `read_parquet('${secret}')`,
        `parquet_metadata('${secret}')`,
        `sniff_csv('${secret}')`,
        `'${secret}'`,
        `"${secret}"`,
        `glob('${folder}/*')`,
        `read_csv('file://${secret}')`,
        `read_csv('/proc/self/environ')`,
        `read_text('/proc/self/../../${secret}')`,
        `read_csv(current_setting('temp_directory') || '/../../../../../../${secret}')`,
        `query('from read_csv(''${secret}'')')`,
        `query_table('${secret}')`,
        "read_csv('http://127.0.0.1/x.csv')",
        "read_csv('s3://bucket/x.csv')",
        "read_csv('/dev/stdin')"
      ]
      for (const reader of readers) {
        expect([reader, yield* refused({ query: `select * from ${reader}` })]).toEqual([
          reader,
          expect.stringMatching(/Permission Error|Catalog Error|Binder Error/u)
        ])
      }
      expect(
        yield* refused({
          statements: [`create macro leak() as table from read_text('${secret}')`],
          query: "from leak()"
        })
      ).toMatch(/Permission Error/u)
      expect(yield* refused({ query: `select getenv('PATH')` })).toMatch(/Catalog Error/u)
    })
  )

  it.effect("writes no file, loads no extension and changes no setting", () =>
    Effect.gen(function* () {
      const folder = yield* tempFile
      const run = yield* sql.open({})
      const attempts = [
        `copy (select 1) to '${folder}/x.csv'`,
        `copy (select 1) to '/dev/stdout'`,
        `export database '${folder}/x'`,
        `import database '${folder}'`,
        `attach '${folder}/x.db' as x`,
        `attach '${folder}/x.db' as x; create table x.t as select 1`,
        "attach ':memory:' as x",
        "detach memory",
        "use memory",
        "install httpfs",
        "force install httpfs",
        "install httpfs from 'http://127.0.0.1/'",
        "load httpfs",
        `load '${folder}/x.so'`,
        "update extensions",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "set lock_configuration = false",
        "reset lock_configuration",
        "set memory_limit = '100GB'",
        "pragma memory_limit = '100GB'",
        "pragma enable_external_access = true",
        "pragma enable_profiling",
        `set temp_directory = '${folder}'`,
        `set log_query_path = '${folder}/x'`,
        "call pragma_version()",
        "checkpoint",
        "vacuum",
        "prepare p as select 1",
        "execute p",
        "create persistent secret s (type s3)",
        `explain analyze copy (select 1) to '${folder}/x.csv'`,
        `begin; copy (select 1) to '${folder}/x.csv'; commit`,
        "select 1; set threads = 64"
      ]
      for (const attempt of attempts) {
        const outcome = yield* Effect.flip(Effect.scoped(run(attemptOf(sql, { query: attempt }))))
        expect([attempt, outcome.message]).toEqual([
          attempt,
          expect.stringMatching(
            /not permitted|Permission Error|locked|Parser Error|Binder Error|Invalid|Catalog Error/u
          )
        ])
      }
      expect(readdirSync(folder)).toEqual(["secret.csv"])
      // The way that save_as takes: a subquery that closes its parenthesis early gets no further.
      const outcome = yield* refusal({ query: `select 1) to '${folder}/x.csv' --`, save_as: "x.csv" })
      expect(outcome.code).toBe("sql_error")
      expect(readdirSync(folder)).toEqual(["secret.csv"])
    })
  )

  it.effect("does not tell where its folder lies", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/x.csv": (_, response) => response.end('a,b\n1,"x'),
        "/x.json": (_, response) => response.end("{")
      })
      for (const name of ["x.csv", "x.json"]) {
        const { code, message } = yield* refusal(
          { inputs: { t: { url: `${server.url}/${name}`, types: { a: "DATE" } } } },
          { allow_private: ["127.0.0.1"] }
        )
        expect(["input_unreadable", "input_column"]).toContain(code)
        expect(message).not.toContain(tmpdir())
      }
    })
  )

  it.effect("fetches only what its agent's settings admit, and no more bytes than they say", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({ "/x.csv": (_, response) => response.end(`x\n${"1\n".repeat(600_000)}`) })
      const inputs = (url: string) => ({ inputs: { a: { url }, b: { url } } })
      expect(yield* refusal(inputs(`${server.url}/x.csv`))).toMatchObject({
        code: "http_destination_refused",
        message: expect.stringMatching(/^inputs\.[ab]: 127\.0\.0\.1 port/u),
        retryable: false
      })
      expect(server.connections()).toBe(0)
      const settings = { allow_private: ["127.0.0.1"], input_mib: 2 }
      expect(yield* refusal(inputs(`${server.url}/x.csv`), settings)).toMatchObject({
        code: "input_too_large",
        retryable: false,
        message: expect.stringContaining("2097152 bytes")
      })
      expect(yield* refusal(inputs(`${server.url}/y.csv`), settings)).toMatchObject({
        code: "http_status",
        retryable: false
      })
    })
  )

  it.effect("ends by itself when it needs more memory or disk than it may have", () =>
    Effect.gen(function* () {
      const greedy = "select list(x order by hash(x)) as xs from range(100000000) t(x)"
      expect(yield* refusal({ query: greedy }, { memory_mib: 64, spill_mib: 0 })).toMatchObject({
        code: "sql_out_of_memory",
        retryable: false
      })
      const spills =
        "select count(*) from (select x, row_number() over (order by hash(x)) as n from range(30000000) t(x)) where n % 2 = 0"
      expect(yield* refusal({ query: spills }, { memory_mib: 64, spill_mib: 16 })).toMatchObject({
        code: "sql_out_of_memory",
        retryable: false
      })
    })
  )

  it.effect("that brings its process down costs nothing but its own attempt", () =>
    Effect.gen(function* () {
      const run = yield* sql.open({})
      // A known defect of DuckDB 1.5: a log that cannot be written ends the process from a thread.
      const crash = { query: "select * from enable_logging(storage = 'file', storage_path = '/nowhere'); select 1" }
      const failure = yield* Effect.flip(Effect.scoped(run(attemptOf(sql, crash))))
      expect(failure).toMatchObject({
        code: "sql_engine_died",
        retryable: true,
        message: expect.stringContaining("SIGABRT")
      })
      expect(yield* Effect.scoped(run(attemptOf(sql, { query: "select 1 as x" })))).toMatchObject({ rows: [{ x: 1 }] })
    })
  )

  it.effect("sees nothing of the task before it", () =>
    Effect.gen(function* () {
      const run = yield* sql.open({})
      const ask = (payload: Schema.Json) => Effect.scoped(run(attemptOf(sql, payload)))
      yield* ask({ statements: ["create table mine as select 42 as x", "create macro f() as 1"], query: "from mine" })
      expect(yield* Effect.flip(ask({ query: "from mine" }))).toMatchObject({
        message: expect.stringContaining("mine does not exist")
      })
      expect(yield* Effect.flip(ask({ query: "select f()" }))).toMatchObject({
        message: expect.stringContaining("f does not exist")
      })
      // Both ran in one process: its start is paid once.
      yield* until(() => processes() === 1)
    })
  )

  it.effect("ends at once when its task is cancelled, and leaves neither process nor folder", () =>
    Effect.gen(function* () {
      const before = taskFolders()
      const { progress, reports } = recordProgress()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const run = yield* sql.open({})
          const fiber = yield* Effect.forkChild(Effect.scoped(run(attemptOf(sql, { query: endless }, { progress }))))
          yield* until(() => reports.some(({ current_step }) => current_step === "query"))
          yield* until(() => processes() === 1)
          const folder = taskFolders().find((name) => !before.includes(name)) ?? ""
          expect(existsSync(join(tmpdir(), folder, "spill"))).toBe(true)
          const [took] = yield* Effect.timed(Fiber.interrupt(fiber))
          expect(Duration.toMillis(took)).toBeLessThan(1_000)
          expect(existsSync(join(tmpdir(), folder))).toBe(false)
          yield* until(() => processes() === 0)
        })
      )
    })
  )

  it.effect("leaves the node free to do other things meanwhile", () =>
    Effect.gen(function* () {
      const { progress, reports } = recordProgress()
      const fiber = yield* Effect.forkChild(perform(sql, { query: endless }, { progress }))
      yield* until(() => reports.length > 0)
      let longest = 0
      for (let tick = 0; tick < 100; tick++) {
        const [took] = yield* Effect.timed(Effect.sleep("5 millis"))
        longest = Math.max(longest, Duration.toMillis(took))
      }
      yield* Fiber.interrupt(fiber)
      expect(longest).toBeLessThan(500)
    })
  )

  it.effect("waits its turn when all slots are taken, and can be cancelled while it waits", () =>
    Effect.gen(function* () {
      const slots = yield* Semaphore.make(1)
      yield* Effect.gen(function* () {
        const { progress, reports } = recordProgress()
        const run = yield* sql.open({})
        const ask = (query: string) => Effect.scoped(run(attemptOf(sql, { query }, { progress })))
        const first = yield* Effect.forkChild(ask(endless))
        yield* until(() => reports.length === 1)
        const second = yield* Effect.forkChild(ask("select 2 as x"))
        const third = yield* Effect.forkChild(ask("select 3 as x"))
        yield* Effect.sleep("50 millis")
        expect(reports).toHaveLength(1)
        yield* Fiber.interrupt(second)
        yield* Fiber.interrupt(first)
        expect(yield* Fiber.join(third)).toMatchObject({ rows: [{ x: 3 }] })
      }).pipe(Effect.provideService(EngineSlots, slots))
    })
  )

  it.effect("has its processes end with the instance", () =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const run = yield* sql.open({})
          yield* Effect.all(
            [1, 2].map((x) => Effect.scoped(run(attemptOf(sql, { query: `select ${x}` })))),
            { concurrency: 2 }
          )
          yield* until(() => processes() === 2)
        })
      )
      yield* until(() => processes() === 0)
    })
  )
})
