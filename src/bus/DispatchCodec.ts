/**
 * Orders to dispatch messages and back. Pure.
 *
 * Invariant: what `decode` lets through is a sound order for the agent and lane whose subject it came on, whoever
 * published it; payloads are whatever JSON they are. Encoding trusts its input, which was decoded at the edge.
 */
import { Result, Schema } from "effect"
import { enable } from "effect/schema/SchemaJITCompiler"
import {
  DispatchMessage,
  dispatchBytesMax,
  dispatchTasksMax,
  dispatchVersion,
  TaskOrder
} from "../../protocol/Dispatch.ts"
import type { AgentId, Namespace } from "../../protocol/Ids.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import type { TaskPriority } from "../../protocol/Task.ts"

export interface DispatchText {
  readonly subject: string
  /** Id of the first task. */
  readonly firstTask: string
  readonly tasks: number
  readonly text: string
}

interface Group {
  readonly subject: string
  firstTask: string
  tasks: number
  bytes: number
  text: string
}

const head = `{"version":${dispatchVersion},"orders":[`
const tail = "]}"

/**
 * One message per agent and lane, more where `tasksMax`, `dispatchTasksMax` or `dispatchBytesMax` is passed. Orders of
 * one subject keep their order. An order that is larger than a message may be goes alone.
 */
export const encode = (
  orders: ReadonlyArray<{ readonly agentId: AgentId; readonly tasksMax: number; readonly order: TaskOrder }>
): ReadonlyArray<DispatchText> => {
  const messages: Array<DispatchText> = []
  const groups = new Map<string, Group>()
  const close = (group: Group) => {
    messages.push({
      subject: group.subject,
      firstTask: group.firstTask,
      tasks: group.tasks,
      text: head + group.text + tail
    })
  }
  for (const { agentId, order, tasksMax } of orders) {
    const subject = Subjects.dispatch({ namespace: order.namespace, agentId, lane: order.lane })
    const text = JSON.stringify(order)
    const bytes = Buffer.byteLength(text) + 1
    const group = groups.get(subject)
    if (group === undefined) {
      groups.set(subject, { subject, firstTask: order.id, tasks: 1, bytes, text })
      continue
    }
    if (group.tasks >= Math.min(tasksMax, dispatchTasksMax) || group.bytes + bytes + envelopeBytes > dispatchBytesMax) {
      close(group)
      group.firstTask = order.id
      group.tasks = 0
      group.bytes = 0
      group.text = ""
    }
    group.text = group.tasks === 0 ? text : `${group.text},${text}`
    group.tasks++
    group.bytes += bytes
  }
  for (const group of groups.values()) close(group)
  return messages
}

const envelopeBytes = head.length + tail.length

export interface Decoded {
  /** At least one. */
  readonly orders: ReadonlyArray<TaskOrder>
  /** Orders that were left out because they are not sound. */
  readonly refused: number
}

/** The sound orders of a message, or what is wrong with all of it. Never quotes the message: it may hold secrets. */
export const decode = (
  data: Uint8Array,
  from: { readonly namespace: Namespace; readonly lane: TaskPriority }
): Result.Result<Decoded, string> =>
  Result.flatMap(textOf(data), (text) => {
    const message = decodeMessage(text)
    if (Result.isFailure(message)) return Result.fail("it is not a dispatch message of this version")
    const all = message.success.orders
    const sound = all.filter(isOrder)
    const orders = sound.filter((order) => order.namespace === from.namespace && order.lane === from.lane)
    return orders.length > 0
      ? Result.succeed({ orders, refused: all.length - orders.length })
      : Result.fail(
          sound.length === 0 ? "none of its orders is sound" : "its orders belong to another namespace or lane"
        )
  })

const utf8 = new TextDecoder("utf-8", { fatal: true })
const textOf = (data: Uint8Array) => Result.try({ try: () => utf8.decode(data), catch: () => "it is not UTF-8" })

// A payload came out of the JSON parser, so it is JSON: to walk through it again costs five times all other checks.
const Order = TaskOrder.mapFields((fields) => ({ ...fields, payload: Schema.optionalKey(Schema.Unknown) }))
const Message = Schema.fromJsonString(DispatchMessage)
enable(Order.ast)
enable(Message.ast)
const matchesOrder = Schema.is(Order)
const isOrder = (value: unknown): value is TaskOrder => matchesOrder(value)
const decodeMessage = Schema.decodeUnknownResult(Message)
