/** Payloads and the schemas of agents through the use cases, on the real ledger: refused at the door, or set aside with evidence. */
import { expect, layer } from "@effect/vitest"
import { Duration, Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Capability, UpdateAgent } from "../../protocol/Agent.ts"
import { ListTasks } from "../../protocol/Query.ts"
import { Agents } from "../../src/app/Agents.ts"
import { Tasks } from "../../src/app/Tasks.ts"
import { admin, as, principal } from "./as.ts"
import { echoAgent, running, submitGraph, submitTask } from "./Cases.ts"

const withSchema = (payload_schema: Schema.Json) => ({ capabilities: [{ name: "echo", payload_schema }] })
const named = { type: "object", required: ["name"], properties: { name: { type: "string" } } }
const update = Schema.decodeUnknownSync(UpdateAgent)
const query = Schema.decodeUnknownSync(ListTasks)
/** As somebody in a namespace made for it, so that no other agent does the type. */
const own =
  (namespace: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into namespaces (name) values (${namespace})`
      return yield* effect
    }).pipe(as(principal("admin", { namespace })))

layer(running, { excludeTestServices: true, timeout: "60 seconds" })("an agent with a payload schema", (it) => {
  it.effect("gets what fits; what does not is refused with its place, and nothing is stored", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("named", withSchema(named))
      const refused = yield* Effect.flip(tasks.submit(submitTask({ agent: "named", payload: { name: 7 } })))
      expect(refused).toMatchObject({
        _tag: "InvalidInput",
        errors: [{ field: "payload.name", message: expect.stringContaining("/properties/name/type") }]
      })
      expect(yield* Effect.flip(tasks.submit(submitTask({ agent: "named" })))).toMatchObject({
        errors: [{ field: "payload" }]
      })
      expect((yield* tasks.list(query({}))).data).toEqual([])
      const { id } = yield* tasks.submit(submitTask({ agent: "named", payload: { name: "a" } }))
      expect(yield* tasks.wait(id, Duration.seconds(10))).toMatchObject({ status: "completed" })
    }).pipe(own("door"))
  )

  it.effect("ends a task that it took before its schema was stricter, once, with what did not fit", () =>
    Effect.gen(function* () {
      const [agents, tasks] = [yield* Agents, yield* Tasks]
      yield* echoAgent("stricter")
      yield* agents.pause("stricter")
      const { id } = yield* tasks.submit(
        submitTask({
          ...{ agent: "stricter", payload: { old: 1 } },
          // Not even a policy that asks for it repeats what cannot fit.
          configuration: { retry: { max_attempts: 3, delay_ms: 10, retry_on: ["*"] } }
        })
      )
      yield* agents.update("stricter", update(withSchema(named)), undefined)
      yield* agents.resume("stricter")
      expect(yield* tasks.wait(id, Duration.seconds(20))).toMatchObject({
        status: "failed",
        attempt: 1,
        result: {
          error: {
            code: "payload_incompatible",
            details: { errors: [{ field: "payload.name", rule: "/required", message: "is required" }] }
          }
        }
      })
    }).pipe(own("stricter"))
  )

  it.effect("that does not take a payload is passed over for one that does", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      const texts = yield* echoAgent("texts", withSchema({ type: "string" }))
      const numbers = yield* echoAgent("numbers", withSchema({ type: "number" }))
      for (const [payload, agent] of [
        ["a", texts],
        [1, numbers],
        ["b", texts],
        ["c", texts],
        [2, numbers]
      ] as const) {
        expect(yield* tasks.submit(submitTask({ type: "echo", payload }))).toMatchObject({ agent_id: agent.id })
      }
      expect(yield* Effect.flip(tasks.submit(submitTask({ type: "echo", payload: true })))).toMatchObject({
        _tag: "InvalidInput",
        errors: [{ field: "payload" }]
      })
    }).pipe(own("several"))
  )

  it.effect("checks the tasks of a graph: what is known at once, what results bring when it is there", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("any", { capabilities: [{ name: "echo" }] })
      yield* echoAgent("named", withSchema(named))
      const first = { agent: "any", payload: 5 }
      const refused = yield* Effect.flip(
        tasks.submitGraph(
          submitGraph({ tasks: { first, next: { agent: "named", payload: {}, dependencies: ["first"] } } })
        )
      )
      expect(refused).toMatchObject({ errors: [{ field: "tasks.next.payload.name" }] })
      const next = { agent: "named", dependencies: ["first"], payload: { name: { $result: "first", path: "/echo" } } }
      const graph = yield* tasks.submitGraph(submitGraph({ tasks: { first, next } }))
      const id = graph.tasks["next"]
      if (id === undefined) return yield* Effect.die("the graph has no such task")
      expect(yield* tasks.wait(id, Duration.seconds(20))).toMatchObject({
        result: { error: { code: "payload_incompatible", details: { errors: [{ field: "payload.name" }] } } }
      })
    }).pipe(own("graphs"))
  )

  it.effect("checks submissions that join each other one by one", () =>
    Effect.gen(function* () {
      const tasks = yield* Tasks
      yield* echoAgent("named", withSchema(named))
      const join = (payload: unknown) =>
        tasks.submit(
          submitTask({
            ...{ agent: "named", payload },
            coalesce: { key: "k", keep: "all", max_wait_ms: 30_000, max_items: 2 }
          })
        )
      const { id } = yield* join({ name: "a" })
      expect(yield* Effect.flip(join({}))).toMatchObject({ errors: [{ field: "payload.name" }] })
      yield* join({ name: "b" })
      expect(yield* tasks.wait(id, Duration.seconds(20))).toMatchObject({
        status: "completed",
        result: { data: { echo: [{ name: "a" }, { name: "b" }] } }
      })
    }).pipe(own("joined"))
  )

  it.effect("is refused with a schema that cannot be checked", () =>
    Effect.gen(function* () {
      const agents = yield* Agents
      expect(yield* Effect.flip(echoAgent("bad", withSchema({ format: "email" })))).toMatchObject({
        errors: [{ field: "capabilities.0.payload_schema.format" }]
      })
      yield* echoAgent("fine", withSchema(named))
      const capability = Schema.decodeUnknownSync(Capability)({ name: "echo", payload_schema: { pattern: "^(a+)+$" } })
      expect(yield* Effect.flip(agents.addCapability("fine", capability))).toMatchObject({
        errors: [{ field: "capabilities.0.payload_schema.pattern" }]
      })
      expect(yield* agents.get("fine")).toMatchObject({ capabilities: [{ payload_schema: named }] })
    }).pipe(as(admin))
  )
})
