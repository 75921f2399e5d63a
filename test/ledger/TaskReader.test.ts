/** Tasks as readers see them: whole, in order, of their own namespace, and as the filters say. */
import { describe, expect, layer, it as pure } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { Event as EventSchema } from "../../protocol/Event.ts"
import { GraphId, Namespace, TaskId, type TaskType } from "../../protocol/Ids.ts"
import { ListTasks } from "../../protocol/Query.ts"
import { Graph, Task } from "../../protocol/Task.ts"
import { decodeCursor, encodeCursor } from "../../src/ledger/Cursor.ts"
import { TaskReader, TaskReaderLimits } from "../../src/ledger/TaskReader.ts"
import * as Database from "./Database.ts"

const Live = TaskReader.layer.pipe(Layer.provideMerge(Database.layer))
const home = Namespace.make("default")
const query = Schema.decodeUnknownSync(ListTasks)
const closed = { onExcessProperty: "error" } as const

/** Every page from the first to the last; the ids in the order they came. */
const readAll = Effect.fnUntraced(function* (
  namespace: Namespace,
  filter: object,
  options: { readonly limit: number; readonly between?: Effect.Effect<unknown, never, SqlClient.SqlClient | UuidV7> }
) {
  const reader = yield* TaskReader
  const ids: Array<TaskId> = []
  let cursor: string | null | undefined
  for (let pages = 0; cursor !== null; pages++) {
    expect(pages).toBeLessThan(200)
    const page: { data: ReadonlyArray<Task>; next_cursor: string | null } = yield* reader.list(
      namespace,
      query({ ...filter, limit: options.limit, ...(cursor !== undefined && { cursor }) })
    )
    expect(page.data.length).toBeLessThanOrEqual(options.limit)
    ids.push(...page.data.map(({ id }) => id))
    cursor = page.next_cursor
    if (options.between !== undefined) yield* options.between
  }
  return ids
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("a task", (it) => {
  it.effect("comes back as the view that the protocol describes", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const reader = yield* TaskReader
      const agent = yield* Database.insertAgent("viewed")
      const [parent, id] = yield* Database.insertTasks([
        {},
        {
          name: "whole",
          status: "completed",
          agent_id: agent,
          labels: { run: "7" },
          payload: { n: 1.5, text: "a\u0007b" },
          result: { success: true, data: [1], execution_time_ms: 12.5 }
        }
      ])
      yield* sql`insert into task_dependencies (child_id, parent_id, on_ended, required) values (${id}, ${parent}, true, false)`
      yield* sql`
        update tasks set description = 'd', configuration = '{"timeout_ms":5}', progress = '{"percentage":50}',
          metadata = '{"a":[null]}', parent_id = ${parent}, retry_of = ${parent}, attempt = 2, started_at = created_at,
          deadline = '2031-01-02T03:04:05.678901+02:00', version = 9
        where id = ${id}
      `
      const task = yield* reader.get(home, TaskId.make(id ?? ""))
      expect(Schema.decodeUnknownSync(Task)(task, closed)).toEqual(task)
      expect(task).toMatchObject({
        name: "whole",
        description: "d",
        status: "completed",
        waiting_for: null,
        priority: "normal",
        payload: { n: 1.5, text: "a\u0007b" },
        configuration: { timeout_ms: 5 },
        result: { success: true, data: [1], execution_time_ms: 12.5 },
        dependencies: [{ task_id: parent, on: "ended", required: false }],
        deadline: "2031-01-02T01:04:05.678901Z",
        labels: { run: "7" },
        metadata: { a: [null] },
        attempt: 2,
        version: 9
      })
    })
  )

  it.effect("with the least it can have is a valid view too; a payload of null is not the absence of one", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const reader = yield* TaskReader
      const [bare, nul] = yield* Database.insertTasks([
        { status: "queued", agent_id: yield* Database.insertAgent("bare") },
        {}
      ])
      yield* sql`update tasks set payload = 'null' where id = ${nul}`
      const task = yield* reader.get(home, TaskId.make(bare ?? ""))
      expect(Schema.decodeUnknownSync(Task)(task, closed)).toEqual(task)
      expect(task).not.toHaveProperty("payload")
      expect(task).not.toHaveProperty("dependencies")
      expect(yield* reader.get(home, TaskId.make(nul ?? ""))).toHaveProperty("payload", null)
    })
  )

  it.effect("does not exist for another namespace, in no way of asking", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const other = yield* Database.insertNamespace("other")
      const graph = GraphId.make((yield* UuidV7).next())
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into graphs (id, namespace, name) values (${graph}, 'default', 'g')`
      const [id = TaskId.make("")] = yield* Database.insertTasks([{ graph_id: graph, graph_key: "k" }])
      yield* Database.insertEvent(id, 1, "TaskCreated")
      expect(yield* reader.get(home, id)).toBeDefined()
      expect(yield* reader.get(other, id)).toBeUndefined()
      expect(yield* reader.head(other, id)).toBeUndefined()
      expect(yield* reader.events(home, id, { after: 0, limit: 10 })).toHaveLength(1)
      expect(yield* reader.events(other, id, { after: 0, limit: 10 })).toEqual([])
      expect(yield* reader.graph(home, graph)).toBeDefined()
      expect(yield* reader.graph(other, graph)).toBeUndefined()
      expect((yield* reader.list(other, query({}))).data).toEqual([])
      expect((yield* reader.list(other, query({ graph }))).data).toEqual([])
    })
  )

  it.effect("is the one that each of many readers at once asked for, of their own namespace, there or not", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const reader = yield* TaskReader
      const other = yield* Database.insertNamespace("crowd")
      const ids = yield* Database.insertTasks(
        Array.from({ length: 150 }, (_, n) => ({ name: `task ${n}`, namespace: n % 3 === 0 ? other : home }))
      )
      const asked = [...ids, ...ids, TaskId.make("01890000-0000-7000-8000-000000000000")]
      const [found, heads] = yield* Effect.all(
        [
          Effect.forEach(asked, (id) => reader.get(home, id), { concurrency: "unbounded" }),
          Effect.forEach(asked, (id) => reader.head(home, id), { concurrency: "unbounded" })
        ],
        { concurrency: 2 }
      )
      const mine = asked.map((_, n) => n < 300 && (n % 150) % 3 !== 0)
      expect(found.map((task) => task?.name)).toEqual(asked.map((_, n) => (mine[n] ? `task ${n % 150}` : undefined)))
      expect(heads.map((head) => head?.version)).toEqual(mine.map((isMine) => (isMine ? 1 : undefined)))
      expect(found.every((task, n) => task === undefined || task.id === asked[n])).toBe(true)
      expect(found.find((task) => task !== undefined)).not.toHaveProperty("place")
      // What is committed before one asks is seen, whoever else is being answered.
      const [id = TaskId.make("")] = ids.slice(1)
      const seen = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, n) => n + 2),
        (version) =>
          Effect.andThen(
            sql`update tasks set version = greatest(version, ${version}) where id = ${id}`,
            Effect.map(reader.head(home, id), (head) => (head?.version ?? 0) >= version)
          ),
        { concurrency: 8 }
      )
      expect(seen).not.toContain(false)
    })
  )

  it.effect("has its events in order of number, from any number on", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const [id = TaskId.make("")] = yield* Database.insertTasks([{}])
      for (const number of [3, 1, 2]) yield* Database.insertEvent(id, number, "TaskProgressed")
      const events = yield* reader.events(home, id, { after: 1, limit: 10 })
      expect(events.map(({ number }) => number)).toEqual([2, 3])
      expect(Schema.decodeUnknownSync(Schema.Array(EventSchema))(events, closed)).toEqual(events)
      expect(yield* reader.events(home, id, { after: 0, limit: 2 })).toHaveLength(2)
    })
  )
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("a list of tasks", (it) => {
  it.effect("shows each task once, newest first, while others are added", () =>
    Effect.gen(function* () {
      const namespace = yield* Database.insertNamespace("growing")
      const before = yield* Database.insertTasks(Array.from({ length: 25 }, () => ({ namespace: "growing" })))
      const grow = Effect.orDie(Database.insertTasks([{ namespace: "growing" }, { namespace: "growing" }]))
      const seen = yield* readAll(namespace, {}, { limit: 4, between: grow })
      expect(seen).toEqual([...before].reverse())
    })
  )

  it.effect("ends with a page that is exactly full", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const namespace = yield* Database.insertNamespace("exact")
      yield* Database.insertTasks([{ namespace }, { namespace }])
      expect((yield* reader.list(namespace, query({ limit: 2 }))).next_cursor).toBeNull()
      expect((yield* reader.list(namespace, query({ limit: 1 }))).next_cursor).not.toBeNull()
    })
  )

  it.effect("leaves payload and result out", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const namespace = yield* Database.insertNamespace("light")
      yield* Database.insertTasks([{ namespace, payload: { big: true }, result: { success: true } }])
      const [task] = (yield* reader.list(namespace, query({}))).data
      expect(task).not.toHaveProperty("payload")
      expect(task?.result).toBeNull()
      expect(Schema.decodeUnknownSync(Task)(task, closed)).toEqual(task)
    })
  )

  it.effect("holds what all its filters accept and nothing else", () =>
    Effect.gen(function* () {
      const namespace = yield* Database.insertNamespace("filtered")
      const agents = [yield* Database.insertAgent("alpha", namespace), yield* Database.insertAgent("beta", namespace)]
      const parents = yield* Database.insertTasks([{ namespace: "default" }, { namespace: "default" }])
      const graph = (yield* UuidV7).next()
      const start = (yield* Clock.currentTimeMillis) - 200 * 60_000
      const at = (index: number) => new Date(start + index * 60_000).toISOString()
      const pick = <A>(of: ReadonlyArray<A>, index: number) => of[index % of.length] as A
      const statuses = ["pending", "queued", "running", "completed", "failed", "timeout", "cancelled"] as const
      const seeds = Array.from({ length: 180 }, (_, index) => ({
        namespace,
        status: pick(statuses, index * 7 + (index >> 3)),
        type: pick(["echo.say", "http.fetch", "http.fetch@1"], index * 5 + (index >> 2)),
        agent_id: pick(agents, index >> 1),
        labels: { run: String(index % 3), "odd key": index % 2 === 0 ? "a=b" : "%_'\"" },
        ...(index % 4 === 0 && { parent_id: pick(parents, index >> 2) }),
        ...(index % 5 === 0 && { graph_id: graph }),
        created_at: at(index)
      }))
      const ids = yield* Database.insertTasks(seeds)
      const stored = seeds.map((seed, index) => ({ ...seed, id: ids[index] }))
      const choices: ReadonlyArray<readonly [object, (task: (typeof stored)[number]) => boolean]> = [
        ...statuses.map((status) => [{ status }, (task: { status: string }) => task.status === status] as const),
        [{ type: "http.fetch" }, (task) => task.type === "http.fetch"],
        [{ type: "http.fetch@1" }, (task) => task.type === "http.fetch@1"],
        [{ agent: "alpha" }, (task) => task.agent_id === agents[0]],
        [{ agent: agents[1] }, (task) => task.agent_id === agents[1]],
        [{ agent: "nobody" }, () => false],
        [{ label: "run=2" }, (task) => task.labels.run === "2"],
        [{ label: "odd key=a=b" }, (task) => task.labels["odd key"] === "a=b"],
        [{ label: "odd key=%_'\"" }, (task) => task.labels["odd key"] !== "a=b"],
        [{ parent: parents[0] }, (task) => task.parent_id === parents[0]],
        [{ graph }, (task) => task.graph_id === graph],
        [{ created_after: at(60) }, (task) => task.created_at > at(60)],
        [{ created_before: at(120) }, (task) => task.created_at < at(120)],
        [{}, () => true]
      ]
      for (const [one, accepts] of choices) {
        for (const [other, alsoAccepts] of choices) {
          const both = { ...one, ...other }
          if (Object.keys(one).some((key) => key in other)) continue
          const expected = stored.filter((task) => accepts(task) && alsoAccepts(task)).map(({ id }) => id)
          expect({ both, found: yield* readAll(namespace, both, { limit: 100 }) }).toEqual({
            both,
            found: expected.reverse()
          })
        }
      }
    })
  )

  it.effect("that looks at few rows per call gives short pages and leaves nothing out", () =>
    Effect.gen(function* () {
      const namespace = yield* Database.insertNamespace("windows")
      const ids = yield* Database.insertTasks(
        Array.from({ length: 60 }, (_, index) => ({ namespace, type: index % 13 === 5 ? "rare.type" : "echo.say" }))
      )
      const rare = ids.filter((_, index) => index % 13 === 5).reverse()
      const short = Layer.provide(
        Layer.fresh(TaskReader.layer),
        Layer.succeed(TaskReaderLimits, { windowRows: 7, windowsMax: 2, within: Duration.seconds(60), countedMax: 3 })
      )
      yield* Effect.gen(function* () {
        const reader = yield* TaskReader
        const first = yield* reader.list(namespace, query({ type: "rare.type", limit: 5 }))
        expect(first.data.length).toBeLessThan(5)
        expect(first.next_cursor).not.toBeNull()
        for (const limit of [1, 2, 50]) {
          expect(yield* readAll(namespace, { type: "rare.type" }, { limit })).toEqual(rare)
          expect(yield* readAll(namespace, { type: "none.such" }, { limit })).toEqual([])
        }
        expect((yield* reader.counts(namespace)).completed).toBe(3)
      }).pipe(Effect.provide(short))
    })
  )

  it.effect.prop(
    "skips and doubles nothing that is there all along, whatever is added and changed meanwhile",
    {
      limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 })),
      windowRows: Schema.Int.check(Schema.isBetween({ minimum: 2, maximum: 12 })),
      order: Schema.Literals(["asc", "desc"]),
      sort: Schema.Literals(["created", "completed"]),
      seed: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 }))
    },
    ({ limit, order, seed, sort, windowRows }) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const namespace = yield* Database.insertNamespace(`stable-${(yield* UuidV7).next()}`)
        const kept = { namespace, status: "failed", type: "kept.work" } as const
        const noise = (n: number) =>
          ({ namespace, status: n % 2 === 0 ? "failed" : "completed", type: "other.work" }) as const
        const ids = yield* Database.insertTasks(
          Array.from({ length: 40 }, (_, n) => ((n * 7 + seed) % 3 === 0 ? noise(n) : kept))
        )
        yield* sql`
          update tasks t set completed_at = now() - (((hashtext(t.id::text) % 20) + 20) * interval '1 second')
          where t.namespace = ${namespace}`
        const wanted = yield* sql<{ id: TaskId }>`
          select id from tasks where namespace = ${namespace} and type = 'kept.work'
          order by ${sql.literal(sort === "completed" ? "completed_at" : "id")} ${sql.literal(order)}, id ${sql.literal(order)}`
        let turn = seed
        // Others come, end, change their type and go; those that are kept get progress, labels, another lane.
        const meanwhile = Effect.gen(function* () {
          turn++
          // A walk towards the new ones must be able to come to its end.
          if (turn > seed + 30) return
          yield* Database.insertTasks([noise(turn), noise(turn + 1)])
          const one = ids[turn % ids.length] ?? ""
          yield* sql`update tasks set version = version + 1, lane = 'high', labels = '{"a":"b"}' where id = ${one}`
          yield* sql`delete from tasks where namespace = ${namespace} and type = 'other.work' and id = ${one}`
          yield* sql`
            update tasks set status = 'cancelled', completed_at = now() - interval '10 seconds'
            where namespace = ${namespace} and type = 'other.work' and status = 'completed'`
        }).pipe(Effect.orDie)
        const few = Layer.provide(
          Layer.fresh(TaskReader.layer),
          Layer.succeed(TaskReaderLimits, { windowRows, windowsMax: 2, within: Duration.seconds(60), countedMax: 3 })
        )
        const filter = { type: "kept.work", status: "failed", order, sort }
        const seen = yield* readAll(namespace, filter, { limit, between: meanwhile }).pipe(Effect.provide(few))
        expect(seen).toEqual(wanted.map(({ id }) => id))
      }),
    { arbitrary: { runs: 25 }, timeout: 60_000 }
  )

  it.effect("in order of priority has the most urgent first, by the order of service", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const namespace = yield* Database.insertNamespace("urgent")
      const agent_id = yield* Database.insertAgent("urgent-agent", namespace)
      const ids = yield* Database.insertTasks(
        Array.from({ length: 8 }, () => ({ namespace, status: "queued" as const, agent_id }))
      )
      const lanes = ["low", "critical", "normal", "high"]
      for (const [n, id] of ids.entries()) {
        yield* sql`update tasks set lane = ${lanes[n % 4] ?? ""}::task_lane where id = ${id}`
      }
      const expected = [1, 5, 3, 7, 2, 6, 0, 4].map((n) => ids[n])
      const filter = { agent: "urgent-agent", status: "queued", sort: "priority" }
      expect(yield* readAll(namespace, filter, { limit: 3 })).toEqual(expected)
      expect(yield* readAll(namespace, { ...filter, order: "asc" }, { limit: 3 })).toEqual(expected.toReversed())
    })
  )

  it.effect("finds by payload, name, error, link and moment, and means text by text", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const namespace = yield* Database.insertNamespace("deep")
      const injection = "' or 1=1; drop table tasks; --"
      const error = (code: string) => ({ success: false, error: { code, message: "m" } })
      const [first = "", second = "", third = ""] = yield* Database.insertTasks([
        { namespace, name: "Order 100%_ALPHA", payload: { customer: { id: 42, "a/b~c": [{ x: injection }] } } },
        { namespace, name: "beta", status: "failed", result: error("http_status") },
        { namespace, name: "gamma", status: "timeout", result: error("timeout"), payload: { customer: { id: "7" } } }
      ])
      yield* sql`update tasks set metadata = '{"run":"x=y"}', started_at = '2027-01-02T00:00:00Z' where id = ${third}`
      yield* sql`update tasks set retry_of = ${first} where id = ${second}`
      const choices: ReadonlyArray<readonly [object, ReadonlyArray<string>]> = [
        [{ where: "payload./customer/id=42" }, [first]],
        [{ where: "payload./customer/id=7" }, [third]],
        [{ where: ["payload./customer/id=7", "metadata./run=x=y"] }, [third]],
        [{ where: `payload./customer/a~1b~0c/0/x=${injection}` }, [first]],
        [{ where: "payload./customer/none=" }, []],
        [{ name: "100%_alpha" }, [first]],
        [{ name: "%" }, [first]],
        [{ name: "A" }, [third, second, first]],
        [{ error: "http_status" }, [second]],
        [{ error: "http_status", status: "completed" }, []],
        [{ retry_of: first }, [second]],
        [{ status: ["failed", "completed"] }, [second, first]],
        [{ started_after: "2027-01-01T00:00:00Z", started_before: "2027-01-03T00:00:00Z" }, [third]],
        [{ completed_before: "2020-01-01T00:00:00Z" }, []],
        [{ priority: ["low", "normal"] }, [third, second, first]],
        [{ dead_letter: true }, [third, second]],
        [{ dead_letter: false }, [first]]
      ]
      for (const [filter, expected] of choices) {
        expect({ filter, found: yield* readAll(namespace, filter, { limit: 2 }) }).toEqual({ filter, found: expected })
      }
      const decode = Schema.decodeUnknownResult(ListTasks)
      for (const where of [
        "payload=1",
        "payload.customer=1",
        "result./a=1",
        "payload./a",
        "payload./a~2=1",
        "payload./a=\0"
      ]) {
        expect({ where, tag: decode({ where })._tag }).toEqual({ where, tag: "Failure" })
      }
    })
  )

  it.effect("refuses a cursor that is not its own, naming the field", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const namespace = yield* Database.insertNamespace("cursors")
      const other = yield* Database.insertNamespace("cursors-too")
      yield* Database.insertTasks([{ namespace }, { namespace }])
      const { next_cursor } = yield* reader.list(namespace, query({ limit: 1 }))
      const cursor = next_cursor ?? ""
      const refusals: ReadonlyArray<readonly [Namespace, object]> = [
        [namespace, { cursor, status: "failed" }],
        [namespace, { cursor, type: "echo.say" }],
        [other, { cursor }],
        [namespace, { cursor: cursor.slice(0, -2) }],
        [namespace, { cursor: `${cursor}AA` }],
        [namespace, { cursor: "" }],
        [namespace, { cursor: "' or 1=1 --" }],
        [namespace, { cursor: "%00" }],
        [namespace, { cursor: "A".repeat(256) }]
      ]
      for (const [where, filter] of refusals) {
        const refused = yield* Effect.flip(reader.list(where, query({ limit: 1, ...filter })))
        expect({ filter, refused }).toMatchObject({
          filter,
          refused: { _tag: "InvalidInput", errors: [{ field: "cursor" }] }
        })
      }
      expect((yield* reader.list(namespace, query({ limit: 5, cursor }))).data).toHaveLength(1)
    })
  )
})

const injections = [
  "' or '1'='1",
  "'; drop table tasks; --",
  "\\'; select pg_sleep(9); --",
  "%",
  "_",
  "$1",
  "${1}",
  "?",
  "a'||(select secret_hash from api_keys)||'",
  "x\u2028y",
  "\ud83d\ude00",
  "{}",
  '{"a":{"$ne":null}}'
]

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("filters of strange text", (it) => {
  it.effect("are compared as text and mean nothing else (S20)", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const namespace = yield* Database.insertNamespace("strange")
      const ids = yield* Database.insertTasks(
        injections.map((text) => ({ namespace, type: text, labels: { [`k${text}`]: text } }))
      )
      for (const [index, text] of injections.entries()) {
        const byType = yield* reader.list(namespace, { type: [text as TaskType] })
        const byLabel = yield* reader.list(namespace, { label: [`k${text}=${text}`] })
        const byAgent = yield* reader.list(namespace, { agent: text })
        const found = { text, type: byType.data.map(({ id }) => id), label: byLabel.data.map(({ id }) => id) }
        // A label's key ends at the first "=".
        expect(found).toEqual({ text, type: [ids[index]], label: text.includes("=") ? [] : [ids[index]] })
        expect(byAgent.data).toEqual([])
      }
      expect((yield* reader.list(namespace, {})).data).toHaveLength(injections.length)
    })
  )
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("a namespace", (it) => {
  it.effect("is counted by status", () =>
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const namespace = yield* Database.insertNamespace("counted")
      const agent_id = yield* Database.insertAgent("counter", namespace)
      yield* Database.insertTasks([
        { namespace, status: "queued", agent_id },
        { namespace, status: "queued", agent_id },
        { namespace, status: "running", agent_id },
        { namespace, status: "pending" },
        { namespace, status: "failed" },
        { namespace, status: "completed" },
        { namespace: "default", status: "completed" }
      ])
      expect(yield* reader.counts(namespace)).toEqual({
        pending: 1,
        queued: 2,
        running: 1,
        paused: 0,
        completed: 1,
        failed: 1,
        timeout: 0,
        cancelled: 0
      })
    })
  )

  it.effect("shows a graph with its edges by key, its counts, and errors that no NUL can spoil", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const reader = yield* TaskReader
      const id = GraphId.make((yield* UuidV7).next())
      yield* sql`insert into graphs (id, namespace, name) values (${id}, 'default', 'etl')`
      const [load, check, report, outside] = yield* Database.insertTasks([
        { graph_id: id, graph_key: "load", result: { success: true, execution_time_ms: 3.5, data: 1 } },
        {
          graph_id: id,
          graph_key: "check",
          status: "failed",
          result: { success: false, error: { code: "x", message: "m" } }
        },
        { graph_id: id, graph_key: "report", status: "pending", waiting_for: "dependencies" },
        {}
      ])
      yield* sql`update tasks set result = ${'{"success":true,"data":"\\u0000","execution_time_ms":1}'} where id = ${load}`
      yield* sql`
        insert into task_dependencies (child_id, parent_id, on_ended, required) values
          (${report}, ${check}, false, true), (${report}, ${load}, false, true), (${report}, ${outside}, false, true)
      `
      const graph = yield* reader.graph(home, id)
      expect(Schema.decodeUnknownSync(Graph)(graph, closed)).toEqual(graph)
      expect(graph).toMatchObject({
        name: "etl",
        ended: false,
        counts: { completed: 1, failed: 1, pending: 1 },
        tasks: [
          { key: "load", execution_time_ms: null, error: null, dependencies: [] },
          { key: "check", error: { code: "x", message: "m" } },
          { key: "report", waiting_for: "dependencies", dependencies: ["load", "check"] }
        ]
      })
      expect(yield* reader.openDependencies(home, TaskId.make(report ?? ""))).toHaveLength(3)
    })
  )
})

describe("a cursor", () => {
  const scope = { list: "tasks", namespace: "default", filters: { status: "failed", type: undefined } }

  pure.prop("gives its position back to the list that made it", { position: Schema.String }, ({ position }) => {
    const whole = position.isWellFormed() && position.length > 0
    if (whole) expect(decodeCursor(scope, encodeCursor(scope, position), /^/u)).toEqual(Result.succeed(position))
  })

  pure("does not depend on the order of filters or on absent ones", () => {
    const cursor = encodeCursor({ ...scope, filters: { b: "2", a: "1" } }, "p")
    expect(decodeCursor({ ...scope, filters: { a: "1", b: "2", c: undefined } }, cursor, /p/u)).toEqual(
      Result.succeed("p")
    )
  })

  pure.prop("of garbage is refused, never thrown at", { cursor: Schema.String }, ({ cursor }) => {
    expect(decodeCursor(scope, cursor, /^[0-9a-f-]{36}$/u)._tag).toBe("Failure")
  })
})
