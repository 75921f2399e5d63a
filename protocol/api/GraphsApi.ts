/**
 * Owns the HTTP contract of graphs: tasks that are accepted together and name each other.
 */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { GraphId } from "../Ids.ts"
import { GraphNotFound, SubmitProblem } from "../Problem.ts"
import { AcceptedGraph, Graph, SubmitGraph } from "../Task.ts"
import { Authentication } from "./Authentication.ts"
import { RequestTimeout, UnsupportedMediaType } from "./TransportProblem.ts"
import { documented, prefix, SubmitHeaders } from "./Wire.ts"

const submit = HttpApiEndpoint.post("submit", "/graphs", {
  headers: SubmitHeaders,
  payload: SubmitGraph,
  success: AcceptedGraph.pipe(HttpApiSchema.status(202)),
  error: [...SubmitProblem, UnsupportedMediaType, RequestTimeout]
}).annotateMerge(
  documented({
    summary: "Submit a graph",
    description: "Accepts tasks that name each other by key, all or none. Cycles and unknown keys are refused.",
    answers: { 202: { location: "Path of the graph." } }
  })
)

const get = HttpApiEndpoint.get("get", "/graphs/:id", {
  params: { id: GraphId },
  success: Graph,
  error: GraphNotFound
}).annotateMerge(
  documented({ summary: "Get a graph", description: "The graph, its counts, and the state of its tasks." })
)

export class GraphsApi extends HttpApiGroup.make("graphs")
  .add(submit, get)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Graphs", description: "Tasks that name each other." })) {}
