/**
 * Owns the HTTP contract of graphs: tasks that are accepted together and name each other.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { GraphId } from "../Ids.ts"
import { Page } from "../Page.ts"
import { Conflict, GraphNotFound, SubmitProblem } from "../Problem.ts"
import { PageQuery } from "../Query.ts"
import { PauseTask } from "../Signal.ts"
import { AcceptedGraph, Graph, GraphSummary, SubmitGraph } from "../Task.ts"
import { Authentication } from "./Authentication.ts"
import { CancelTask } from "./TasksApi.ts"
import { BodyProblem, RequestTimeout, UnsupportedMediaType } from "./TransportProblem.ts"
import { documented, prefix, SubmitHeaders, Wait } from "./Wire.ts"

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
  query: { wait: Schema.optionalKey(Wait) },
  success: Graph,
  error: GraphNotFound
}).annotateMerge(
  documented({
    summary: "Get a graph",
    description:
      "The graph, its counts, and the state of its tasks. With `wait` the answer comes when all of it has ended, elements " +
      "of maps too, or as it stands when the wait is over: look at `ended`."
  })
)

const list = HttpApiEndpoint.get("list", "/graphs", {
  query: PageQuery,
  success: Page(GraphSummary)
}).annotateMerge(
  documented({ summary: "List graphs", description: "Newest first, by cursor, each with its tasks counted by status." })
)

const cancel = HttpApiEndpoint.post("cancel", "/graphs/:id/cancel", {
  params: { id: GraphId },
  payload: CancelTask,
  success: Graph,
  error: [GraphNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Cancel a graph",
    description:
      "Ends all of it that has not ended as `cancelled`. The answer means that this is recorded and will be carried " +
      "through; it shows the graph as it stands. 409 when all of it has ended already."
  })
)

const pause = HttpApiEndpoint.post("pause", "/graphs/:id/pause", {
  params: { id: GraphId },
  payload: PauseTask,
  success: Graph,
  error: [GraphNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Pause a graph",
    description:
      "Sets all of it aside that has not ended: nothing of it starts until it is resumed. What runs is interrupted, and the " +
      "attempt does not count; what runs and may run at most once ends by itself. Repeat the call if it is not answered. " +
      "409 when all of it has ended or is being cancelled."
  })
)

const resume = HttpApiEndpoint.post("resume", "/graphs/:id/resume", {
  params: { id: GraphId },
  success: Graph,
  error: [GraphNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Resume a paused graph",
    description:
      "Each task becomes what it would be now; one that was set aside by itself before stays so. 409 when the graph is not paused."
  })
)

const retry = HttpApiEndpoint.post("retry", "/graphs/:id/retry", {
  params: { id: GraphId },
  headers: SubmitHeaders,
  success: AcceptedGraph.pipe(HttpApiSchema.status(202)),
  error: [...SubmitProblem, GraphNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Retry a graph that has ended",
    description:
      "Runs what did not complete once more, as a graph of its own that links back by `retry_of`. Completed tasks are " +
      "taken over, completed elements of maps too. 409 when all completed, or some still live. With an `Idempotency-Key` a " +
      "repeat gives the first answer again.",
    answers: { 202: { location: "Path of the new graph." } }
  })
)

export class GraphsApi extends HttpApiGroup.make("graphs")
  .add(submit, list, get, cancel, pause, resume, retry)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Graphs", description: "Tasks that name each other." })) {}
