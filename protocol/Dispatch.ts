/**
 * Owns the message that carries queued tasks to an agent's subject.
 *
 * It is a hint with freight: the claim decides. An item carries what the instance needs to run the task, so that the
 * claim need not read it back; a payload above `freightBytesMax` stays behind and comes with the claim.
 */
import { Schema } from "effect"
import { GraphId, Namespace, TaskId, TaskType } from "./Ids.ts"
import { RetryPolicy } from "./RetryPolicy.ts"
import { TaskPriority, Timestamp } from "./Task.ts"

/** Largest payload that travels in a dispatch message, in bytes. */
export const freightBytesMax = 8 * 1024
/** Most tasks in one dispatch message. */
export const dispatchTasksMax = 250
/** Largest dispatch message, in bytes; below the 1 MiB that nats-server takes by default. */
export const dispatchBytesMax = 512 * 1024

/** All that an instance needs to know of a task to run it. */
export const TaskOrder = Schema.Struct({
  id: TaskId,
  namespace: Namespace,
  name: Schema.String,
  type: TaskType,
  lane: TaskPriority,
  /** Absent when it stayed behind, or when the task has none. */
  payload: Schema.optionalKey(Schema.Json),
  /** True when the payload stayed behind and must come with the claim. */
  payload_behind: Schema.optionalKey(Schema.Boolean),
  graph_id: Schema.optionalKey(GraphId),
  timeout_ms: Schema.optionalKey(Schema.Int),
  /** Attempts so far; none when absent. */
  attempts: Schema.optionalKey(Schema.Int),
  max_attempts: Schema.Int,
  retry: Schema.optionalKey(RetryPolicy),
  /** When the first attempt began; absent unless there was one and `retry` has a `total_ms`. */
  first_started_at: Schema.optionalKey(Timestamp),
  at_most_once: Schema.optionalKey(Schema.Boolean),
  deadline: Schema.optionalKey(Timestamp),
  /** The attempt that gave its slot back to wait for a signal, and at which of its awaits. */
  parked: Schema.optionalKey(Schema.Struct({ attempt: Schema.Int, position: Schema.Int })),
  /** Whether its end gives something back to a limit. */
  limited: Schema.optionalKey(Schema.Boolean),
  /** `traceparent` of the submission (W3C Trace Context). */
  trace: Schema.optionalKey(Schema.String)
})
export type TaskOrder = typeof TaskOrder.Type

/** Version of the message. What carries another one is dropped; the tasks in it come by way of the ledger. */
export const dispatchVersion = 1

/** The message: orders of one agent and lane, in routing order. Orders are looked at singly, so that a bad one harms no other. */
export const DispatchMessage = Schema.Struct({
  version: Schema.Literal(dispatchVersion),
  orders: Schema.Array(Schema.Unknown).check(Schema.isBetweenLength(1, dispatchTasksMax))
})
