/**
 * Owns what is said about agents: commands that define and steer one, and the view that shows one.
 *
 * An agent is a definition; what runs are its instances. `type` names the behaviour that does its work.
 */
import { Schema } from "effect"
import { AgentId, AgentName, Namespace, NodeName, TaskType } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { RetryPolicy } from "./RetryPolicy.ts"
import { Labels, Metadata, Timestamp } from "./Task.ts"

/** A task type that an agent can do. */
export const Capability = Schema.Struct({
  name: TaskType,
  version: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 32))),
  description: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
  parameters: Schema.optionalKey(Schema.Json).annotateKey({
    description: "JSON Schema of the payload, for people and tools."
  }),
  payload_schema: Schema.optionalKey(Schema.Json).annotateKey({
    description:
      "JSON Schema (draft 2020-12, the keywords of docs/agents.md) that payloads must fit, when a task is accepted and when it starts. Any payload is taken when absent."
  }),
  enabled: Schema.optionalKey(Schema.Boolean)
}).annotate({ identifier: "Capability" })
export type Capability = typeof Capability.Type

/** Which instances start anew when one has crashed: that one, or all of its agent. */
export const SupervisionStrategy = Schema.Literals(["one_for_one", "one_for_all"])
export type SupervisionStrategy = typeof SupervisionStrategy.Type

/** Bounds of the processes in which an isolated behaviour runs. */
export const Isolation = Schema.Struct({
  memory_mb: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: Limits.isolationMemoryMibMin, maximum: Limits.isolationMemoryMibMax }))
  ).annotateKey({ description: "Most resident memory of one process, in MiB; 512 when absent." }),
  processes: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.isolationProcessesMax }))
  ).annotateKey({
    description: "Most processes of one instance, and so most tasks that it runs at a time; 4 when absent."
  }),
  unresponsive_ms: Schema.optionalKey(
    Schema.Int.check(
      Schema.isBetween({ minimum: Limits.isolationUnresponsiveMillisMin, maximum: Limits.timeoutMillisMax })
    )
  ).annotateKey({
    description:
      "An attempt whose event loop stands still for so long fails with `unresponsive`; it may for as long as its timeout when absent."
  })
}).annotate({ identifier: "Isolation" })
export type Isolation = typeof Isolation.Type

export const AgentConfiguration = Schema.Struct({
  max_concurrent_tasks: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.concurrentTasksMax }))
  ).annotateKey({ description: "Tasks that one instance runs at a time. 1 makes an instance strictly serial." }),
  timeout_ms: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.timeoutMillisMax }))
  ).annotateKey({ description: "Default for tasks that set none." }),
  retry: Schema.optionalKey(RetryPolicy).annotateKey({ description: "Default for tasks that set none." }),
  supervision: Schema.optionalKey(SupervisionStrategy).annotateKey({
    description: "`one_for_one` when absent: a crashed instance starts anew alone; `one_for_all`: all instances do."
  }),
  settings: Schema.optionalKey(Schema.Json).annotateKey({
    description: "Settings of the behaviour; checked by the behaviour that `type` names."
  }),
  isolation: Schema.optionalKey(Isolation).annotateKey({
    description: "For behaviours that run in processes of their own."
  })
}).annotate({ identifier: "AgentConfiguration" })
export type AgentConfiguration = typeof AgentConfiguration.Type

/** Name of a behaviour: `echo`, `http`, `sql`, or that of a module loaded by configuration. */
export const AgentType = Schema.String.check(
  Schema.isPattern(/^[a-z][a-z0-9_-]{0,63}$/u, { expected: "a behaviour's name such as http" })
)
export type AgentType = typeof AgentType.Type

export const AgentStatus = Schema.Literals([
  "initializing",
  "active",
  "idle",
  "busy",
  "scaling",
  "maintenance",
  "error",
  "terminated"
])
export type AgentStatus = typeof AgentStatus.Type

