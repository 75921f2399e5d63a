/**
 * Owns the contract of the NATS micro service `datamcp`: which endpoints there are, what each is asked and answers, and
 * with which problems it refuses. Server, AsyncAPI document, protocol text and discovery are made from this table.
 *
 * A request and its answer hold the same JSON as over HTTP; what HTTP says in path and query stands in the request here.
 */
import { Schema } from "effect"
import { Agent, AgentMetrics, CreateAgent, ScaleAgent, UpdateAgent } from "../Agent.ts"
import { BatchOutcome, EventPage } from "../api/TasksApi.ts"
import { InternalError, MalformedRequest, RouteNotFound } from "../api/TransportProblem.ts"
import { AgentRef, GraphId, TaskId } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { Page } from "../Page.ts"
import {
  AgentNotFound,
  Conflict,
  Forbidden,
  GraphNotFound,
  IdempotencyMismatch,
  InvalidInput,
  Overloaded,
  TaskNotFound,
  TooLarge,
  Unauthenticated,
  Unavailable
} from "../Problem.ts"
import { ListAgents, ListTasks, PageQuery } from "../Query.ts"
import { AcceptedGraph, AcceptedTask, Graph, GraphSummary, SubmitGraph, SubmitTask, Task } from "../Task.ts"

/** What every endpoint may answer instead. */
export const commonProblems = [
  MalformedRequest,
  Unauthenticated,
  Forbidden,
  TooLarge,
  InvalidInput,
  Overloaded,
  InternalError,
  Unavailable
] as const

/** What a subject without an endpoint answers. */
export const unknownEndpoint = RouteNotFound

export type ServiceProblem =
  | InstanceType<(typeof commonProblems)[number]>
  | RouteNotFound
  | TaskNotFound
  | GraphNotFound
  | AgentNotFound
  | Conflict
  | IdempotencyMismatch

type ProblemClass =
  | (typeof commonProblems)[number]
  | typeof TaskNotFound
  | typeof GraphNotFound
  | typeof AgentNotFound
  | typeof Conflict
  | typeof IdempotencyMismatch

type Decodable = Schema.ConstraintDecoder<unknown>

interface Definition<Request extends Schema.Top, Read extends Decodable, Answer extends Schema.Top> {
  readonly group: "tasks" | "graphs" | "agents"
  readonly verb: string
  readonly summary: string
  readonly request: Request
  /** What of the request is checked before the use case sees it: all of it, but for batches, whose items fail on their own. */
  readonly read: Read
  readonly answer: Answer
  /** Beside `commonProblems`. */
  readonly problems: ReadonlyArray<ProblemClass>
  /** Largest request in bytes; nats-server's own `max_payload` may be lower. */
  readonly bytesMax: number
  /** Whether the header `Idempotency-Key` means something. */
  readonly takesKey: boolean
  /** Whether it may be held open until something happens; such requests have a bound of their own. */
  readonly holds: boolean
}

type Given<Request extends Schema.Top, Answer extends Schema.Top> = Pick<
  Definition<Request, Decodable, Answer>,
  "summary" | "request" | "answer"
> &
  Partial<Pick<Definition<Request, Decodable, Answer>, "problems" | "bytesMax" | "takesKey" | "holds">>

const endpointReading = <Request extends Schema.Top, Read extends Decodable, Answer extends Schema.Top>(
  group: "tasks" | "graphs" | "agents",
  verb: string,
  read: Read,
  given: Given<Request, Answer>
): Definition<Request, Read, Answer> => ({
  problems: [],
  bytesMax: Limits.bodyBytesMax,
  takesKey: false,
  holds: false,
  ...given,
  read,
  group,
  verb
})

const endpoint = <Request extends Schema.Top & Decodable, Answer extends Schema.Top>(
  group: "tasks" | "graphs" | "agents",
  verb: string,
  given: Given<Request, Answer>
) => endpointReading(group, verb, given.request, given)

/** A batch: the tasks alone, or with a flag that makes it all or none. */
const batchOf = <S extends Schema.Top>(tasks: S) =>
  Schema.Union([tasks, Schema.Struct({ tasks, atomic: Schema.optionalKey(Schema.Boolean) })])

const SubmitBatch = batchOf(Schema.Array(SubmitTask).check(Schema.isBetweenLength(1, Limits.batchTasksMax))).annotate({
  identifier: "SubmitBatch"
})

