/**
 * Owns the HTTP contract of the versions of an agent's definition: look, bring back, roll out.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Agent } from "../Agent.ts"
import { AgentVersion, AgentVersionNumber, AgentVersions, RollBackAgent, RollOutAgent } from "../AgentVersion.ts"
import { AgentRef } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { AgentNotFound, AgentVersionNotFound, Conflict } from "../Problem.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, IfMatch, prefix } from "./Wire.ts"

const params = { agent: AgentRef.annotate({ description: "Id or name of the agent." }) }
const headers = { "if-match": Schema.optionalKey(IfMatch) }
const versioned = { etag: "Version of the agent, for If-Match." }

const list = HttpApiEndpoint.get("list", "/agents/:agent/versions", {
  params,
  success: AgentVersions,
  error: AgentNotFound
}).annotateMerge(
  documented({
    summary: "Versions of an agent's definition",
    description: `Newest first, each with its figures; the ${Limits.agentVersionsMax} newest are kept.`
  })
)

const get = HttpApiEndpoint.get("get", "/agents/:agent/versions/:version", {
  params: {
    ...params,
    version: Schema.NumberFromString.pipe(Schema.decodeTo(AgentVersionNumber)).annotate({
      description: "A number of the agent's count; answered is the definition that was in force then."
    })
  },
  success: AgentVersion,
  error: [AgentNotFound, AgentVersionNotFound]
}).annotateMerge(documented({ summary: "A version of an agent's definition" }))

const rollBack = HttpApiEndpoint.post("rollBack", "/agents/:agent/rollback", {
  params,
  headers,
  payload: RollBackAgent,
  success: Agent,
  error: [AgentNotFound, AgentVersionNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Bring an earlier definition back",
    description: "Makes a new version with the definition of an old one; a roll-out under way ends by it.",
    answers: { 200: versioned }
  })
)

const rollOut = HttpApiEndpoint.post("rollOut", "/agents/:agent/rollout", {
  params,
  headers,
  payload: RollOutAgent,
  success: Agent,
  error: [AgentNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Change the share of a roll-out",
    description: "100 finishes it, 0 takes it back. It begins with `rollout` in a change of the agent.",
    answers: { 200: versioned }
  })
)

export class AgentVersionsApi extends HttpApiGroup.make("agentVersions")
  .add(list, get, rollBack, rollOut)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(
    OpenApi.annotations({ title: "Versions of agents", description: "What was in force, what is, and what shall be." })
  ) {}
