/**
 * Owns the HTTP contract of supervision: the tree of what runs where, and what is ordered of an instance.
 */
import { Schema, SchemaTransformation } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AgentRef } from "../Ids.ts"
import { AgentNotFound, Conflict } from "../Problem.ts"
import { InstanceIndex, InstanceOrder, ShowSupervision, SteerInstance, SupervisionTree } from "../Supervision.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, prefix } from "./Wire.ts"

/** An index in a path. */
const Index = Schema.String.check(Schema.isPattern(/^\d{1,3}$/u, { expected: "the number of an instance, such as 0" }))
  .annotate({ description: "Number of the instance, from 0." })
  .pipe(Schema.decodeTo(InstanceIndex, SchemaTransformation.transform({ decode: Number, encode: String })))

const params = { agent: AgentRef.annotate({ description: "Id or name of the agent." }), index: Index }

const show = HttpApiEndpoint.get("show", "/supervision", {
  query: ShowSupervision,
  success: SupervisionTree,
  error: AgentNotFound
}).annotateMerge(
  documented({
    summary: "The supervision tree",
    description:
      "Agents, newest first, each with its instances: where they are, what they do, how they crashed. Asks all nodes; " +
      "those that do not answer in time are `unreachable`. With a filter a page may hold fewer agents than there are " +
      "on the next ones, even none: go on while there is a `next_cursor`."
  })
)

const steer = <const Name extends string>(name: Name, summary: string, description: string) =>
  HttpApiEndpoint.post(name, `/agents/:agent/instances/:index/${name}` as const, {
    params,
    payload: SteerInstance,
    success: InstanceOrder,
    error: [AgentNotFound, Conflict, ...BodyProblem]
  }).annotateMerge(documented({ summary, description }))

const restart = steer(
  "restart",
  "Restart an instance",
  "What it runs is given back without using an attempt, and it starts anew, wherever it is. 409 when its agent is not " +
    "active or the instance is quarantined."
)
const quarantine = steer(
  "quarantine",
  "Quarantine an instance",
  "What it runs is given back, and it takes nothing until it is released, also after its node has restarted or it has moved."
)
const release = steer("release", "Release an instance", "Back to work after a quarantine.")

export class SupervisionApi extends HttpApiGroup.make("supervision")
  .add(show, restart, quarantine, release)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(
    OpenApi.annotations({ title: "Supervision", description: "Which instance runs where, and how it does." })
  ) {}
