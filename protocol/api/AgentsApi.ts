/**
 * Owns the HTTP contract of agents: define, change, steer, look.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Agent, AgentMetrics, Capability, CreateAgent, ScaleAgent, UpdateAgent } from "../Agent.ts"
import { AgentRef, TaskType } from "../Ids.ts"
import { Page } from "../Page.ts"
import { AgentNotFound, Conflict } from "../Problem.ts"
import { ListAgents } from "../Query.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, Flag, IfMatch, prefix } from "./Wire.ts"

const params = { agent: AgentRef.annotate({ description: "Id or name of the agent." }) }
const change = [AgentNotFound, Conflict] as const
const changeByBody = [...change, ...BodyProblem] as const
const versioned = { etag: "Version of the agent, for If-Match." }

const create = HttpApiEndpoint.post("create", "/agents", {
  payload: CreateAgent,
  success: Agent.pipe(HttpApiSchema.status(201)),
  error: [Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Define an agent",
    description: "409 with reason `name-taken` when the namespace has one of that name.",
    answers: { 201: { location: "Path of the agent.", ...versioned } }
  })
)

const list = HttpApiEndpoint.get("list", "/agents", {
  query: ListAgents,
  success: Page(Agent)
}).annotateMerge(documented({ summary: "List agents", description: "Newest first, by cursor." }))

const get = HttpApiEndpoint.get("get", "/agents/:agent", {
  params,
  success: Agent,
  error: AgentNotFound
}).annotateMerge(documented({ summary: "Get an agent", answers: { 200: versioned } }))

const update = HttpApiEndpoint.put("update", "/agents/:agent", {
  params,
  headers: { "if-match": Schema.optionalKey(IfMatch) },
  payload: UpdateAgent,
  success: Agent,
  error: changeByBody
}).annotateMerge(
  documented({
    summary: "Change an agent",
    description:
      "Replaces the parts that are given. With `If-Match` only that version is changed; otherwise 409 with reason " +
      "`version` and `current_version`.",
    answers: { 200: versioned }
  })
)

const remove = HttpApiEndpoint.delete("remove", "/agents/:agent", {
  params,
  query: {
    force: Schema.optionalKey(Flag.annotate({ description: "Cancel its open tasks instead of finishing them." }))
  },
  success: Agent.pipe(HttpApiSchema.status(202)),
  error: change
}).annotateMerge(
  documented({
    summary: "Delete an agent",
    description: "It takes nothing new, finishes what it has, then is `terminated`.",
    answers: { 202: versioned }
  })
)

const scale = HttpApiEndpoint.post("scale", "/agents/:agent/scale", {
  params,
  payload: ScaleAgent,
  success: Agent,
  error: changeByBody
}).annotateMerge(documented({ summary: "Set how many instances shall run", answers: { 200: versioned } }))

const pause = HttpApiEndpoint.post("pause", "/agents/:agent/pause", {
  params,
  success: Agent,
  error: change
}).annotateMerge(
  documented({
    summary: "Pause an agent",
    description: "Its instances start no more tasks; queued work waits.",
    answers: { 200: versioned }
  })
)

const resume = HttpApiEndpoint.post("resume", "/agents/:agent/resume", {
  params,
  success: Agent,
  error: change
}).annotateMerge(
  documented({
    summary: "Resume an agent",
    description: "Back to work, also out of `error`.",
    answers: { 200: versioned }
  })
)

const addCapability = HttpApiEndpoint.post("addCapability", "/agents/:agent/capabilities", {
  params,
  payload: Capability,
  success: Agent,
  error: changeByBody
}).annotateMerge(documented({ summary: "Add or replace a capability", answers: { 200: versioned } }))

const removeCapability = HttpApiEndpoint.delete("removeCapability", "/agents/:agent/capabilities/:name", {
  params: { ...params, name: TaskType },
  success: Agent,
  error: change
}).annotateMerge(documented({ summary: "Remove a capability", answers: { 200: versioned } }))

const metrics = HttpApiEndpoint.get("metrics", "/agents/:agent/metrics", {
  params,
  success: AgentMetrics,
  error: AgentNotFound
}).annotateMerge(documented({ summary: "Figures of an agent", description: "From recorded ends, not from samples." }))

export class AgentsApi extends HttpApiGroup.make("agents")
  .add(create, list, get, update, remove, scale, pause, resume, addCapability, removeCapability, metrics)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Agents", description: "Who does the work." })) {}