/** How long `tasks.wait` waits when the request does not say, in milliseconds. */
export const waitMillisDefault = 30_000

const waits = {
  timeout_ms: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.waitMillisMax })).annotate({
      description: `Longest wait in milliseconds; ${waitMillisDefault} when absent.`
    })
  )
}

const reason = Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax)))
const tree = Schema.optionalKey(Schema.Boolean.annotate({ description: "All tasks below it too (`parent_id`)." }))

const ofTask = { id: TaskId }
const ofGraph = { id: GraphId }
const ofAgent = { agent: AgentRef }
const submits = { takesKey: true, problems: [IdempotencyMismatch] } as const

export const endpoints = {
  "tasks.submit": endpoint("tasks", "submit", {
    ...submits,
    summary: "Accept a task. The answer means that it is committed.",
    request: SubmitTask,
    answer: AcceptedTask
  }),
  "tasks.batch": endpointReading("tasks", "batch", batchOf(Schema.Array(Schema.Json)), {
    ...submits,
    summary: "Accept many tasks, each on its own or all or none. One outcome per task, in their order.",
    request: SubmitBatch,
    answer: BatchOutcome,
    bytesMax: Limits.batchBodyBytesMax
  }),
  "tasks.graph": endpoint("tasks", "graph", {
    ...submits,
    summary: "Accept tasks that name each other, all or none.",
    request: SubmitGraph,
    answer: AcceptedGraph,
    bytesMax: Limits.batchBodyBytesMax
  }),
  "tasks.get": endpoint("tasks", "get", {
    summary: "A task as the ledger has it.",
    request: Schema.Struct(ofTask).annotate({ identifier: "GetTask" }),
    answer: Task,
    problems: [TaskNotFound]
  }),
  "tasks.list": endpoint("tasks", "list", {
    summary: "Tasks, newest first, without payload and result. An empty request lists the first page.",
    request: ListTasks,
    answer: Page(Task).annotate({ identifier: "TaskPage" })
  }),
  "tasks.wait": endpoint("tasks", "wait", {
    summary: "The task once it has ended, or as it stands after `timeout_ms`: look at `status`.",
    request: Schema.Struct({ ...ofTask, ...waits, tree }).annotate({ identifier: "WaitForTask" }),
    answer: Task,
    problems: [TaskNotFound],
    holds: true
  }),
  "tasks.events": endpoint("tasks", "events", {
    summary: "Recorded events of a task with a number above `after`, oldest first.",
    request: Schema.Struct({
      ...ofTask,
      after: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))),
      limit: ListTasks.fields.limit
    }).annotate({ identifier: "ListEvents" }),
    answer: EventPage,
    problems: [TaskNotFound]
  }),
  "tasks.cancel": endpoint("tasks", "cancel", {
    summary: "End a task as `cancelled`, whatever it is doing.",
    request: Schema.Struct({
      ...ofTask,
      reason,
      tree
    }).annotate({ identifier: "CancelTaskById" }),
    answer: Task,
    problems: [TaskNotFound, Conflict]
  }),
  "tasks.retry": endpoint("tasks", "retry", {
    summary: "Start an ended task anew, as a task of its own that links back by `retry_of`.",
    request: Schema.Struct(ofTask).annotate({ identifier: "RetryTask" }),
    answer: AcceptedTask,
    problems: [TaskNotFound, Conflict, IdempotencyMismatch]
  }),
  "graphs.get": endpoint("graphs", "get", {
    summary: "A graph and the state of its tasks.",
    request: Schema.Struct(ofGraph).annotate({ identifier: "GetGraph" }),
    answer: Graph,
    problems: [GraphNotFound]
  }),
  "graphs.list": endpoint("graphs", "list", {
    summary: "Graphs, newest first. An empty request lists the first page.",
    request: PageQuery.annotate({ identifier: "ListGraphs" }),
    answer: Page(GraphSummary).annotate({ identifier: "GraphPage" })
  }),
  "graphs.wait": endpoint("graphs", "wait", {
    summary: "The graph once all of it has ended, or as it stands after `timeout_ms`: look at `ended`.",
    request: Schema.Struct({ ...ofGraph, ...waits }).annotate({ identifier: "WaitForGraph" }),
    answer: Graph,
    problems: [GraphNotFound],
    holds: true
  }),
  "graphs.cancel": endpoint("graphs", "cancel", {
    summary: "Have all of a graph that has not ended end as `cancelled`.",
    request: Schema.Struct({ ...ofGraph, reason }).annotate({ identifier: "CancelGraph" }),
    answer: Graph,
    problems: [GraphNotFound, Conflict]
  }),
  "graphs.retry": endpoint("graphs", "retry", {
    summary: "Run what did not complete of a graph once more, as a graph of its own that links back by `retry_of`.",
    request: Schema.Struct(ofGraph).annotate({ identifier: "RetryGraph" }),
    answer: AcceptedGraph,
    problems: [GraphNotFound, Conflict, IdempotencyMismatch]
  }),
  "agents.create": endpoint("agents", "create", {
    summary: "Define an agent.",
    request: CreateAgent,
    answer: Agent,
    problems: [Conflict]
  }),
  "agents.get": endpoint("agents", "get", {
    summary: "An agent, by id or name.",
    request: Schema.Struct(ofAgent).annotate({ identifier: "GetAgent" }),
    answer: Agent,
    problems: [AgentNotFound]
  }),
  "agents.list": endpoint("agents", "list", {
    summary: "Agents, newest first. An empty request lists the first page.",
    request: ListAgents,
    answer: Page(Agent).annotate({ identifier: "AgentPage" })
  }),
  "agents.update": endpoint("agents", "update", {
    summary: "Replace the parts of an agent's definition that are given; with `if_version` only that version of it.",
    request: Schema.Struct({
      ...ofAgent,
      if_version: Schema.optionalKey(
        Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
      ),
      ...UpdateAgent.fields
    }).annotate({ identifier: "UpdateAgentByRef" }),
    answer: Agent,
    problems: [AgentNotFound, Conflict]
  }),
  "agents.scale": endpoint("agents", "scale", {
    summary: "Set how many instances shall run.",
    request: Schema.Struct({ ...ofAgent, ...ScaleAgent.fields }).annotate({ identifier: "ScaleAgentByRef" }),
    answer: Agent,
    problems: [AgentNotFound, Conflict]
  }),
  "agents.pause": endpoint("agents", "pause", {
    summary: "Its instances start no more tasks; queued work waits.",
    request: Schema.Struct(ofAgent).annotate({ identifier: "PauseAgent" }),
    answer: Agent,
    problems: [AgentNotFound, Conflict]
  }),
  "agents.resume": endpoint("agents", "resume", {
    summary: "Back to work, also out of `error`.",
    request: Schema.Struct(ofAgent).annotate({ identifier: "ResumeAgent" }),
    answer: Agent,
    problems: [AgentNotFound, Conflict]
  }),
  "agents.delete": endpoint("agents", "delete", {
    summary: "It takes nothing new, finishes what it has (with `force`: cancels it), then is `terminated`.",
    request: Schema.Struct({ ...ofAgent, force: Schema.optionalKey(Schema.Boolean) }).annotate({
      identifier: "DeleteAgent"
    }),
    answer: Agent,
    problems: [AgentNotFound, Conflict]
  }),
  "agents.metrics": endpoint("agents", "metrics", {
    summary: "Figures of an agent, from recorded ends.",
    request: Schema.Struct(ofAgent).annotate({ identifier: "GetAgentMetrics" }),
    answer: AgentMetrics,
    problems: [AgentNotFound]
  })
} as const

export type EndpointName = keyof typeof endpoints
export type Endpoint = (typeof endpoints)[EndpointName]

/** Headers that a request may carry. Their names are compared without regard to case. */
export const requestHeaders = {
  Authorization: "`Bearer <API key>`. Required.",
  "Idempotency-Key": `Of a submission: for ${Limits.idempotencyKeyHours} h the same key gives the same answer. The same as \`idempotency_key\` in the request.`,
  traceparent: "W3C Trace Context (version 00) that the work continues.",
  "X-Request-ID": "1 to 128 letters, digits or `._:/+=-`; comes back in the answer and stands in the logs."
} as const

/** Headers that an answer may carry. */
export const answerHeaders = {
  "Nats-Service-Error": "Of a problem: its title and detail, on one line.",
  "Nats-Service-Error-Code": "Of a problem: its status, as over HTTP.",
  "Retry-After": "Of a problem with 429 or 503: seconds until another try makes sense.",
  "X-Request-ID": "That of the request."
} as const
