/** Port to stored limits, as far as accepting tasks needs them. */
import { Context, type Effect, Schema } from "effect"
import type { AgentId, LimitId, LimitName, Namespace } from "../../protocol/Ids.ts"

export class LimitStoreUnavailable extends Schema.TaggedError<LimitStoreUnavailable>()("LimitStoreUnavailable", {
  message: Schema.String
}) {}

/** A limit as the directory keeps it: to which tasks it applies, and how their key is read. */
export interface LimitRecord {
  readonly id: LimitId
  readonly namespace: Namespace
  readonly name: LimitName
  readonly agentId: AgentId | undefined
  readonly type: string | undefined
  readonly key: string
  readonly fairBy: string | undefined
}

export class LimitStore extends Context.Service<
  LimitStore,
  {
    /** Changes whenever a limit is made, changed or deleted. */
    readonly state: Effect.Effect<string, LimitStoreUnavailable>
    /** Limits of all namespaces. */
    readonly all: Effect.Effect<ReadonlyArray<LimitRecord>, LimitStoreUnavailable>
  }
>()("datamcp/actors/LimitStore") {}
