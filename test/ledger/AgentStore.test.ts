/** Stored agents: no change is missed or unrecorded, and none of another namespace is seen. */
import { describe, expect, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { AgentStore } from "../../actors/ports/AgentStore.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { AgentId, AgentName, Namespace, NodeName } from "../../protocol/Ids.ts"
import { type AgentChange, AgentRegistry } from "../../src/ledger/AgentRegistry.ts"
import * as AgentStorePostgres from "../../src/ledger/AgentStorePostgres.ts"
import * as Database from "./Database.ts"

const Live = Layer.mergeAll(AgentStorePostgres.layer, AgentRegistry.layer).pipe(Layer.provideMerge(Database.layer))

const home = Namespace.make("default")
const by = { actor: "key:test", trace: undefined }

const scaleTo = (desiredInstances: number): AgentChange => ({
  event: "AgentScaled",
  data: { desired_instances: desiredInstances },
  desiredInstances
})

const create = Effect.fnUntraced(function* (name: string, namespace = home) {
  const registry = yield* AgentRegistry
  const ids = yield* UuidV7
  const made = yield* registry.create(
    {
      id: AgentId.make(ids.next()),
      namespace,
      name: AgentName.make(name),
      type: "echo",
      description: undefined,
      capabilities: [{ name: "echo.say" as never }],
      configuration: {},
      desiredInstances: 1,
      labels: {},
      metadata: {}
    },
    by
  )
  return made
})

const eventsOf = (id: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql<{ number: number; type: string }>`select number, type from events where aggregate = ${id} order by number`
  )

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("stored agents", (it) => {
  it.effect("a name is taken once in a namespace, and free again after its agent has terminated", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const first = yield* create("taken")
      expect(first?.version).toBe(1)
      expect(yield* create("taken")).toBeUndefined()
      yield* sql`update agents set status = 'terminated' where id = ${first?.id}`
      expect((yield* create("taken"))?.id).not.toBe(first?.id)
    })
  )

  it.effect("each change is one event, and its number is the version", () =>
    Effect.gen(function* () {
      const registry = yield* AgentRegistry
      const agent = yield* create("counted")
      const id = agent?.id ?? ""
      yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => index + 1),
        (instances) => registry.change(home, id, by, () => Result.succeed(scaleTo(instances))),
        { concurrency: 8 }
      )
      yield* registry.change(home, id, by, () => Result.succeed(undefined))
      const refused = yield* Effect.flip(registry.change(home, id, by, () => Result.fail("no")))
      expect(refused).toBe("no")
      const events = yield* eventsOf(id)
      expect(events.map(({ number }) => number)).toEqual(Array.from({ length: 21 }, (_, index) => index + 1))
      expect((yield* registry.get(home, id))?.version).toBe(21)
    })
  )

  it.effect("a change whose transaction commits late is not missed", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* AgentStore
      const late = yield* create("late")
      const start = yield* store.changedSince(undefined, 100)
      expect(start.agents).toEqual([])
      const written = yield* Deferred.make<void>()
      const commit = yield* Deferred.make<void>()
      const slow = yield* sql`
        update agents set version = 7, updated_at = clock_timestamp() where id = ${late?.id}
      `.pipe(
        Effect.andThen(Deferred.succeed(written, undefined)),
        Effect.andThen(Deferred.await(commit)),
        sql.withTransaction,
        Effect.forkChild
      )
      yield* Deferred.await(written)
      const early = yield* create("early")
      const first = yield* store.changedSince(start.now, 100)
      expect(first.agents.map(({ id }) => id)).toContain(early?.id)
      expect(first.agents.find(({ id }) => id === late?.id)?.version).toBe(1)
      yield* Deferred.succeed(commit, undefined)
      yield* Fiber.join(slow)
      const second = yield* store.changedSince(first.now, 100)
      expect(second.agents.find(({ id }) => id === late?.id)?.version).toBe(7)
    })
  )

  it.effect("small pages reach every change, also of agents that changed at the same moment", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* AgentStore
      const ids = yield* Effect.forEach(
        Array.from({ length: 9 }, (_, index) => `paged-${index}`),
        (name) => Database.insertAgent(name)
      )
      yield* sql`update agents set updated_at = now() - interval '1 hour' where id = any (${ids.slice(0, 5)}::uuid[])`
      yield* sql`update agents set updated_at = now() - interval '30 minutes' where id = any (${ids.slice(5)}::uuid[])`
      const seen = new Set<string>()
      let at = "2000-01-01T00:00:00Z"
      for (let turn = 0; turn < 5; turn++) {
        const page = yield* store.changedSince(at, 2)
        for (const { id } of page.agents) seen.add(id)
        at = page.now
      }
      expect(ids.filter((id) => !seen.has(id))).toEqual([])
    })
  )

  it.effect("are paged in order of id without the terminated ones", () =>
    Effect.gen(function* () {
      const store = yield* AgentStore
      const all: Array<string> = []
      let after: AgentId | undefined
      do {
        const page = yield* store.page(after, 3)
        all.push(...page.map(({ id }) => id))
        after = page.at(-1)?.id
      } while (after !== undefined)
      expect(all).toEqual([...all].sort())
      expect(new Set(all).size).toBe(all.length)
      expect(all.length).toBeGreaterThan(9)
    })
  )

  it.effect("are found by id or name in their own namespace only", () =>
    Effect.gen(function* () {
      const store = yield* AgentStore
      const other = yield* Database.insertNamespace("elsewhere")
      const agent = yield* create("hidden")
      expect((yield* store.find(home, "hidden"))?.id).toBe(agent?.id)
      expect((yield* store.find(home, agent?.id ?? ""))?.name).toBe("hidden")
      expect(yield* store.find(other, "hidden")).toBeUndefined()
      expect(yield* store.find(other, agent?.id ?? "")).toBeUndefined()
    })
  )

  it.effect("can do a type when a capability of that name is enabled", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* AgentStore
      const other = yield* Database.insertNamespace("capable")
      const [one, off] = yield* Effect.all([
        Database.insertAgent("one", other),
        Database.insertAgent("off", other),
        Database.insertAgent("else", other)
      ])
      yield* sql`update agents set capabilities = '[{"name":"http.fetch@2"}]' where id = ${one}`
      yield* sql`update agents set capabilities = '[{"name":"http.fetch","enabled":false}]' where id = ${off}`
      expect((yield* store.withCapability(other, "http.fetch")).map(({ id }) => id)).toEqual([one])
      expect(yield* store.withCapability(home, "http.fetch")).toEqual([])
    })
  )

  it.effect("quarantine keeps the reason, is recorded once, and ends with the next status", () =>
    Effect.gen(function* () {
      const store = yield* AgentStore
      const registry = yield* AgentRegistry
      const agent = yield* create("crashing")
      const id = AgentId.make(agent?.id ?? "")
      yield* store.quarantine({ agentId: id, index: 0, node: NodeName.make("one") }, "crashed 6 times in 30 s")
      yield* store.quarantine({ agentId: id, index: 0, node: NodeName.make("one") }, "again")
      expect(yield* registry.get(home, id)).toMatchObject({
        status: "error",
        status_reason: "crashed 6 times in 30 s",
        version: 2
      })
      expect((yield* eventsOf(id)).map(({ type }) => type)).toEqual(["AgentCreated", "AgentStatusChanged"])
      yield* registry.change(home, id, by, () =>
        Result.succeed({ event: "AgentStatusChanged", data: { status: "active" }, status: "active" })
      )
      expect(yield* registry.get(home, id)).toMatchObject({ status: "idle", status_reason: null, version: 3 })
    })
  )

  describe("a draining agent", () => {
    it.effect.each(["pending", "queued", "running", "paused"] as const)(
      "stays while it has a task that is %s",
      (status) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const store = yield* AgentStore
          const id = yield* Database.insertAgent(`draining-${status}`)
          const [task] = yield* Database.insertTasks([{ status, agent_id: id }])
          yield* sql`update agents set draining = true where id = ${id}`
          expect(yield* store.finishDrained(10)).toBe(0)
          yield* sql`update agents set updated_at = now() - interval '1 minute' where id = ${id}`
          expect(yield* store.finishDrained(10)).toBe(0)
          yield* sql`update tasks set status = 'cancelled', waiting_for = null, completed_at = now() where id = ${task}`
          expect(yield* store.finishDrained(10)).toBe(1)
          expect(yield* store.byId(id)).toMatchObject({ status: "terminated", version: 2 })
          expect(yield* eventsOf(id)).toMatchObject([{ number: 2, type: "AgentStatusChanged" }])
        })
    )
  })
})

