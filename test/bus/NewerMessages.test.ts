/** What a newer version says over NATS beside what we know is no reason not to hear the rest. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { Chunk } from "../../protocol/Chunk.ts"
import { NodeName } from "../../protocol/Ids.ts"
import { Notice } from "../../protocol/Notice.ts"
import { type HostedInstance, SupervisionAnswer, SupervisionQuestion } from "../../protocol/Supervision.ts"
import { decode } from "../../src/bus/DispatchCodec.ts"
import { namespace, newAgent, order } from "./BusFixture.ts"

const from = { namespace, lane: "normal" } as const
const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

describe("a field that we do not know", () => {
  it("does not hide an order, nor those beside it", () => {
    const orders = [{ ...order(1), colour: "red" }, order(2)]
    const decoded = decode(bytes({ version: 1, orders, hurry: true }), from)
    expect(Result.getOrThrow(decoded)).toMatchObject({ orders: [order(1), order(2)], refused: 0 })
  })

  it("does not hide a notice or a chunk", () => {
    const notice: Notice = { _tag: "AgentChanged", agent: newAgent() }
    expect(Schema.decodeUnknownSync(Notice)({ ...notice, why: "new" })).toEqual(notice)
    const chunk = {
      task_id: order(1).id,
      stream: "log",
      number: 1,
      run: 3,
      at: "2026-11-23T10:00:00.000Z",
      attempt: 1,
      data: 1
    }
    expect(Schema.decodeUnknownSync(Chunk)({ ...chunk, mood: "calm" })).toEqual(chunk)
  })
})

describe("a field that we do not know in what a node says of itself", () => {
  it("does not hide its instances", () => {
    const instance: HostedInstance = {
      ...{ agent_id: newAgent(), index: 0, state: "running", epoch: 1, since: "2026-11-23T10:00:00.000Z" },
      ...{ next_start_at: null, restarts_recent: 0, task_crashes_recent: 0, last_crash: null },
      ...{ waiting: 0, running: 0, tasks: [] }
    }
    const answer: SupervisionAnswer = { node: NodeName.make("young"), instances: [instance], last: true }
    const newer = { ...answer, instances: [{ ...instance, mood: "calm" }], mood: "calm" }
    expect(Schema.decodeUnknownSync(SupervisionAnswer)(newer)).toEqual(answer)
    expect(Schema.decodeUnknownSync(SupervisionQuestion)({ agents: [], mood: "calm" })).toEqual({ agents: [] })
  })
})

describe("a message of a kind that we do not know", () => {
  it("is left alone: its work is found in the ledger", () => {
    expect(Result.isFailure(decode(bytes({ version: 2, orders: [order(1)] }), from))).toBe(true)
    expect(Result.isFailure(Schema.decodeUnknownResult(Notice)({ _tag: "FromTheFuture" }))).toBe(true)
  })
})
