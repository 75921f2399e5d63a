/**
 * Owns what is said about behaviours: the code that agents of a type run.
 */
import { Schema } from "effect"
import { AgentType, Capability } from "./Agent.ts"

/** View: a behaviour that the node which answers can run. */
export const Behaviour = Schema.Struct({
  type: AgentType,
  description: Schema.String,
  capabilities: Schema.Array(Capability),
  built_in: Schema.Boolean.annotateKey({ description: "Part of datamcp; the others are modules of its operator." }),
  isolated: Schema.Boolean.annotateKey({
    description: "Its attempts run in processes of their own; `configuration.isolation` of an agent bounds them."
  }),
  idempotent: Schema.Boolean.annotateKey({ description: "Running one of its tasks twice does no harm." })
}).annotate({ identifier: "Behaviour" })
export type Behaviour = typeof Behaviour.Type

export const BehaviourList = Schema.Struct({ data: Schema.Array(Behaviour) }).annotate({ identifier: "BehaviourList" })
export type BehaviourList = typeof BehaviourList.Type
