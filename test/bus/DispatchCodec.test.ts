/** Orders become messages within their bounds, and what is no sound order never comes out of one. */
import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import { dispatchBytesMax } from "../../protocol/Dispatch.ts"
import { Namespace } from "../../protocol/Ids.ts"
import { decode, encode } from "../../src/bus/DispatchCodec.ts"
import { namespace, newAgent, order, orders, range, taskId } from "./BusFixture.ts"

const from = { namespace, lane: "normal" } as const
const bytes = (text: string) => new TextEncoder().encode(text)
const idsOf = (text: string) => {
  const decoded = decode(bytes(text), from)
  return Result.isSuccess(decoded) ? decoded.success.orders.map(({ id }) => id) : decoded.failure
}

describe("orders", () => {
  it("of one agent and lane share a message, in their order", () => {
    const [message, ...more] = encode(orders(newAgent(), [1, 2, 3]))
    expect(more).toEqual([])
    expect(message?.tasks).toBe(3)
    expect(idsOf(message?.text ?? "")).toEqual([taskId(1), taskId(2), taskId(3)])
  })

  it("of different agents and lanes travel apart", () => {
    const [one, other] = [newAgent(), newAgent()]
    const messages = encode([
      ...orders(one, [1]),
      ...orders(other, [2]),
      { agentId: one, tasksMax: 10, order: order(3, { lane: "high" }) },
      ...orders(one, [4])
    ])
    expect(messages.map(({ subject, tasks }) => [subject, tasks])).toEqual([
      [`task.default.${one}.normal`, 2],
      [`task.default.${other}.normal`, 1],
      [`task.default.${one}.high`, 1]
    ])
  })

  it("are split where the agent's own bound or the message's is passed", () => {
    const agent = newAgent()
    expect(encode(orders(agent, range(10), 4)).map(({ tasks }) => tasks)).toEqual([4, 4, 2])
    expect(encode(orders(agent, range(600), 1_000)).map(({ tasks }) => tasks)).toEqual([250, 250, 100])
  })

  it("are split where a message would become too large, counted in bytes and not in characters", () => {
    const payload = "ü".repeat(4_000)
    const messages = encode(
      range(100).map((number) => ({ agentId: newAgentOnce, tasksMax: 250, order: order(number, { payload }) }))
    )
    expect(messages.length).toBeGreaterThan(1)
    for (const { text } of messages) expect(Buffer.byteLength(text)).toBeLessThanOrEqual(dispatchBytesMax)
    expect(messages.flatMap(({ text }) => idsOf(text))).toEqual(range(100).map(taskId))
  })

  it("come back as they were, with every field", () => {
    const full = order(7, {
      payload_behind: true,
      timeout_ms: 1_000,
      retry: { max_attempts: 2, factor: 1.5 },
      at_most_once: true,
      deadline: "2026-11-23T10:00:00Z",
      trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    })
    const [message] = encode([{ agentId: newAgent(), tasksMax: 1, order: full }])
    expect(decode(bytes(message?.text ?? ""), from)).toEqual(Result.succeed({ orders: [full], refused: 0 }))
  })
})

const newAgentOnce = newAgent()
const wrapped = (...inner: ReadonlyArray<unknown>) => JSON.stringify({ version: 1, orders: inner })

describe("a message that is none of ours", () => {
  it.each([
    ["nothing", ""],
    ["garbage", "{{{"],
    ["JSON of another kind", "[1,2,3]"],
    ["null", "null"],
    ["no orders", wrapped()],
    ["too many orders", wrapped(...range(251).map((number) => order(number)))],
    ["another version", JSON.stringify({ version: 2, orders: [order(1)] })],
    ["no version", JSON.stringify({ orders: [order(1)] })],
    ["an order without id", wrapped({ ...order(1), id: undefined })],
    ["an id that widens a subject", wrapped({ ...order(1), id: "*.>" })],
    ["a lane that does not exist", wrapped({ ...order(1), lane: "urgent" })],
    ["a number where text belongs", wrapped({ ...order(1), name: 5 })],
    ["attempts that are no number", wrapped({ ...order(1), max_attempts: "3" })],
    ["a retry policy beyond its limits", wrapped({ ...order(1), retry: { factor: 1e9 } })],
    ["an order of another namespace", wrapped(order(1, { namespace: Namespace.make("other") }))],
    ["an order of another lane", wrapped(order(1, { lane: "high" }))]
  ])("is refused with a reason that does not quote it: %s", (_, text) => {
    const decoded = decode(bytes(text), from)
    const reason = Result.isFailure(decoded) ? decoded.failure : "none"
    expect(reason).not.toBe("none")
    expect(text.length > 6 && reason.includes(text.slice(0, 6))).toBe(false)
  })

  it("is refused when it is not UTF-8", () => {
    expect(Result.isFailure(decode(Uint8Array.of(0xff, 0xfe, 0x7b), from))).toBe(true)
  })
})

it("a bad order harms no other of its message", () => {
  const decoded = decode(bytes(wrapped(order(1), { nonsense: true }, order(2))), from)
  expect(decoded).toEqual(Result.succeed({ orders: [order(1), order(2)], refused: 1 }))
})

it("fields that only a newer version knows are let through", () => {
  expect(idsOf(wrapped({ ...order(1), colour: "blue" }))).toEqual([taskId(1)])
})
