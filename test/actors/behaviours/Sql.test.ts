/** Queries over what a task brings: what is read, how exact it stays, what comes of it. */
import { readFileSync } from "node:fs"
import { gzipSync } from "node:zlib"
import { expect, layer } from "@effect/vitest"
import { Context, Effect, Layer, type Schema, Stream } from "effect"
import type { Attempt, RunAttempt } from "../../../actors/Behaviour.ts"
import { sql } from "../../../actors/behaviours/Sql.ts"
import { ArtifactStore } from "../../../actors/ports/ArtifactStore.ts"
import { attemptOf, namespace, perform, recordProgress, services } from "./attempts.ts"
import { stubServer } from "./StubServer.ts"

const dataset = (name: string) =>
  readFileSync(new URL(`../../../node_modules/vega-datasets/data/${name}`, import.meta.url))

const local = { allow_private: ["127.0.0.1"] }
/** One agent instance for all tests that need no settings of their own, as tasks have it. */
class Opened extends Context.Service<Opened, RunAttempt>()("test/Opened") {
  static readonly layer = Layer.effect(Opened, sql.open(local))
}

const run = (
  payload: Schema.Json,
  given: Partial<Attempt> & { readonly settings?: Record<string, Schema.Json> } = {}
) =>
  Effect.flatMap(Opened, (opened) =>
    given.settings === undefined
      ? Effect.scoped(opened(attemptOf(sql, payload, given)))
      : perform(sql, payload, { ...given, settings: { ...local, ...given.settings } })
  ).pipe(Effect.map((result) => result as unknown as Result))

const refusal = (payload: Schema.Json) =>
  run(payload).pipe(
    Effect.flip,
    Effect.flatMap((failure) => (failure._tag === "BehaviourFailure" ? Effect.succeed(failure) : Effect.die(failure)))
  )

interface Result {
  readonly columns: ReadonlyArray<{ readonly name: string; readonly type: string }>
  readonly rows: ReadonlyArray<Record<string, Schema.Json>>
  readonly row_count: number
  readonly checks: Record<string, { readonly rows: number; readonly columns: ReadonlyArray<object> }>
  readonly artifact: { readonly id: string; readonly name: string }
  readonly report: {
    readonly markdown: string
    readonly sections: ReadonlyArray<{ readonly rows: ReadonlyArray<object> }>
  }
}

const files = (contents: Record<string, string | Buffer>) =>
  stubServer(
    Object.fromEntries(
      Object.entries(contents).map(([name, content]) => [`/${name}`, (_, response) => void response.end(content)])
    )
  )

