/**
 * Owns recorded facts. An event is written in the transaction of the change it records.
 *
 * Invariant: `number` counts an aggregate's events from 1 without gaps. Readers resume by it; after commit events also
 * travel on NATS, several in one message, where loss and doubling are harmless because the number tells.
 */
import { Schema } from "effect"
import { Namespace } from "./Ids.ts"
import { Timestamp } from "./Task.ts"

export const taskEventTypes = [
  "TaskCreated",
  "TaskQueued",
  "TaskStarted",
  "TaskProgressed",
  "TaskPaused",
  "TaskResumed",
  "TaskSignalled",
  "TaskRetried",
  "TaskCompleted",
  "TaskFailed",
  "TaskTimedOut",
  "TaskCancelled",
  "TaskMoved",
  "TaskUpdated",
  "TaskResultExpired"
] as const

export const agentEventTypes = [
  "AgentCreated",
  "AgentStatusChanged",
  "AgentCapabilityAdded",
  "AgentScaled",
  "AgentUpdated",
  "AgentInstancesRestarted",
  "AgentInstanceQuarantined",
  "AgentInstanceReleased"
] as const

export const scheduleEventTypes = [
  "ScheduleCreated",
  "ScheduleUpdated",
  "SchedulePaused",
  "ScheduleResumed",
  "ScheduleDeleted",
  "ScheduleFired",
  "ScheduleSkipped",
  "ScheduleRefused"
] as const

export const webhookEventTypes = [
  "WebhookCreated",
  "WebhookUpdated",
  "WebhookEnabled",
  "WebhookDisabled",
  "WebhookDeleted",
  "HookCreated",
  "HookUpdated",
  "HookDeleted"
] as const

export const EventType = Schema.Literals([
  ...taskEventTypes,
  ...agentEventTypes,
  ...scheduleEventTypes,
  ...webhookEventTypes
])
export type EventType = typeof EventType.Type

/** Those after which the state of a task never changes; its result may still expire. */
export const isEnd = (type: EventType) =>
  type === "TaskCompleted" || type === "TaskFailed" || type === "TaskTimedOut" || type === "TaskCancelled"

export const EventKind = Schema.Literals(["task", "agent", "schedule", "webhook", "hook"])
export type EventKind = typeof EventKind.Type

export const Event = Schema.Struct({
  type: EventType,
  kind: EventKind.annotateKey({ description: "Of what the event is." }),
  aggregate: Schema.String.annotateKey({ description: "Id of the task, agent, schedule, webhook or hook." }),
  number: Schema.Int,
  at: Timestamp,
  namespace: Namespace,
  actor: Schema.NullOr(Schema.String).annotateKey({
    description: "Who caused it: `key:<id>`, `hook:<id>` or `node:<name>`."
  }),
  trace: Schema.NullOr(Schema.String).annotateKey({ description: "W3C trace id of the request that caused it." }),
  data: Schema.Json
}).annotate({ identifier: "Event" })
export type Event = typeof Event.Type
