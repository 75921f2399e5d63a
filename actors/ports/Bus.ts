/**
 * Port to the transport. Nothing that goes over it is the truth: every message may be lost, doubled or late, and the
 * ledger heals it. No operation here fails for want of a server; what cannot be sent is dropped and counted.
 */
import { Context, type Duration, type Effect, Schema, type Scope } from "effect"
import type { Chunk } from "../../protocol/Chunk.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { Event } from "../../protocol/Event.ts"
import type { AgentId, Namespace, NodeName, TaskId } from "../../protocol/Ids.ts"
import type { Notice } from "../../protocol/Notice.ts"
import type { HostedInstance, SupervisionQuestion } from "../../protocol/Supervision.ts"
import type { TaskPriority } from "../../protocol/Task.ts"

export class BusUnavailable extends Schema.TaggedError<BusUnavailable>()("BusUnavailable", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `the bus cannot ${this.operation}: ${this.cause instanceof Error ? this.cause.message : String(this.cause)}`
  }
}

/** One dispatch message in the hands of an instance. */
export interface Delivery {
  readonly orders: ReadonlyArray<TaskOrder>
  /** To be called once the claim of every order has been decided. Fire and forget. */
  readonly ack: () => void
  /** Tells the server that the message is still being worked on; call it at least every third of `ackWait`. */
  readonly working: () => void
}

/** Events of one commit: published together, per namespace and kind. */
export type EventBatch = ReadonlyArray<Event>

export class Bus extends Context.Service<
  Bus,
  {
    /** False while the connection to the server is down. */
    readonly connected: () => boolean
    /**
     * Publishes orders to their agents' subjects: one message per agent and lane (more where a bound is passed).
     * `tasksMax` bounds the orders of one message per agent. Returns once handed to the connection; acknowledgements
     * are awaited in the background, repeated a bounded number of times, then given up and counted.
     */
    readonly dispatch: (
      orders: ReadonlyArray<{ readonly agentId: AgentId; readonly tasksMax: number; readonly order: TaskOrder }>
    ) => Effect.Effect<void>
    /**
     * Consumes one lane of an agent through a consumer that all its instances share (made if missing, in memory).
     * `onDelivery` is called on arrival and must not block; at most `prefetch` messages are unacknowledged at a time.
     * Ends by failing when the consumer or stream is gone; by interruption otherwise.
     */
    readonly consume: (options: {
      readonly namespace: Namespace
      readonly agentId: AgentId
      readonly lane: TaskPriority
      readonly prefetch: number
      readonly onDelivery: (delivery: Delivery) => void
    }) => Effect.Effect<never, BusUnavailable>
    /** Hints to all nodes, this one included. */
    readonly notify: (notice: Notice) => Effect.Effect<void>
    readonly onNotice: (handler: (notice: Notice) => void) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Asks all nodes what they run of some agents: what each that answered has, until all of `expected` have or `within` has
     * passed. While the bus is down this node alone answers. Others that answer in time are heard too.
     */
    readonly survey: (
      question: SupervisionQuestion,
      options: { readonly expected: ReadonlySet<NodeName>; readonly within: Duration.Duration }
    ) => Effect.Effect<ReadonlyMap<NodeName, ReadonlyArray<HostedInstance>>>
    /** Answers surveys as `node` while the scope is open. The handler must not block. */
    readonly onSurvey: (
      node: NodeName,
      handler: (question: SupervisionQuestion) => ReadonlyArray<HostedInstance>
    ) => Effect.Effect<void, never, Scope.Scope>
    /** Publishes recorded events. Returns at once. */
    readonly publishEvents: (events: EventBatch) => Effect.Effect<void>
    /**
     * Hears the recorded events of a namespace from all nodes, while the scope is open. Messages are decoded only
     * while somebody listens to their namespace.
     */
    readonly onEvents: (
      namespace: Namespace,
      handler: (events: EventBatch) => void
    ) => Effect.Effect<void, never, Scope.Scope>
    /** Publishes chunks of one task that were written. Returns at once; lost without harm, because they are numbered. */
    readonly publishChunks: (namespace: Namespace, chunks: ReadonlyArray<Chunk>) => Effect.Effect<void>
    /** Hears the chunks of one task from all nodes, while the scope is open. */
    readonly onChunks: (
      of: { readonly namespace: Namespace; readonly taskId: TaskId },
      handler: (chunks: ReadonlyArray<Chunk>) => void
    ) => Effect.Effect<void, never, Scope.Scope>
  }
>()("datamcp/actors/Bus") {}
