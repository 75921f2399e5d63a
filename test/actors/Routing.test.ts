/** Routing: what a task becomes, which agent does it, and that every mistake is named by its field. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import type { AgentRecord } from "../../actors/ports/AgentStore.ts"
import * as Routing from "../../actors/Routing.ts"
import { AgentId, AgentName, Namespace, TaskId } from "../../protocol/Ids.ts"
import type { SubmitTask } from "../../protocol/Task.ts"

const agent = (over: Partial<AgentRecord> = {}): AgentRecord => ({
  id: AgentId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0"),
  namespace: Namespace.make("default"),
  name: AgentName.make("worker"),
  type: "echo",
  capabilities: [{ name: "echo.say" }],
  configuration: {},
  status: "active",
  draining: false,
  desiredInstances: 1,
  version: 1,
  definitionVersion: 1,
  rollout: undefined,
  ...over
})
const able = (...names: ReadonlyArray<string>) => agent({ capabilities: names.map((name) => ({ name })) })

describe("whether an agent can do a type", () => {
  it.each([
    ["echo.say", [{ name: "echo.say" }], true],
    ["echo.say", [{ name: "echo.say@2" }], true],
    ["echo.say@2", [{ name: "echo.say@2" }], true],
    ["echo.say@2", [{ name: "echo.say", version: "2" }], true],
    ["echo.say@2", [{ name: "echo.say@1" }], false],
    ["echo.say@2", [{ name: "echo.say" }], false],
    ["echo.say@2", [{ name: "echo.say@1" }, { name: "echo.say@2" }], true],
    ["echo.say", [{ name: "echo.say", enabled: false }], false],
    ["echo.say", [{ name: "echo.say", enabled: false }, { name: "echo.say@3" }], true],
    ["echo", [{ name: "echo.say" }], false],
    ["echo.say", [], false]
  ] as const)("%s by %j: %s", (type, capabilities, expected) => {
    expect(Routing.canDo(agent({ capabilities }), type)).toBe(expected)
  })
})

describe("the agent for a task", () => {
  const named = (name: string, over: Partial<AgentRecord> = {}) => agent({ name: AgentName.make(name), ...over })

  it("is each of those that run, in turn; one that is stopped only when none runs; one that leaves never", () => {
    const all = [
      named("a"),
      named("b", { status: "maintenance" }),
      named("c"),
      named("d", { draining: true }),
      named("e", { status: "error" })
    ]
    expect([0, 1, 2, 3].map((turn) => Routing.choose(all, turn)?.name)).toEqual(["a", "c", "a", "c"])
    expect([0, 1].map((turn) => Routing.choose(all.slice(3), turn)?.name)).toEqual(["e", "e"])
    expect(Routing.choose([named("d", { draining: true }), named("t", { status: "terminated" })], 0)).toBeUndefined()
    expect(Routing.choose([], 5)).toBeUndefined()
  })
})

describe("a task's type", () => {
  it("is what it says, or the only thing its agent can do", () => {
    expect(Routing.typeOf({ type: "echo.say" }, undefined)).toBe("echo.say")
    expect(Routing.typeOf({}, able("echo.say@1"))).toBe("echo.say@1")
    expect(Routing.typeOf({}, agent({ capabilities: [{ name: "x" }, { name: "y", enabled: false }] }))).toBe("x")
  })

  it("that is missing or cannot be done is refused, and says what can be", () => {
    const refusals = [
      Routing.typeOf({}, undefined),
      Routing.typeOf({}, able("x", "y")),
      Routing.typeOf({}, able()),
      Routing.typeOf({ type: "z" }, able("x", "y"))
    ]
    for (const refusal of refusals) expect(refusal).toMatchObject({ field: "type" })
    expect(refusals[3]).toMatchObject({ message: 'agent "worker" cannot do "z"; it can do: x, y' })
    expect(refusals[2]).toMatchObject({ message: expect.stringContaining("nothing") })
  })
})

describe("the limits of a task", () => {
  const id = TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0")

  it("are its own over its agent's over the defaults, each as a whole", () => {
    const settled = agent({ configuration: { timeout_ms: 9, retry: { max_attempts: 2, delay_ms: 7 } } })
    expect(Routing.effectiveConfiguration({}, undefined, id)).toEqual({})
    expect(Routing.effectiveConfiguration({}, settled, id)).toEqual({
      timeout_ms: 9,
      retry: { max_attempts: 2, delay_ms: 7 }
    })
    const own = { timeout_ms: 1, retry: { max_attempts: 9 }, delivery: "at_most_once" } as const
    expect(Routing.effectiveConfiguration({ configuration: own }, settled, id)).toEqual(own)
    expect([Routing.maxAttempts({}), Routing.maxAttempts(own)]).toEqual([5, 9])
  })

  it("are those of the definition that its share of a roll-out gives it", () => {
    const base = { version: 1, configuration: { timeout_ms: 1 } }
    const timeoutAt = (percent: number) =>
      Routing.effectiveConfiguration({}, agent({ configuration: { timeout_ms: 2 }, rollout: { percent, base } }), id)
        .timeout_ms
    expect([timeoutAt(0), timeoutAt(100)]).toEqual([1, 2])
  })
})

describe("what is wrong with a command", () => {
  const id = TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0")
  const other = TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b1")
  const now = Date.parse("2026-11-23T12:00:00Z")
  const fields = (command: SubmitTask) => Routing.problemsOf(command, { id, nowMillis: now }).map(({ field }) => field)

  it.each<readonly [SubmitTask, ReadonlyArray<string>]>([
    [{}, []],
    [{ name: "a\u0000b" }, ["name"]],
    [{ description: "\u0000" }, ["description"]],
    [{ labels: { "k\u0000": "v" } }, ["labels"]],
    [{ labels: { k: "v\u0000" } }, ["labels.k"]],
    [{ run_at: "2026-02-30T00:00:00Z" }, ["run_at"]],
    [{ run_at: "2020-01-01T00:00:00Z" }, []],
    [{ run_at: "2027-12-29T12:00:01Z" }, ["run_at"]],
    [{ deadline: "2026-11-23T12:00:00Z" }, ["deadline"]],
    [{ deadline: "2026-11-23T12:00:00.001Z" }, []],
    [{ deadline: "2026-11-23T12:30:00+01:00" }, ["deadline"]],
    [{ deadline: "2028-01-01T00:00:00Z" }, ["deadline"]],
    [{ dependencies: [{ task_id: id }] }, ["dependencies.0.task_id"]],
    [{ dependencies: [{ task_id: other }, { task_id: other, on: "ended" }] }, ["dependencies.1.task_id"]],
    [{ payload: { a: { $result: other } } }, ["payload"]],
    [{ payload: { a: { $result: other } }, dependencies: [{ task_id: other }] }, []],
    [{ name: "\u0000", deadline: "2020-01-01T00:00:00Z", payload: { $result: "x" } }, ["name", "deadline", "payload"]]
  ])("%j is told at its field: %j", (command, expected) => {
    expect(fields(command)).toEqual(expected)
  })
})

describe("references to results", () => {
  const Leaf = Schema.Union([
    Schema.Null,
    Schema.Boolean,
    Schema.Int,
    Schema.Literals(["x", "y", "$result"]),
    Schema.Struct({ $result: Schema.Literals(["a", "b"]) }),
    Schema.Struct({ $result: Schema.Literals(["c"]), path: Schema.Literals(["/0", "/k"]) }),
    Schema.Struct({ $result: Schema.Int })
  ])
  const Json = Schema.Union([
    Leaf,
    Schema.Array(Leaf),
    Schema.Record(Schema.Literals(["p", "q", "path"]), Schema.Union([Leaf, Schema.Array(Leaf)]))
  ])

  it.prop(
    "found are exactly those replaced, and replacing each by itself changes nothing",
    { payload: Json },
    ({ payload }) => {
      const seen = new Set<string>()
      const same = Routing.replaceReferences(payload, ({ id, path }) => {
        seen.add(id)
        return path === "" ? { $result: id } : { $result: id, path }
      })
      expect(seen).toEqual(Routing.references(payload))
      expect(same).toEqual(payload)
      const none = Routing.replaceReferences(payload, () => null)
      expect(Routing.references(none).size).toBe(0)
    }
  )

  it("are not what a payload inherits, and keys of any name survive", () => {
    const payload = JSON.parse('{"__proto__":{"$result":"a"},"constructor":1}')
    expect([...Routing.references(payload)]).toEqual(["a"])
    expect(JSON.stringify(Routing.replaceReferences(payload, () => 7))).toBe('{"__proto__":7,"constructor":1}')
  })
})
