/**
 * The use cases of agents: define, change, steer and look at them. A change is committed with its event, then told to
 * all nodes; a node that misses the notice finds it by its sweep.
 */
import { Context, type Effect } from "effect"
import type { Agent, AgentMetrics, Capability, CreateAgent, ScaleAgent, UpdateAgent } from "../../protocol/Agent.ts"
import type { AgentRef } from "../../protocol/Ids.ts"
import type { Page } from "../../protocol/Page.ts"
import type { Principal } from "../../protocol/Permission.ts"
import type { AgentNotFound, Conflict, Forbidden, InvalidInput, Unavailable } from "../../protocol/Problem.ts"
import type { ListAgents } from "../../protocol/Query.ts"

type Change<A = Agent> = Effect.Effect<A, AgentNotFound | Conflict | InvalidInput | Forbidden | Unavailable, Principal>

export class Agents extends Context.Service<
  Agents,
  {
    /** `Conflict` (`name-taken`) when the namespace has an agent of that name; `InvalidInput` when its settings are wrong. */
    readonly create: (
      command: CreateAgent
    ) => Effect.Effect<Agent, Conflict | InvalidInput | Forbidden | Unavailable, Principal>
    readonly get: (ref: AgentRef) => Effect.Effect<Agent, AgentNotFound | Forbidden | Unavailable, Principal>
    readonly list: (query: ListAgents) => Effect.Effect<Page<Agent>, InvalidInput | Forbidden | Unavailable, Principal>
    /** `ifVersion`: change only this version of it, else `Conflict` (`version`). */
    readonly update: (ref: AgentRef, command: UpdateAgent, ifVersion: number | undefined) => Change
    readonly scale: (ref: AgentRef, command: ScaleAgent) => Change
    /** Stops its instances from starting tasks; queued work waits. */
    readonly pause: (ref: AgentRef) => Change
    /** Back to work, also out of `error`. */
    readonly resume: (ref: AgentRef) => Change
    /** Drains: takes nothing new, finishes what it has, then is `terminated`. With `force` its open tasks are cancelled. */
    readonly remove: (ref: AgentRef, options: { readonly force: boolean }) => Change
    readonly addCapability: (ref: AgentRef, capability: Capability) => Change
    readonly removeCapability: (ref: AgentRef, name: string) => Change
    readonly metrics: (ref: AgentRef) => Effect.Effect<AgentMetrics, AgentNotFound | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/Agents") {}
