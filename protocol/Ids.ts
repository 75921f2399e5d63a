/**
 * Owns the grammar of every identifier that appears on the wire, in SQL and in NATS subjects.
 *
 * Invariant: a value that decodes here is safe as one NATS subject token and as one URL path segment.
 * Names of namespaces and agents follow the same grammar, so `*`, `>`, `.` and white space are refused at the edge.
 */
import { Schema } from "effect"

/** What one NATS subject token may hold (letters, digits, `_`, `-`; 1 to 64 characters). */
export const tokenPattern = /^[A-Za-z0-9_-]{1,64}$/u

const token = (what: string) =>
  Schema.String.check(
    Schema.isPattern(tokenPattern, {
      expected: `${what} of 1 to 64 letters, digits, "_" or "-"`
    })
  )

const uuid = (what: string) =>
  Schema.String.check(
    Schema.isPattern(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u, {
      expected: `the lower-case UUID of ${what}`
    })
  )

/** UUIDv7 of a task (RFC 9562). */
export const TaskId = uuid("a task").pipe(Schema.brand("TaskId"))
export type TaskId = typeof TaskId.Type

/** UUIDv7 of an agent. */
export const AgentId = uuid("an agent").pipe(Schema.brand("AgentId"))
export type AgentId = typeof AgentId.Type

/** UUIDv7 of a graph: tasks that were accepted together and name each other. */
export const GraphId = uuid("a graph").pipe(Schema.brand("GraphId"))
export type GraphId = typeof GraphId.Type

/** UUIDv7 of a stored artifact. */
export const ArtifactId = uuid("an artifact").pipe(Schema.brand("ArtifactId"))
export type ArtifactId = typeof ArtifactId.Type

/** UUIDv7 of a schedule. */
export const ScheduleId = uuid("a schedule").pipe(Schema.brand("ScheduleId"))
export type ScheduleId = typeof ScheduleId.Type

/** Name of a schedule, unique in its namespace. */
export const ScheduleName = token("a name").pipe(Schema.brand("ScheduleName"))
export type ScheduleName = typeof ScheduleName.Type

/** A schedule's id or its name: both are accepted wherever a schedule is referred to. */
export const ScheduleRef = token("a schedule id or name")
export type ScheduleRef = typeof ScheduleRef.Type

/** UUIDv7 of a webhook: an endpoint that is told of events. */
export const WebhookId = uuid("a webhook").pipe(Schema.brand("WebhookId"))
export type WebhookId = typeof WebhookId.Type

/** UUIDv7 of a delivery of a webhook; the header `webhook-id`. */
export const DeliveryId = uuid("a delivery").pipe(Schema.brand("DeliveryId"))
export type DeliveryId = typeof DeliveryId.Type

/** UUIDv7 of a hook: an address that submits tasks. */
export const HookId = uuid("a hook").pipe(Schema.brand("HookId"))
export type HookId = typeof HookId.Type

/** Name of a webhook or hook, unique in its namespace among its kind. */
export const HookName = token("a name").pipe(Schema.brand("HookName"))
export type HookName = typeof HookName.Type

/** UUIDv7 of an action on many tasks. */
export const OperationId = uuid("an operation").pipe(Schema.brand("OperationId"))
export type OperationId = typeof OperationId.Type

/** Public part of an API key: it names the key and grants nothing. */
export const ApiKeyId = Schema.String.check(
  Schema.isPattern(/^[a-z0-9]{16}$/u, { expected: "the 16 characters of an API key's id" })
).pipe(Schema.brand("ApiKeyId"))
export type ApiKeyId = typeof ApiKeyId.Type

/** The wall between tenants. */
export const Namespace = token("a namespace").pipe(Schema.brand("Namespace"))
export type Namespace = typeof Namespace.Type

/** Name of an agent, unique in its namespace. */
export const AgentName = token("a name").pipe(Schema.brand("AgentName"))
export type AgentName = typeof AgentName.Type

/** An agent's id or its name: both are accepted wherever an agent is referred to. */
export const AgentRef = token("an agent id or name")
export type AgentRef = typeof AgentRef.Type

/** UUIDv7 of a limit. */
export const LimitId = uuid("a limit").pipe(Schema.brand("LimitId"))
export type LimitId = typeof LimitId.Type

/** Name of a limit, unique in its namespace. */
export const LimitName = token("a name").pipe(Schema.brand("LimitName"))
export type LimitName = typeof LimitName.Type

/** A limit's id or its name. */
export const LimitRef = token("a limit's id or name")
export type LimitRef = typeof LimitRef.Type

/** Name of a task within its graph. */
export const GraphKey = token("a task key")
export type GraphKey = typeof GraphKey.Type

/** Name of a signal, chosen by who awaits it. */
export const SignalName = token("the name of a signal")
export type SignalName = typeof SignalName.Type

/** Name of a stream of chunks, chosen by who emits them. */
export const StreamName = token("the name of a stream")
export type StreamName = typeof StreamName.Type

/** Kind of work, equal to the name of a capability, with an optional version: `http.fetch`, `http.fetch@1`. */
export const TaskType = Schema.String.check(
  Schema.isPattern(/^[a-z][a-z0-9_.-]{0,63}(@[0-9]{1,9})?$/u, {
    expected: "a task type such as http.fetch or http.fetch@1 (at most 64 characters before the version)"
  })
)
export type TaskType = typeof TaskType.Type

/** The name of the node that runs a process: its place in leases, logs and events. */
export const NodeName = token("a node name").pipe(Schema.brand("NodeName"))
export type NodeName = typeof NodeName.Type
