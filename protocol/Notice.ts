/**
 * Owns the hints that nodes give each other over core NATS. Every one of them may be lost, doubled or late: each has
 * a slower way to the same end (the reconciler, the directory's sweep, the refused completion).
 */
import { Schema } from "effect"
import { AgentId, Namespace, TaskId } from "./Ids.ts"
import { TaskPriority } from "./Task.ts"

export const Notice = Schema.TaggedUnion({
  /** These agents have queued work in these lanes; no lanes: somewhere. Whoever hosts an instance of them, see to it. */
  Wake: { agents: Schema.Array(Schema.Struct({ id: AgentId, lanes: Schema.Array(TaskPriority) })) },
  /** An agent's definition or state changed: read it again. */
  AgentChanged: { agent: AgentId },
  /** A limit of a namespace was made, changed or deleted: read them again. */
  LimitsChanged: { namespace: Namespace },
  /** These running tasks of an agent were ended from outside: interrupt them. */
  Interrupt: { agent: AgentId, tasks: Schema.Array(TaskId) },
  /** These running tasks of an agent were sent a signal: whoever awaits one in them, look. */
  Signalled: { agent: AgentId, tasks: Schema.Array(TaskId) }
})
export type Notice = typeof Notice.Type
