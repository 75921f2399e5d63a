/** Agents as their owners steer them. */
import { expect, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Bus } from "../../actors/ports/Bus.ts"
import { Agent, AgentMetrics, CreateAgent } from "../../protocol/Agent.ts"
import type { Notice } from "../../protocol/Notice.ts"
import type { Principal } from "../../protocol/Permission.ts"
import { Agents } from "../../src/app/Agents.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import * as Database from "../ledger/Database.ts"
import { admin, as } from "./as.ts"
import { layer as cases, echoAgent, submitTask } from "./Cases.ts"

const definition = Schema.decodeUnknownSync(CreateAgent)

layer(cases, { excludeTestServices: true, timeout: "60 seconds" })("an agent", (it) => {
  it.effect("can do what its behaviour can, unless its definition says otherwise", () =>
    Effect.gen(function* () {
      const plain = yield* echoAgent("plain")
      expect(Schema.decodeUnknownSync(Agent)(plain, { onExcessProperty: "error" })).toEqual(plain)
      expect(plain).toMatchObject({ status: "idle", version: 1, desired_instances: 1, draining: false })
      expect(plain.capabilities.map(({ name }) => name)).toEqual(["echo"])
      const own = yield* echoAgent("own", { capabilities: [{ name: "say.it@2" }], desired_instances: 3 })
      expect(own).toMatchObject({ capabilities: [{ name: "say.it@2" }], desired_instances: 3 })
    }).pipe(as(admin))
  )

  it.effect("is refused with a behaviour that is not there, naming those that are", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const refused = yield* Effect.flip(agents.create(definition({ name: "x", type: "nothing" })))
      expect(refused).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "type" }] })
      expect(refused.message).toContain("echo")
    }).pipe(as(admin))
  )

  it.effect("is refused with settings that its behaviour refuses, at its birth and later", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const configuration = { settings: { no_such_setting: 1 } }
      const born = yield* Effect.flip(agents.create(definition({ name: "bad", type: "picky", configuration })))
      expect(born).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "configuration.settings" }] })
      yield* echoAgent("good", { type: "picky" })
      const changed = yield* Effect.flip(agents.update("good", { configuration }, undefined))
      expect(changed).toMatchObject({ _tag: "InvalidInput", errors: [{ field: "configuration.settings" }] })
      expect((yield* agents.get("good")).version).toBe(1)
    }).pipe(as(admin))
  )

  it.effect("has a name of its own that does not look like an id, and capabilities that stand once", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      yield* echoAgent("twice")
      expect(yield* Effect.flip(agents.create(definition({ name: "twice", type: "echo" })))).toMatchObject({
        _tag: "Conflict",
        reason: "name-taken"
      })
      const uuid = "0190a1b2-0000-7000-8000-000000000000"
      expect(yield* Effect.flip(agents.create(definition({ name: uuid, type: "echo" })))).toMatchObject({
        _tag: "InvalidInput",
        errors: [{ field: "name" }]
      })
      const capabilities = [{ name: "a.b" }, { name: "c.d" }, { name: "a.b" }]
      expect(yield* Effect.flip(agents.create(definition({ name: "y", type: "echo", capabilities })))).toMatchObject({
        errors: [{ field: "capabilities.2.name" }]
      })
    }).pipe(as(admin))
  )

  it.effect("changes in the version that was read, or not at all", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      yield* echoAgent("versioned")
      const second = yield* agents.update("versioned", { description: "two", labels: { a: "b" } }, 1)
      expect(second).toMatchObject({ version: 2, description: "two", labels: { a: "b" }, desired_instances: 1 })
      expect(yield* Effect.flip(agents.update("versioned", { description: "no" }, 1))).toMatchObject({
        _tag: "Conflict",
        reason: "version",
        current_version: 2
      })
      expect(yield* agents.update("versioned", {}, 2)).toMatchObject({ version: 2, description: "two" })
      const racing = yield* Effect.all(
        Array.from({ length: 8 }, (_, index) =>
          Effect.result(agents.update("versioned", { description: `${index}` }, 2))
        ),
        { concurrency: "unbounded" }
      )
      expect(racing.filter(({ _tag }) => _tag === "Success")).toHaveLength(1)
    }).pipe(as(admin))
  )

  it.effect("is paused and resumed, also out of error; what is so already is no event", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* echoAgent("steered")
      expect(yield* agents.resume(id)).toMatchObject({ status: "idle", version: 1 })
      expect(yield* agents.pause(id)).toMatchObject({ status: "maintenance", version: 2 })
      expect(yield* agents.pause(id)).toMatchObject({ status: "maintenance", version: 2 })
      yield* sql`update agents set status = 'error', status_reason = 'crashed' where id = ${id}`
      expect(yield* agents.get(id)).toMatchObject({ status: "error", status_reason: "crashed" })
      expect(yield* agents.resume(id)).toMatchObject({ status: "idle", status_reason: null, version: 3 })
      expect(yield* agents.scale(id, { desired_instances: 4 })).toMatchObject({ desired_instances: 4, version: 4 })
    }).pipe(as(admin))
  )

  it.effect("gains, replaces and loses capabilities", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      yield* echoAgent("able", { capabilities: [] })
      yield* agents.addCapability("able", { name: "a.b" as never })
      const replaced = yield* agents.addCapability("able", { name: "a.b" as never, enabled: false })
      expect(replaced.capabilities).toEqual([{ name: "a.b", enabled: false }])
      expect((yield* agents.removeCapability("able", "a.b")).capabilities).toEqual([])
      expect(yield* Effect.flip(agents.removeCapability("able", "a.b"))).toMatchObject({
        _tag: "InvalidInput",
        errors: [{ field: "name" }]
      })
    }).pipe(as(admin))
  )

  it.effect("drains when it is deleted: closed for changes, gone by name once terminated, known by id for ever", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const tasks = yield* Tasks
      const sql = yield* SqlClient.SqlClient
      const { id } = yield* echoAgent("leaving")
      const drained = yield* agents.remove("leaving", { force: false })
      expect(drained).toMatchObject({ draining: true, version: 2 })
      expect(drained.status_reason).toContain("draining")
      expect(yield* agents.remove("leaving", { force: false })).toMatchObject({ version: 2 })
      expect(yield* Effect.flip(agents.scale("leaving", { desired_instances: 2 }))).toMatchObject({
        _tag: "Conflict",
        reason: "state"
      })
      yield* Effect.repeat(Effect.flip(tasks.submit(submitTask({ agent: "leaving" }))), {
        until: (error) => error._tag === "InvalidInput" && error.message.includes("being deleted"),
        times: 100
      })
      yield* sql`update agents set status = 'terminated' where id = ${id}`
      expect(yield* Effect.flip(agents.get("leaving"))).toMatchObject({ _tag: "AgentNotFound" })
      expect(yield* agents.get(id)).toMatchObject({ status: "terminated", status_reason: null })
      expect(yield* Effect.flip(agents.resume(id))).toMatchObject({ _tag: "Conflict", reason: "state" })
      yield* echoAgent("leaving")
    }).pipe(as(admin))
  )

  it.effect("deleted by force cancels its open tasks and interrupts those that run", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const tasks = yield* Tasks
      const bus = yield* Bus
      const notices: Array<Notice> = []
      yield* bus.onNotice((notice) => notices.push(notice))
      const { id } = yield* echoAgent("forced")
      const ids = yield* Database.insertTasks([
        { status: "queued", agent_id: id },
        { status: "running", agent_id: id },
        { status: "pending", agent_id: id },
        { status: "completed", agent_id: id }
      ])
      yield* agents.remove("forced", { force: true })
      const statuses = yield* Effect.forEach(ids, (task) => Effect.map(tasks.get(task), ({ status }) => status))
      expect(statuses).toEqual(["cancelled", "cancelled", "cancelled", "completed"])
      yield* Effect.yieldNow
      expect(notices).toContainEqual({ _tag: "Interrupt", agent: id, tasks: [ids[1]] })
    }).pipe(as(admin), Effect.scoped)
  )

  it.effect("tells every node of a change, and only of a change", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const bus = yield* Bus
      const notices: Array<Notice> = []
      yield* bus.onNotice((notice) => notices.push(notice))
      const { id } = yield* echoAgent("told")
      yield* agents.pause(id)
      yield* agents.pause(id)
      yield* Effect.yieldNow
      expect(notices).toEqual([
        { _tag: "AgentChanged", agent: id },
        { _tag: "AgentChanged", agent: id }
      ])
    }).pipe(as(admin), Effect.scoped)
  )

  it.effect("is listed by pages whose cursors belong to their filters, and has figures", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      const first = yield* agents.list({ limit: 2 })
      const second = yield* agents.list({ limit: 2, cursor: first.next_cursor ?? "" })
      const ids = [...first.data, ...second.data].map(({ id }) => id)
      expect(ids).toEqual([...ids].sort().reverse())
      expect(new Set(ids).size).toBe(4)
      for (const query of [{ cursor: first.next_cursor ?? "", type: "echo" }, { type: "no\u0000" }, { cursor: "x" }]) {
        expect(yield* Effect.flip(agents.list(query))).toMatchObject({ _tag: "InvalidInput" })
      }
      const metrics = yield* agents.metrics(ids[0] ?? "")
      expect(Schema.decodeUnknownSync(AgentMetrics)(metrics)).toEqual(metrics)
    }).pipe(as(admin))
  )

  it.effect("of a name or id that nobody has is not found, whatever is asked of it", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      for (const ref of ["nobody", "0190a1b2-0000-7000-8000-00000000dead"]) {
        const attempts: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }, Principal>> = [
          agents.get(ref),
          agents.update(ref, { description: "x" }, undefined),
          agents.update(ref, { configuration: {} }, 1),
          agents.scale(ref, { desired_instances: 1 }),
          agents.pause(ref),
          agents.resume(ref),
          agents.remove(ref, { force: false }),
          agents.remove(ref, { force: true }),
          agents.addCapability(ref, { name: "a.b" as never }),
          agents.removeCapability(ref, "a.b"),
          agents.metrics(ref)
        ]
        for (const attempt of attempts) {
          expect(yield* Effect.flip(attempt)).toMatchObject({ _tag: "AgentNotFound", agent: ref })
        }
      }
    }).pipe(as(admin))
  )
})
