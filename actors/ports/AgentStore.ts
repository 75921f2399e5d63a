/**
 * Port to stored agent definitions, as far as actors need them: to fill the directory, to keep it fresh, and to record
 * that an agent was quarantined or has drained.
 */
import { Context, type Effect, Schema } from "effect"
import type { AgentConfiguration, Capability } from "../../protocol/Agent.ts"
import type { AgentId, AgentName, AgentRef, Namespace, NodeName } from "../../protocol/Ids.ts"
import type { Crash } from "../../protocol/Supervision.ts"
import type { InstanceOrders } from "../InstanceOrders.ts"

export class AgentStoreUnavailable extends Schema.TaggedError<AgentStoreUnavailable>()("AgentStoreUnavailable", {
  message: Schema.String
}) {}

/** What runs of an agent under one version of its definition. */
export interface Definition {
  /** The version of the agent that brought it. */
  readonly version: number
  readonly configuration: AgentConfiguration
}

/** An agent as the directory keeps it. */
export interface AgentRecord {
  readonly id: AgentId
  readonly namespace: Namespace
  readonly name: AgentName
  readonly type: string
  readonly capabilities: ReadonlyArray<Capability>
  readonly configuration: AgentConfiguration
  readonly status: "active" | "maintenance" | "error" | "terminated"
  readonly draining: boolean
  readonly desiredInstances: number
  readonly version: number
  /** The version that brought `configuration`; 1 for one that never changed. */
  readonly definitionVersion: number
  /** While `configuration` is rolled out: the share of tasks that it gets, and what the others run under. */
  readonly rollout: { readonly percent: number; readonly base: Definition } | undefined
  /** What is ordered of its instances; undefined when nothing ever was. */
  readonly instanceOrders?: InstanceOrders | undefined
}

/** An instance and its node, of which a supervisor reports. */
export interface Reported {
  readonly agentId: AgentId
  readonly index: number
  readonly node: NodeName
}

export class AgentStore extends Context.Service<
  AgentStore,
  {
    /** Agents that are not terminated, in order of id, after `after`. */
    readonly page: (
      after: AgentId | undefined,
      limit: number
    ) => Effect.Effect<ReadonlyArray<AgentRecord>, AgentStoreUnavailable>
    /**
     * All agents, terminated ones included, that changed since a moment; and the moment to ask from next time, which lies
     * before every change that may still be uncommitted. Without a moment: none, and the moment to start from.
     */
    readonly changedSince: (
      at: string | undefined,
      limit: number
    ) => Effect.Effect<{ readonly agents: ReadonlyArray<AgentRecord>; readonly now: string }, AgentStoreUnavailable>
    readonly byId: (id: AgentId) => Effect.Effect<AgentRecord | undefined, AgentStoreUnavailable>
    /** By id or name within a namespace; terminated ones are not found. */
    readonly find: (
      namespace: Namespace,
      ref: AgentRef
    ) => Effect.Effect<AgentRecord | undefined, AgentStoreUnavailable>
    /** An agent of the namespace that can do a type, when there is one. */
    readonly withCapability: (
      namespace: Namespace,
      type: string
    ) => Effect.Effect<ReadonlyArray<AgentRecord>, AgentStoreUnavailable>
    /** `active` or `maintenance` to `error`, with the reason and its event, which names the instance that escalated. */
    readonly quarantine: (of: Reported, reason: string) => Effect.Effect<void, AgentStoreUnavailable>
    /** Orders that all other instances of an active agent start anew, with its event. None when it has no others. */
    readonly restartOthers: (of: Reported, crash: Crash) => Effect.Effect<void, AgentStoreUnavailable>
    /** Adds to what is known of an instance's crashes. */
    readonly noteCrashes: (
      of: Reported,
      crashes: { readonly restarts: number; readonly taskCrashes: number; readonly last: Crash }
    ) => Effect.Effect<void, AgentStoreUnavailable>
    /** Draining agents without open tasks become `terminated`. Returns how many. */
    readonly finishDrained: (limit: number) => Effect.Effect<number, AgentStoreUnavailable>
  }
>()("datamcp/actors/AgentStore") {}