const definitionFields = {
  description: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
  capabilities: Schema.optionalKey(
    Schema.Array(Capability).check(Schema.isMaxLength(Limits.capabilitiesMax))
  ).annotateKey({ description: "Those of the behaviour when absent." }),
  configuration: Schema.optionalKey(AgentConfiguration),
  desired_instances: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.instancesMax }))
  ),
  labels: Schema.optionalKey(Labels),
  metadata: Schema.optionalKey(Metadata)
}

/** Command: give a new configuration to a share of new tasks first. */
const startRollout = {
  rollout: Schema.optionalKey(
    Schema.Struct({ percent: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 99 })) })
  ).annotateKey({
    description: "Share of new tasks that get the new `configuration`; the others run under the version before."
  })
}

/** Command: define an agent. */
export const CreateAgent = Schema.Struct({ name: AgentName, type: AgentType, ...definitionFields }).annotate({
  identifier: "CreateAgent"
})
export type CreateAgent = typeof CreateAgent.Type

/** Command: replace the parts that are given. The name and the type of an agent never change. */
export const UpdateAgent = Schema.Struct({ ...definitionFields, ...startRollout }).annotate({
  identifier: "UpdateAgent"
})
export type UpdateAgent = typeof UpdateAgent.Type

/** Command: set how many instances shall run. */
export const ScaleAgent = Schema.Struct({
  desired_instances: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.instancesMax }))
}).annotate({ identifier: "ScaleAgent" })
export type ScaleAgent = typeof ScaleAgent.Type

/** View: a roll-out under way. */
export const Rollout = Schema.Struct({
  percent: Schema.Int.annotateKey({ description: "Share of new tasks that run under `version`." }),
  version: Schema.Int.annotateKey({ description: "The definition that is rolled out." }),
  base_version: Schema.Int.annotateKey({ description: "The definition that the other tasks run under." })
}).annotate({ identifier: "Rollout" })
export type Rollout = typeof Rollout.Type

/** View: an agent. `idle` and `busy` are `active` seen with or without running tasks. */
export const Agent = Schema.Struct({
  id: AgentId,
  namespace: Namespace,
  name: AgentName,
  type: AgentType,
  description: Schema.optionalKey(Schema.String),
  capabilities: Schema.Array(Capability),
  configuration: AgentConfiguration,
  status: AgentStatus,
  status_reason: Schema.NullOr(Schema.String).annotateKey({ description: "Why it is in `error`, or that it drains." }),
  draining: Schema.Boolean.annotateKey({
    description: "True once deletion was asked for: it finishes what it has and takes nothing new."
  }),
  desired_instances: Schema.Int,
  current_instances: Schema.Int,
  labels: Labels,
  metadata: Metadata,
  created_at: Timestamp,
  updated_at: Timestamp,
  version: Schema.Int.annotateKey({ description: "Number of the agent's last event: it counts every change." }),
  definition_version: Schema.Int.annotateKey({ description: "The version that brought the present definition." }),
  rollout: Schema.optionalKey(Rollout).annotateKey({
    description: "While a new configuration gets a share of new tasks only."
  })
}).annotate({ identifier: "Agent" })
export type Agent = typeof Agent.Type

/** View: figures of an agent from recorded ends, not from samples. */
export const AgentMetrics = Schema.Struct({
  agent_id: AgentId,
  completed: Schema.Int,
  failed: Schema.Int,
  timed_out: Schema.Int,
  cancelled: Schema.Int,
  success_rate: Schema.NullOr(Schema.Finite).annotateKey({
    description: "Completed of all that ended by running; null when nothing has."
  }),
  response_time_mean_ms: Schema.NullOr(Schema.Finite).annotateKey({ description: "Mean duration of ended attempts." }),
  response_time_max_ms: Schema.NullOr(Schema.Finite).annotateKey({
    description: "Longest duration of an ended attempt."
  }),
  queue_depth: Schema.Int,
  running: Schema.Int,
  instances: Schema.Array(
    Schema.Struct({
      index: Schema.Int,
      epoch: Schema.Int,
      node: NodeName,
      status: Schema.String,
      heartbeat: Timestamp
    })
  )
}).annotate({ identifier: "AgentMetrics" })
export type AgentMetrics = typeof AgentMetrics.Type
