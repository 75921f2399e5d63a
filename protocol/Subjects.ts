/**
 * Owns every NATS subject: built and parsed here and nowhere else.
 *
 *   task.<namespace>.<agent id>.<lane>            dispatch, on stream TASKS
 *   event.<namespace>.<kind>                      recorded events, several in one message, on stream EVENTS
 *   chunk.<namespace>.<task id>                   chunks that a task emitted, core NATS, to nodes with a reader
 *   notice.<kind>                                 core NATS hints between nodes; each may be lost
 *   survey.supervision                            core NATS question to all nodes; each answers to the asker's inbox
 *   datamcp.v1.<namespace>.<group>.<verb>         request/reply of the micro service
 *
 * Tokens come from schemas that allow letters, digits, `_` and `-` only, so no value can widen a subject.
 */
import type { EventKind } from "./Event.ts"
import type { AgentId, Namespace, TaskId } from "./Ids.ts"
import { tokenPattern } from "./Ids.ts"
import { priorities, type TaskPriority } from "./Task.ts"

export const dispatchStream = "TASKS"
export const dispatchAll = "task.>"
export const eventStream = "EVENTS"
export const eventAll = "event.>"
export const noticeAll = "notice.>"

export const dispatch = (to: { namespace: Namespace; agentId: AgentId; lane: TaskPriority }) =>
  `task.${to.namespace}.${to.agentId}.${to.lane}`

export const event = (of: { namespace: Namespace; kind: EventKind }) => `event.${of.namespace}.${of.kind}`

/** All events of a namespace, to listen to. */
export const events = (namespace: Namespace) => `event.${namespace}.*`

export const chunk = (of: { namespace: Namespace; taskId: TaskId }) => `chunk.${of.namespace}.${of.taskId}`

export const notice = (kind: string) => `notice.${kind}`

/** To all nodes: what do you run of these agents? */
export const survey = "survey.supervision"

/** Name of the consumer that the instances of an agent share for one lane. */
export const consumerName = (of: { agentId: AgentId; lane: TaskPriority }) => `${of.agentId}-${of.lane}`

export interface DispatchSubject {
  readonly namespace: string
  readonly agentId: string
  readonly lane: TaskPriority
}

/** Parts of a dispatch subject, or undefined when it is none of ours. */
export const parseDispatch = (subject: string): DispatchSubject | undefined => {
  const [head, namespace, agentId, lane, ...rest] = subject.split(".")
  const known = priorities.find((priority) => priority === lane)
  return head === "task" &&
    namespace !== undefined &&
    tokenPattern.test(namespace) &&
    agentId !== undefined &&
    tokenPattern.test(agentId) &&
    known !== undefined &&
    rest.length === 0
    ? { namespace, agentId, lane: known }
    : undefined
}

/**
 * Where the server answers nodes. Not `_INBOX`, which clients of the micro service may read: what JetStream delivers to
 * nodes passes through here.
 */
export const nodeInbox = "_NODE"

export const servicePrefix = "datamcp.v1"
/** What a node of the micro service listens on: every endpoint of every namespace, and subjects without an endpoint. */
export const serviceAll = `${servicePrefix}.>`

/** Subject of a micro service endpoint; `*` stands for every namespace. */
export const service = (namespace: string, group: string, verb: string) =>
  `${servicePrefix}.${namespace}.${group}.${verb}`

/** The namespace a request was sent to, or undefined when the subject is malformed. */
export const parseServiceNamespace = (subject: string): string | undefined => {
  const parts = subject.split(".")
  const namespace = parts[2]
  return parts.length === 5 && namespace !== undefined && tokenPattern.test(namespace) ? namespace : undefined
}
