/**
 * Owns what is said about the versions of an agent's definition: which there are, how each did, and the commands that bring
 * one back or give a new one a larger share.
 *
 * A version is a number of the agent's own count, which goes on with every change; only some of them bring a definition.
 */
import { Schema } from "effect"
import { Agent } from "./Agent.ts"
import { Timestamp } from "./Task.ts"

/** A version by its number. */
export const AgentVersionNumber = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_147_483_647 }))

/** View: what a version is made of. How many instances run is no part of it. */
export const AgentDefinition = Schema.Struct({
  description: Schema.NullOr(Schema.String),
  capabilities: Agent.fields.capabilities,
  configuration: Agent.fields.configuration,
  labels: Agent.fields.labels,
  metadata: Agent.fields.metadata
}).annotate({ identifier: "AgentDefinition" })
export type AgentDefinition = typeof AgentDefinition.Type

const rate = Schema.NullOr(Schema.Finite)

/** View: how tasks ended that ran under a version, from recorded ends. What was ended from outside counts for none. */
export const VersionFigures = Schema.Struct({
  completed: Schema.Int,
  failed: Schema.Int,
  timed_out: Schema.Int,
  attempts: Schema.Int.annotateKey({ description: "Ended ones, retried ones included." }),
  success_rate: rate.annotateKey({ description: "Completed of all that ended by running; null when nothing has." }),
  response_time_mean_ms: rate.annotateKey({ description: "Mean duration of ended attempts." }),
  response_time_max_ms: rate.annotateKey({ description: "Longest duration of an ended attempt." })
}).annotate({ identifier: "VersionFigures" })
export type VersionFigures = typeof VersionFigures.Type

const summary = {
  version: Schema.Int,
  created_at: Timestamp,
  actor: Schema.NullOr(Schema.String).annotateKey({ description: "Who brought it: `key:<id>`." }),
  restores: Schema.NullOr(Schema.Int).annotateKey({ description: "The version that it brought back." }),
  share_percent: Schema.Int.annotateKey({ description: "Share of new tasks that run under it now." }),
  figures: VersionFigures
}

/** View: a version without its definition, as lists show it. */
export const AgentVersionSummary = Schema.Struct(summary).annotate({ identifier: "AgentVersionSummary" })
export type AgentVersionSummary = typeof AgentVersionSummary.Type

/** View: a version of an agent's definition. */
export const AgentVersion = Schema.Struct({ ...summary, definition: AgentDefinition }).annotate({
  identifier: "AgentVersion"
})
export type AgentVersion = typeof AgentVersion.Type

/** View: the versions that are kept, newest first. */
export const AgentVersions = Schema.Struct({ data: Schema.Array(AgentVersionSummary) }).annotate({
  identifier: "AgentVersions"
})
export type AgentVersions = typeof AgentVersions.Type

/** Command: make a new version with the definition of an old one. */
export const RollBackAgent = Schema.Struct({ version: AgentVersionNumber }).annotate({ identifier: "RollBackAgent" })
export type RollBackAgent = typeof RollBackAgent.Type

/** Command: change the share of a roll-out. 100 finishes it, 0 takes it back. */
export const RollOutAgent = Schema.Struct({
  percent: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 })).annotate({
    description: "Share of new tasks that get the new version: 100 finishes the roll-out, 0 takes it back."
  })
}).annotate({ identifier: "RollOutAgent" })
export type RollOutAgent = typeof RollOutAgent.Type
