/**
 * Owns what is said about supervision: the tree of nodes, agents, instances and what they run, the commands that act on an
 * instance, and what nodes ask each other for it.
 *
 * What an instance does now is known to its node alone: a node answers for what it hosts. Who looks after what, and what was
 * ordered, stands in Postgres.
 */
import { Schema } from "effect"
import { Agent, AgentType, SupervisionStrategy } from "./Agent.ts"
import { AgentId, AgentName, AgentRef, NodeName, TaskId } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { Timestamp } from "./Task.ts"

/** What became of an instance. `unreachable`: its node does not answer, so nobody knows. */
export const instanceStates = [
  "starting",
  "running",
  "backing_off",
  "hibernating",
  "quarantined",
  "stopped",
  "unreachable"
] as const
export const InstanceState = Schema.Literals(instanceStates).annotate({ identifier: "InstanceState" })
export type InstanceState = typeof InstanceState.Type

/** Position of an instance within its agent. */
export const InstanceIndex = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.instancesMax - 1 }))

/** View: why something crashed. */
export const Crash = Schema.Struct({
  at: Timestamp,
  class: Schema.String.annotateKey({ description: "Name of the error." }),
  message: Schema.String,
  stack: Schema.NullOr(Schema.String).annotateKey({ description: "Its innermost frames, one a line." }),
  task_id: Schema.NullOr(TaskId).annotateKey({ description: "The task that crashed; null: the instance itself." })
}).annotate({ identifier: "Crash" })
export type Crash = typeof Crash.Type

/** View: a task in the hands of an instance. */
export const CurrentTask = Schema.Struct({
  id: TaskId,
  name: Schema.String,
  attempt: Schema.Int,
  since: Timestamp.annotateKey({ description: "When this attempt began, by its node's clock." })
}).annotate({ identifier: "CurrentTask" })
export type CurrentTask = typeof CurrentTask.Type

/** View: an order that an instance takes no work. */
export const Quarantine = Schema.Struct({
  at: Timestamp,
  by: Schema.String.annotateKey({ description: "Who ordered it: `key:<id>`, or `node:<name>` for a supervisor." }),
  reason: Schema.NullOr(Schema.String)
}).annotate({ identifier: "Quarantine" })
export type Quarantine = typeof Quarantine.Type

const counted = (what: string) =>
  Schema.Struct({ recent: Schema.Int, total: Schema.Int }).annotate({
    description: `${what}: within the window of the restart intensity, on its node; and in all.`
  })

/** View: an instance, where it is and how it does. */
export const SupervisedInstance = Schema.Struct({
  index: Schema.Int,
  state: InstanceState,
  node: Schema.NullOr(NodeName).annotateKey({ description: "The node that hosts it, or hosted it last." }),
  epoch: Schema.NullOr(Schema.Int),
  since: Schema.NullOr(Timestamp).annotateKey({ description: "Since when it is in this state, where that is known." }),
  next_start_at: Schema.NullOr(Timestamp).annotateKey({ description: "When `backing_off` ends." }),
  restarts: counted("Restarts after crashes of the instance itself"),
  task_crashes: counted("Crashes of its tasks"),
  last_crash: Schema.NullOr(Crash),
  waiting: Schema.Int.annotateKey({ description: "Tasks that it has fetched and that wait for a slot." }),
  running: Schema.Int,
  tasks: Schema.Array(CurrentTask).annotateKey({
    description: "Those that run longest, at most `supervisionTasksMax`."
  }),
  quarantine: Schema.NullOr(Quarantine)
}).annotate({ identifier: "SupervisedInstance" })
export type SupervisedInstance = typeof SupervisedInstance.Type

/** View: an agent and its instances. */
export const SupervisedAgent = Schema.Struct({
  agent_id: AgentId,
  agent: AgentName,
  type: AgentType,
  status: Agent.fields.status,
  status_reason: Schema.NullOr(Schema.String),
  strategy: SupervisionStrategy,
  desired_instances: Schema.Int,
  instances: Schema.Array(SupervisedInstance)
}).annotate({ identifier: "SupervisedAgent" })
export type SupervisedAgent = typeof SupervisedAgent.Type

/** View: a node that answered, or should have. */
export const SupervisedNode = Schema.Struct({
  node: NodeName,
  state: Schema.Literals(["up", "unreachable"]),
  instances: Schema.Int.annotateKey({ description: "Instances of the agents of this page that it hosts." })
}).annotate({ identifier: "SupervisedNode" })
export type SupervisedNode = typeof SupervisedNode.Type

/** View: a page of the tree. */
export const SupervisionTree = Schema.Struct({
  at: Timestamp,
  nodes: Schema.Array(SupervisedNode),
  agents: Schema.Array(SupervisedAgent),
  next_cursor: Schema.NullOr(Schema.String)
}).annotate({ identifier: "SupervisionTree" })
export type SupervisionTree = typeof SupervisionTree.Type

/** What of the tree is asked for. */
export const ShowSupervision = Schema.Struct({
  agent: Schema.optionalKey(AgentRef.annotate({ description: "Only this agent, by id or name." })),
  node: Schema.optionalKey(NodeName.annotate({ description: "Only instances on this node." })),
  state: Schema.optionalKey(InstanceState.annotate({ description: "Only instances in this state." })),
  limit: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.supervisionAgentsMax }))
  ).annotateKey({ description: "Agents looked at, 1 to `supervisionAgentsMax`, which it is when absent." }),
  cursor: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(256)))
}).annotate({ identifier: "ShowSupervision" })
export type ShowSupervision = typeof ShowSupervision.Type

/** Command: what is done to an instance, and why. */
export const SteerInstance = Schema.Struct({
  reason: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.supervisionReasonCharactersMax)))
}).annotate({ identifier: "SteerInstance" })
export type SteerInstance = typeof SteerInstance.Type

/** View: what is ordered of an instance. */
export const InstanceOrder = Schema.Struct({
  agent_id: AgentId,
  agent: AgentName,
  index: Schema.Int,
  quarantine: Schema.NullOr(Quarantine),
  restarts_ordered: Schema.Int.annotateKey({ description: "Restarts that were ordered so far." }),
  version: Schema.Int.annotateKey({ description: "Of the agent: the number of the event that recorded this." })
}).annotate({ identifier: "InstanceOrder" })
export type InstanceOrder = typeof InstanceOrder.Type

// --- between nodes

/** To all nodes: what do you run of these agents? */
export const SupervisionQuestion = Schema.Struct({ agents: Schema.Array(AgentId) })
export type SupervisionQuestion = typeof SupervisionQuestion.Type

/** One instance as its node sees it. */
export const HostedInstance = Schema.Struct({
  agent_id: AgentId,
  index: Schema.Int,
  state: Schema.Literals(["starting", "running", "backing_off"]),
  epoch: Schema.NullOr(Schema.Int),
  since: Timestamp,
  next_start_at: Schema.NullOr(Timestamp),
  restarts_recent: Schema.Int,
  task_crashes_recent: Schema.Int,
  last_crash: Schema.NullOr(Crash),
  waiting: Schema.Int,
  running: Schema.Int,
  tasks: Schema.Array(CurrentTask)
})
export type HostedInstance = typeof HostedInstance.Type

/** From one node; several where one message would be too large, `last` of the last one. */
export const SupervisionAnswer = Schema.Struct({
  node: NodeName,
  instances: Schema.Array(HostedInstance),
  last: Schema.Boolean
})
export type SupervisionAnswer = typeof SupervisionAnswer.Type
