/**
 * Owns the HTTP contract of nodes: see them, drain them, take that back.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { NodeName } from "../Ids.ts"
import { Node, NodeList } from "../Node.ts"
import { Conflict, NodeNotFound } from "../Problem.ts"
import { Authentication } from "./Authentication.ts"
import { documented, prefix } from "./Wire.ts"

const params = { node: NodeName }

const list = HttpApiEndpoint.get("list", "/nodes", { success: NodeList }).annotateMerge(
  documented({
    summary: "List nodes",
    description:
      "Those that are there, and those that have gone within the last hour, by name. Needs `node:read` of the namespace `default`."
  })
)

const get = HttpApiEndpoint.get("get", "/nodes/:node", {
  params,
  success: Node,
  error: NodeNotFound
}).annotateMerge(documented({ summary: "Get a node" }))

const drain = HttpApiEndpoint.post("drain", "/nodes/:node/drain", {
  params,
  success: Node,
  error: [NodeNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Drain a node",
    description:
      "Within 2 s it is not ready any more, hands its instances over and gives back what they run, without using an attempt. " +
      "It answers requests until it is stopped. Holds for later processes by its name too. Needs `node:drain` of the namespace `default`."
  })
)

const undrain = HttpApiEndpoint.post("undrain", "/nodes/:node/undrain", {
  params,
  success: Node,
  error: NodeNotFound
}).annotateMerge(
  documented({ summary: "Take a drain back", description: "Within 2 s it is ready and takes its share again." })
)

export class NodesApi extends HttpApiGroup.make("nodes")
  .add(list, get, drain, undrain)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Nodes", description: "The processes that make up the platform." })) {}
