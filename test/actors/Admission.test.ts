/** Admission: what a routed command is handed to the ledger as, why it is refused, and what its submitter is told. */
import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import { admit, answerOf, type Origin, within } from "../../actors/Admission.ts"
import type { AgentRecord } from "../../actors/ports/AgentStore.ts"
import type { AcceptOutcome } from "../../actors/ports/Ledger.ts"
import { freightBytesMax } from "../../protocol/Dispatch.ts"
import { AgentId, AgentName, GraphId, Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { permissions } from "../../protocol/Permission.ts"
import { invalidField, TooLarge } from "../../protocol/Problem.ts"
import type { SubmitTask } from "../../protocol/Task.ts"

const id = TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b0")
const other = TaskId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b1")
const now = Date.parse("2026-11-23T12:00:00Z")
const worker: AgentRecord = {
  id: AgentId.make("01a20a42-4a11-7003-b0b9-a4786c45f7b2"),
  namespace: Namespace.make("default"),
  name: AgentName.make("worker"),
  type: "echo",
  capabilities: [{ name: "echo.say" }],
  configuration: { timeout_ms: 9_000 },
  status: "active",
  draining: false,
  desiredInstances: 1,
  definitionVersion: 1,
  rollout: undefined,
  version: 1
}
const origin: Origin = {
  id,
  principal: {
    actor: "key:me",
    namespace: Namespace.make("default"),
    role: "admin",
    permissions: new Set(permissions)
  },
  trace: undefined,
  retryOf: undefined,
  graph: undefined
}
const admitted = (command: SubmitTask, agent: AgentRecord | undefined = worker, over: Partial<Origin> = {}) =>
  Result.getOrThrow(admit(command, agent, { ...origin, ...over }, now))
const refusal = (command: SubmitTask, agent?: AgentRecord) =>
  Result.getOrThrow(Result.flip(admit(command, agent, origin, now)))

describe("an admitted task", () => {
  it("carries the same limits to the ledger and to its instance", () => {
    const { order, task } = admitted({
      agent: "worker",
      priority: "high",
      payload: { n: 1 },
      deadline: "2026-11-24T13:00:00+01:00",
      configuration: { retry: { max_attempts: 2 }, delivery: "at_most_once" }
    })
    expect(task).toMatchObject({
      id,
      name: "echo.say",
      type: "echo.say",
      lane: "high",
      agentId: worker.id,
      maxAttempts: 2,
      atMostOnce: true,
      payload: '{"n":1}',
      actor: "key:me",
      deadline: "2026-11-24T12:00:00.000Z"
    })
    expect(JSON.parse(task.configuration ?? "")).toEqual({
      timeout_ms: 9_000,
      retry: { max_attempts: 2 },
      delivery: "at_most_once"
    })
    expect(order).toEqual({
      id,
      namespace: "default",
      name: "echo.say",
      type: "echo.say",
      lane: "high",
      max_attempts: 2,
      payload: { n: 1 },
      timeout_ms: 9_000,
      retry: { max_attempts: 2 },
      at_most_once: true,
      deadline: "2026-11-24T12:00:00.000Z"
    })
  })

  it("leaves a large payload behind, counted in bytes", () => {
    const fits = "é".repeat((freightBytesMax - 2) / 2)
    expect(admitted({ agent: "worker", payload: fits }).order).toMatchObject({ payload: fits })
    const behind = admitted({ agent: "worker", payload: `${fits}x` }).order
    expect(behind.payload_behind).toBe(true)
    expect(behind).not.toHaveProperty("payload")
  })

  it("belongs to its graph and to what it retries", () => {
    const graph = { id: GraphId.make(other), key: "load" }
    const { order, task } = admitted({ agent: "worker" }, worker, { graph, retryOf: other })
    expect(task).toMatchObject({ graphId: other, graphKey: "load", retryOf: other })
    expect(order.graph_id).toBe(other)
  })
})

describe("a refused task", () => {
  it.each<readonly [SubmitTask, AgentRecord | undefined, string]>([
    [{}, undefined, "type"],
    [{ agent: "nobody" }, undefined, "agent"],
    [{ agent: "worker" }, { ...worker, draining: true }, "agent"],
    [{ agent: "worker" }, { ...worker, status: "terminated" }, "agent"],
    [{ agent: "worker", type: "other.work" }, worker, "type"],
    [{ agent: "worker", name: "\u0000" }, worker, "name"],
    [{ agent: "worker", parent_id: other, deadline: "2020-01-01T00:00:00Z" }, worker, "deadline"]
  ])("%j is told at its field", (command, agent, field) => {
    const problem = refusal(command, agent)
    expect(problem).toMatchObject({ _tag: "InvalidInput", errors: [{ field }] })
    expect(problem.message).toContain(field)
  })

  it("waits for a paused or quarantined agent instead", () => {
    for (const status of ["maintenance", "error"] as const) {
      expect(admitted({ agent: "worker" }, { ...worker, status }).task.agentId).toBe(worker.id)
    }
  })

  it("has a payload of at most 256 KiB, in bytes", () => {
    const fits = "x".repeat(Limits.payloadBytesMax - 2)
    expect(Result.isSuccess(admit({ agent: "worker", payload: fits }, worker, origin, now))).toBe(true)
    for (const payload of [`${fits}x`, "é".repeat(Limits.payloadBytesMax / 2)]) {
      expect(refusal({ agent: "worker", payload }, worker)).toMatchObject({
        _tag: "TooLarge",
        field: "payload",
        limit: 262_144,
        unit: "bytes"
      })
    }
  })
})

describe("what the submitter is told", () => {
  const routed = admitted({ agent: "worker", idempotency_key: "k" })
  const existing: AcceptOutcome = {
    _tag: "Existing",
    id: other,
    same: true,
    status: "running",
    waitingFor: undefined,
    createdAt: "2026-11-23T11:00:00.000Z",
    routed: { name: "then", type: "echo.say@1", agentId: undefined }
  }
  const told = (outcome: AcceptOutcome) =>
    answerOf({ ...routed, task: { ...routed.task, idempotency: { key: "k", fingerprint: "" } } }, outcome) ??
    Result.fail(invalidField("", "nothing"))

  it("of an accepted task is where it stands, of a repeated one what it was told first", () => {
    const accepted: AcceptOutcome = {
      _tag: "Accepted",
      status: "pending",
      waitingFor: "agent",
      createdAt: "2026-11-23T12:00:00.000Z"
    }
    expect(Result.getOrThrow(told(accepted))).toMatchObject({
      id,
      status: "pending",
      waiting_for: "agent",
      agent_id: worker.id,
      duplicate: false
    })
    expect(Result.getOrThrow(told(existing))).toEqual({
      id: other,
      namespace: "default",
      name: "then",
      type: "echo.say@1",
      agent_id: null,
      priority: "normal",
      status: "running",
      waiting_for: null,
      created_at: "2026-11-23T11:00:00.000Z",
      duplicate: true
    })
  })

  it("of a refusal is its reason", () => {
    const reason = (outcome: AcceptOutcome) => Result.getOrThrow(Result.flip(told(outcome)))
    expect(reason({ ...existing, same: false })).toMatchObject({ _tag: "IdempotencyMismatch", key: "k" })
    expect(reason({ _tag: "UnknownTask", field: "dependencies", id: other })).toMatchObject({
      _tag: "InvalidInput",
      errors: [{ field: "dependencies" }]
    })
    expect(reason({ _tag: "Refused", message: "why" })).toMatchObject({
      _tag: "InvalidInput",
      detail: "the task cannot be stored: why"
    })
  })

  it("of a task that another one of its batch undid is nothing by itself", () => {
    expect(answerOf(routed, { _tag: "Undone" })).toBeUndefined()
  })

  it("names the field from further out, and loses nothing", () => {
    expect(within("tasks.load", invalidField("payload", "is bad", 5))).toMatchObject({
      _tag: "InvalidInput",
      detail: "tasks.load.payload: is bad",
      errors: [{ field: "tasks.load.payload", message: "is bad", limit: 5 }]
    })
    expect(within("tasks.load", invalidField("", "is bad"))).toMatchObject({ errors: [{ field: "tasks.load" }] })
    const large = new TooLarge({ field: "payload", limit: 5, unit: "bytes", detail: "payload: has 6 bytes" })
    expect(within("tasks.load", large)).toMatchObject({
      _tag: "TooLarge",
      field: "tasks.load.payload",
      limit: 5,
      unit: "bytes"
    })
    expect(within("tasks.load", large).detail).toContain("has 6 bytes")
  })
})