layer(Live, { excludeTestServices: true, timeout: "60 seconds" })("views of agents", (it) => {
  it.effect("say idle or busy by running tasks, and count instances that are alive", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const registry = yield* AgentRegistry
      const id = yield* Database.insertAgent("worker")
      expect(yield* registry.get(home, id)).toMatchObject({ status: "idle", current_instances: 0 })
      yield* Database.insertTasks([
        { status: "running", agent_id: id },
        { status: "queued", agent_id: id }
      ])
      yield* sql`
        insert into agent_instances (agent_id, index, epoch, node, status, heartbeat) values
          (${id}, 0, 3, 'node-a', 'active', now()), (${id}, 1, 1, 'node-b', 'active', now() - interval '5 minutes'),
          (${id}, 2, 1, 'node-a', 'hibernating', now())
      `
      expect(yield* registry.get(home, id)).toMatchObject({ status: "busy", current_instances: 1 })
      yield* sql`
        insert into agent_tallies (agent_id, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
        values (${id}, 6, 1, 1, 2, 8, 400, 90), (${id}, 0, 0, 0, 0, 2, 100, 60)
      `
      expect(yield* registry.metrics(id)).toMatchObject({
        completed: 6,
        cancelled: 2,
        success_rate: 0.75,
        response_time_mean_ms: 50,
        response_time_max_ms: 90,
        queue_depth: 1,
        running: 1,
        instances: [{ index: 0, epoch: 3 }, { index: 1 }, { index: 2 }]
      })
      expect(Schema.is(Schema.String)((yield* registry.metrics(id)).instances[0]?.heartbeat)).toBe(true)
    })
  )

  it.effect("of agents that nothing ran on have no rate", () =>
    Effect.gen(function* () {
      const registry = yield* AgentRegistry
      const id = yield* Database.insertAgent("unused")
      expect(yield* registry.metrics(id)).toMatchObject({
        completed: 0,
        success_rate: null,
        response_time_mean_ms: null,
        response_time_max_ms: null,
        queue_depth: 0,
        instances: []
      })
    })
  )

  it.effect("are listed newest first, by type, by what they can do, and within the namespace", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const registry = yield* AgentRegistry
      const other = yield* Database.insertNamespace("lists")
      const ids = yield* Effect.forEach(["a", "b", "c", "d"], (name) => Database.insertAgent(name, other))
      yield* sql`update agents set type = 'http', capabilities = '[{"name":"http.fetch","version":"1"}]' where id = ${ids[1]}`
      yield* sql`update agents set status = 'terminated' where id = ${ids[3]}`
      const none = { type: undefined, capability: undefined, before: undefined }
      const idsOf = (filter: Parameters<typeof registry.list>[1]) =>
        Effect.map(registry.list(other, filter, 10), (agents) => agents.map(({ id }) => id))
      expect(yield* idsOf(none)).toEqual([ids[2], ids[1], ids[0]])
      expect(yield* idsOf({ ...none, before: ids[1] })).toEqual([ids[0]])
      expect(yield* idsOf({ ...none, type: "http" })).toEqual([ids[1]])
      expect(yield* idsOf({ ...none, capability: "http.fetch" })).toEqual([ids[1]])
      expect(yield* idsOf({ ...none, capability: "http.fetch@1" })).toEqual([ids[1]])
      expect(yield* idsOf({ ...none, capability: "http.fetch@2" })).toEqual([])
      expect(yield* registry.count(other)).toBe(3)
    })
  )
})