layer(Layer.provideMerge(Opened.layer, services), { excludeTestServices: true })("sql", (it) => {
  it.effect("joins a CSV and a JSON file that it fetches, and counts as JavaScript does", () =>
    Effect.gen(function* () {
      const server = yield* files({
        "cars.json": dataset("cars.json"),
        "countries.csv": "Origin,continent\nUSA,America\nJapan,Asia\nEurope,Europe\n"
      })
      const { progress, reports } = recordProgress()
      const result = yield* run(
        {
          inputs: { cars: { url: `${server.url}/cars.json` }, places: { url: `${server.url}/countries.csv` } },
          query:
            "select continent, count(*) as n, sum(Horsepower) as power from cars join places using (Origin) group by all order by all",
          profile: true
        },
        { progress }
      )
      const cars: ReadonlyArray<{ readonly Origin: string; readonly Horsepower: number | null }> = JSON.parse(
        dataset("cars.json").toString()
      )
      const of = (origin: string) => cars.filter(({ Origin }) => Origin === origin)
      const expected = (
        [
          ["America", "USA"],
          ["Asia", "Japan"],
          ["Europe", "Europe"]
        ] as const
      ).map(([continent, origin]) => ({
        continent,
        n: of(origin).length,
        power: of(origin).reduce((sum, { Horsepower }) => sum + (Horsepower ?? 0), 0)
      }))
      expect(result.rows).toEqual(expected)
      expect(result.row_count).toBe(3)
      expect(result.checks["cars"]).toMatchObject({ rows: cars.length, bytes: dataset("cars.json").length })
      expect(result.checks["cars"]?.columns).toContainEqual({
        name: "Horsepower",
        type: "BIGINT",
        nulls: cars.filter(({ Horsepower }) => Horsepower === null).length
      })
      expect(new Set(reports.map(({ current_step }) => current_step))).toEqual(
        new Set(["fetch cars", "fetch places", "load cars", "load places", "query"])
      )
      expect(reports.at(-1)).toMatchObject({
        current_step: "query",
        completed_steps: 4,
        total_steps: 5,
        percentage: 80
      })
    })
  )

  it.effect("tells the format by name, by content type, or as it is told", () =>
    Effect.gen(function* () {
      const server = yield* stubServer({
        "/a.tsv": (_, response) => response.end("x\ty\n1\t2\n"),
        "/b.ndjson": (_, response) => response.end(`{"x":1}\n{"x":2}\n`),
        "/c.csv.gz": (_, response) => response.end(gzipSync("x\n7\n8\n9\n")),
        "/d": (_, response) => response.writeHead(200, { "content-type": "text/csv; charset=utf-8" }).end("x\n1\n"),
        "/e.txt": (_, response) => response.end("x;y\n1;-\n"),
        "/f.parquet": (_, response) => response.end(dataset("flights-3m.parquet").subarray(0, 100))
      })
      const at = (name: string) => `${server.url}/${name}`
      const counted = (input: Schema.Json) => Effect.map(run({ inputs: { t: input } }), ({ checks }) => checks["t"])
      expect(yield* counted({ url: at("a.tsv") })).toMatchObject({ rows: 1, columns: [{ name: "x" }, { name: "y" }] })
      expect(yield* counted({ url: at("b.ndjson") })).toMatchObject({
        rows: 2,
        columns: [{ name: "x", type: "BIGINT" }]
      })
      expect(yield* counted({ url: at("c.csv.gz") })).toMatchObject({ rows: 3 })
      expect(yield* counted({ url: at("d") })).toMatchObject({ rows: 1 })
      const csv = { delimiter: ";", null_values: ["-"] }
      expect(
        yield* counted({ url: at("e.txt"), format: "csv", csv, types: { x: "VARCHAR", y: "DATE" } })
      ).toMatchObject({
        columns: [
          { name: "x", type: "VARCHAR" },
          { name: "y", type: "DATE" }
        ]
      })
      expect(yield* refusal({ inputs: { t: { url: at("e.txt") } } })).toMatchObject({
        code: "input_format",
        message: expect.stringContaining("inputs.t.format")
      })
      expect(yield* refusal({ inputs: { t: { url: at("f.parquet") } } })).toMatchObject({
        code: "input_unreadable",
        message: expect.stringMatching(/^inputs\.t: it cannot be read as parquet/u)
      })
      expect(yield* refusal({ inputs: { t: { url: at("a.tsv"), types: { z: "DATE" } } } })).toMatchObject({
        code: "input_column",
        message: expect.stringContaining(`"z"`)
      })
    })
  )

  it.effect("settles the type of a column by all of its rows", () =>
    Effect.gen(function* () {
      const numbers = Array.from({ length: 30_000 }, (_, index) => index)
      const server = yield* files({ "late.csv": `code\n${numbers.join("\n")}\nA1\n`, "zip.csv": "zip\n01234\n" })
      const result = yield* run({
        inputs: { late: { url: `${server.url}/late.csv` }, zip: { url: `${server.url}/zip.csv` } },
        query: "select zip, (select max(code) from late where code like 'A%') as late from zip"
      })
      expect(result.rows).toEqual([{ zip: "01234", late: "A1" }])
    })
  )

  it.effect("gives every value back exactly", () =>
    Effect.gen(function* () {
      const result = yield* run({
        query: `select 9007199254740991::bigint as safe, -9007199254740993::bigint as beyond, 170141183460469231731687303715884105727::hugeint as huge,
          1.10::decimal(10, 2) as price, sum(x) as total, 0.1::double as fraction, 'nan'::double as odd, date '2024-02-29' as day,
          timestamp '2024-02-29 12:00:00.123456' as local, timestamptz '2024-02-29 12:00:00+02' as instant, time '01:02:03' as clock,
          'infinity'::timestamp as never, '\\x00\\xFF'::blob as bytes, [1, null] as list, {'a': 1::bigint, 'b': [date '2024-01-01']} as struct,
          map {'k': 2.50::decimal(4, 2)} as pairs, '{"a": [1, "x"]}'::json as json, 'b'::enum('a', 'b') as choice, null as nothing, true as yes,
          chr(0) || 'é' as text, 1 as "same", 2 as "same"
          from range(3) t(x)`
      })
      expect(result.rows).toEqual([
        {
          safe: 9_007_199_254_740_991,
          beyond: "-9007199254740993",
          huge: "170141183460469231731687303715884105727",
          price: "1.10",
          total: 3,
          fraction: 0.1,
          odd: "NaN",
          day: "2024-02-29",
          local: "2024-02-29T12:00:00.123456",
          instant: "2024-02-29T10:00:00Z",
          clock: "01:02:03",
          never: "infinity",
          bytes: "AP8=",
          list: [1, null],
          struct: { a: 1, b: ["2024-01-01"] },
          pairs: [{ key: "k", value: "2.50" }],
          json: { a: [1, "x"] },
          choice: "b",
          nothing: null,
          yes: true,
          text: "\uFFFDé",
          same: 1,
          "same:1": 2
        }
      ])
      expect(result.columns.slice(0, 4)).toEqual([
        { name: "safe", type: "BIGINT" },
        { name: "beyond", type: "BIGINT" },
        { name: "huge", type: "HUGEINT" },
        { name: "price", type: "DECIMAL(10,2)" }
      ])
      expect(yield* refusal({ query: `select 1 as "__proto__"` })).toMatchObject({ code: "sql_column_name" })
    })
  )

  it.effect("takes another query's rows with their types, also when there are none", () =>
    Effect.gen(function* () {
      const query =
        "select x::decimal(10, 2) / 4 as price, date '2024-01-01' + x::int as day, 9007199254740993 + x as id, 'a' as name from range(2) t(x)"
      const { columns, rows } = yield* run({
        query: `select price::decimal(12, 4) as price, day, id, name from (${query})`
      })
      const next = yield* run({
        inputs: { t: { rows, columns } as never },
        query: "select sum(price) as total, max(day) as last, max(id) as id from t"
      })
      expect(next.rows).toEqual([{ total: "0.2500", last: "2024-01-02", id: "9007199254740994" }])
      expect(next.checks["t"]?.columns).toEqual(columns)
      const none = yield* run({
        inputs: { t: { rows: [], columns } as never },
        query: "select count(*) as n, sum(price) as total from t"
      })
      expect(none.rows).toEqual([{ n: 0, total: null }])
      expect(none.checks["t"]?.columns).toEqual(columns)
      expect(yield* refusal({ inputs: { t: { rows: [] } }, query: "from t" })).toMatchObject({
        code: "input_empty",
        message: expect.stringContaining("inputs.t.rows")
      })
    })
  )

  it.effect("finds the types of plain rows, nested ones too", () =>
    Effect.gen(function* () {
      const rows = [
        { id: 1, 'odd "name"': "x", tags: ["a"] },
        { id: 2.5, day: "2024-01-01", tags: [] }
      ]
      const result = yield* run({ inputs: { t: { rows } }, query: "from t" })
      expect(result.columns).toEqual([
        { name: "id", type: "DOUBLE" },
        { name: 'odd "name"', type: "VARCHAR" },
        { name: "tags", type: "VARCHAR[]" },
        { name: "day", type: "DATE" }
      ])
      expect(result.rows[1]).toEqual({ id: 2.5, 'odd "name"': null, tags: [], day: "2024-01-01" })
    })
  )

  it.effect("finds the type that all numbers of a JSON column fit into", () =>
    Effect.gen(function* () {
      const server = yield* files({ "n.json": `[{"a": -1, "b": -1}, {"a": 2, "b": 18446744073709551615}]` })
      const result = yield* run({ inputs: { n: { url: `${server.url}/n.json` } }, query: "from n order by a" })
      expect(result.columns).toEqual([
        { name: "a", type: "BIGINT" },
        { name: "b", type: "HUGEINT" }
      ])
      expect(result.rows[1]).toEqual({ a: 2, b: "18446744073709551615" })
    })
  )

  it.effect("ends with the rule that an input breaks", () =>
    Effect.gen(function* () {
      const rows = [
        { id: 1, name: "a" },
        { id: 1, name: null }
      ]
      const broken = (expect: Schema.Json) =>
        Effect.map(refusal({ inputs: { people: { rows, expect } } }), ({ code, message, retryable }) => [
          code,
          message,
          retryable
        ])
      expect(yield* broken({ rows_min: 3 })).toEqual([
        "check_failed",
        "inputs.people: it has 2 rows, fewer than rows_min 3",
        false
      ])
      expect(yield* broken({ rows_max: 1, not_null: ["name"], unique: ["id"] })).toEqual([
        "check_failed",
        "inputs.people: it has 2 rows, more than rows_max 1; it has 1 nulls in name (not_null); it repeats 1 values of id (unique)",
        false
      ])
      expect((yield* broken({ not_null: ["nam"] }))[0]).toBe("input_column")
      const passed = yield* run({
        inputs: { people: { rows, expect: { rows_min: 2, rows_max: 2, not_null: ["id"], unique: ["name"] } } }
      })
      expect(passed.checks["people"]?.rows).toBe(2)
    })
  )

  it.effect.each(["csv", "json", "ndjson", "jsonl", "parquet"])(
    "keeps all rows as %s, which another task can read",
    (extension) =>
      Effect.gen(function* () {
        const saved = yield* run({
          statements: ["create table t as select x as id, 'line\n' || x as name, x / 2 as half from range(5000) t(x)"],
          query: "from t order by id;",
          save_as: `numbers.${extension}`
        })
        expect(saved).toMatchObject({ row_count: 5_000, truncated: true, artifact: { name: `numbers.${extension}` } })
        expect(saved.rows).toHaveLength(20)
        expect(saved.rows[1]).toEqual({ id: 1, name: "line\n1", half: 0.5 })
        const read = yield* run({
          inputs: { t: { artifact: saved.artifact.id } },
          query: "select count(*) n, sum(id) as ids, sum(half) as halves, min(name) as name from t"
        })
        expect(read.rows).toEqual([{ n: 5_000, ids: 12_497_500, halves: 6_248_750, name: "line\n0" }])
      })
  )

  it.effect("keeps an artifact in its own namespace", () =>
    Effect.gen(function* () {
      const store = yield* ArtifactStore
      const foreign = yield* store.put({
        namespace: "other" as never,
        name: "x.csv",
        contentType: "text/csv",
        content: Stream.make(Buffer.from("x\n1\n"))
      })
      expect(yield* refusal({ inputs: { t: { artifact: foreign.id } } })).toMatchObject({
        code: "artifact_not_found",
        retryable: false
      })
      expect((yield* store.info("other" as never, foreign.id)).namespace).not.toBe(namespace)
    })
  )

  it.effect("writes a report whose tables hold whatever the data says", () =>
    Effect.gen(function* () {
      const result = yield* run({
        inputs: { t: { rows: [{ name: "a|b\n<script>*x*</script>", n: 1 }] } },
        report: {
          title: "Numbers",
          sections: [
            { heading: "All & more", text: "As **given**.", query: "select name, n, n / 4 as share from t" },
            { heading: "None", query: "select n from t where false" }
          ]
        }
      })
      expect(result.report.markdown).toBe(
        [
          "# Numbers",
          "## All &amp; more",
          "As **given**.",
          "| name | n | share |\n| --- | ---: | ---: |\n| a\\|b &lt;script>\\*x\\*&lt;/script> | 1 | 0.25 |",
          "## None",
          "No rows.\n"
        ].join("\n\n")
      )
      expect(result.report.sections.map(({ rows }) => rows.length)).toEqual([1, 0])
      expect(result).not.toHaveProperty("rows")
    })
  )

  it.effect("runs statements before the query, and several in one text", () =>
    Effect.gen(function* () {
      const result = yield* run({
        statements: [
          "create table t(x int); insert into t values (1), (2)",
          "update t set x = x + 1",
          "create view v as from t",
          "create macro twice(a) as a * 2"
        ],
        query: "delete from t where x = 3; select twice(x) as x from v"
      })
      expect(result.rows).toEqual([{ x: 4 }])
      expect((yield* run({ query: "create table t as select 1 as a; pivot t on a using count(*)" })).rows).toEqual([
        { "1": 1 }
      ])
    })
  )

  it.effect("names the limit that a result passes, and the way around it", () =>
    Effect.gen(function* () {
      expect(yield* refusal({ query: "from range(1001)" })).toMatchObject({
        code: "rows_too_many",
        retryable: false,
        message: expect.stringMatching(/more than 1000 rows \(max_rows\).*save_as/u)
      })
      expect((yield* run({ query: "from range(7)", max_rows: 7 })).row_count).toBe(7)
      expect(yield* refusal({ query: "from range(8)", max_rows: 7 })).toMatchObject({ code: "rows_too_many" })
      expect(yield* refusal({ query: "from range(8)", max_rows: 1_001 })).toMatchObject({
        code: "payload_invalid",
        message: expect.stringContaining("max_rows: must be at most 1000")
      })
      expect((yield* run({ query: "from range(1500)" }, { settings: { max_rows: 2_000 } })).row_count).toBe(1_500)
      expect(yield* refusal({ query: "select repeat('x', 1000) as x from range(300)" })).toMatchObject({
        code: "result_too_large",
        message: expect.stringContaining("262144 bytes")
      })
      const report = {
        title: "t",
        sections: [{ heading: "h", query: "select repeat('x', 1000) as x from range(150)" }]
      }
      expect(yield* refusal({ report })).toMatchObject({ code: "result_too_large" })
      // An endless result is not computed further than it is read.
      expect(yield* refusal({ query: "from range(1000000000000)" })).toMatchObject({ code: "rows_too_many" })
    })
  )

  it.effect("says what is wrong with a query, and where", () =>
    Effect.gen(function* () {
      expect(yield* refusal({ query: "select nope from range(3)" })).toMatchObject({
        code: "sql_error",
        retryable: false,
        message: expect.stringMatching(/^query: Binder Error.*"nope"/u)
      })
      expect(yield* refusal({ statements: ["select 1", "selec 1"], query: "select 1" })).toMatchObject({
        code: "sql_error",
        message: expect.stringContaining("statements.1: ")
      })
      expect(
        yield* refusal({ report: { title: "t", sections: [{ heading: "h", query: "from nope" }] } })
      ).toMatchObject({ message: expect.stringContaining("report.sections.0.query: ") })
      expect(yield* refusal({ query: " -- nothing" })).toMatchObject({ code: "sql_error" })
      expect(yield* refusal({ query: "select 1; select 2", save_as: "x.csv" })).toMatchObject({
        message: expect.stringContaining("one statement")
      })
    })
  )

  it.effect("refuses payloads and settings that break a rule, naming the field", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [Schema.Json, string]> = [
        [{}, "a payload with inputs, query or report"],
        [{ sql: "select 1" }, "sql"],
        [{ query: "" }, "query"],
        [{ query: "select 1", save_as: "x.xlsx" }, "save_as: must be a name that ends in .csv"],
        [{ inputs: { t: { rows: [] } }, save_as: "x.csv" }, "a query when it has save_as"],
        [{ inputs: { "t;drop": { rows: [] } } }, "t;drop"],
        [{ inputs: { t: {} } }, "inputs.t: must be an input with exactly one of url, artifact and rows"],
        [{ inputs: { t: { url: "http://x/a.csv", rows: [] } } }, "exactly one of"],
        [{ inputs: { t: { rows: [1] } } }, "inputs.t.rows.0"],
        [{ inputs: { t: { rows: [], types: { a: "INT); drop table x; --" } } } }, "inputs.t.types.a"],
        [{ inputs: { t: { url: "http://x/a.csv", columns: [] } } }, "types for the columns of a file"],
        [{ query: "select 1", max_rows: 0 }, "max_rows"]
      ]
      for (const [payload, message] of wrong) {
        expect(yield* refusal(payload)).toMatchObject({
          code: "payload_invalid",
          retryable: false,
          message: expect.stringContaining(message)
        })
      }
      expect((yield* Effect.flip(sql.check({ memory_mib: 1 }))).message).toContain("memory_mib")
      yield* sql.check({})
    })
  )
})
