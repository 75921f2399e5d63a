/**
 * Owns the contract of the NATS micro service `datamcp`: which endpoints there are, what each is asked and answers, and
 * with which problems it refuses. Server, AsyncAPI document, protocol text and discovery are made from this table.
 *
 * A request and its answer hold the same JSON as over HTTP; what HTTP says in path and query stands in the request here.
 */
import { Schema } from "effect"
import { Agent, AgentMetrics, CreateAgent, ScaleAgent, UpdateAgent } from "../Agent.ts"
import { AgentVersion, AgentVersionNumber, AgentVersions, RollBackAgent, RollOutAgent } from "../AgentVersion.ts"
import { AttemptList, ListDeadLetters, ReplayDeadLetters } from "../api/ControlApi.ts"
import { BatchOutcome, EventPage } from "../api/TasksApi.ts"
import { InternalError, MalformedRequest, RouteNotFound } from "../api/TransportProblem.ts"
import { BehaviourList } from "../Behaviour.ts"
import { ChunkPage, StreamList } from "../Chunk.ts"
import { CreatedHook, CreateHook, Hook, RotateHook, UpdateHook } from "../Hook.ts"
import {
  AgentRef,
  DeliveryId,
  GraphId,
  HookId,
  LimitRef,
  NodeName,
  OperationId,
  ScheduleRef,
  SignalName,
  StreamName,
  TaskId,
  WebhookId
} from "../Ids.ts"
import { CreateLimit, Limit, LimitUsage, UpdateLimit } from "../Limit.ts"
import * as Limits from "../Limits.ts"
import { Node, NodeList } from "../Node.ts"
import { Page } from "../Page.ts"
import {
  AgentNotFound,
  AgentVersionNotFound,
  CoalesceMismatch,
  Conflict,
  DeliveryNotFound,
  Forbidden,
  GraphNotFound,
  HookNotFound,
  IdempotencyMismatch,
  InvalidInput,
  LimitNotFound,
  NodeNotFound,
  OperationNotFound,
  Overloaded,
  ScheduleNotFound,
  TaskNotFound,
  TooLarge,
  Unauthenticated,
  Unavailable,
  UniqueKeyHeld,
  WebhookNotFound
} from "../Problem.ts"
import { ListAgents, ListSchedules, ListTasks, PageQuery } from "../Query.ts"
import { Retention, SetRetention } from "../Retention.ts"
import {
  CreateSchedule,
  DueTimes,
  PreviewCount,
  PreviewSchedule,
  Schedule,
  ScheduleRun,
  StartedRun,
  UpdateSchedule
} from "../Schedule.ts"
import { PauseTask, SignalReceipt, TaskSignals } from "../Signal.ts"
import { InstanceIndex, InstanceOrder, ShowSupervision, SteerInstance, SupervisionTree } from "../Supervision.ts"
import { AcceptedGraph, AcceptedTask, Graph, GraphSummary, SubmitGraph, SubmitTask, Task } from "../Task.ts"
import {
  AcknowledgeTask,
  ActOnTasks,
  CountTasks,
  DeadLetter,
  DeletedTask,
  DryRun,
  Operation,
  PrioritiseTask,
  ReplayTask,
  RerouteTask,
  TaskCounts
} from "../TaskAction.ts"
import {
  CreatedWebhook,
  CreateWebhook,
  Delivery,
  ListDeliveries,
  ReplayDeliveries,
  Replayed,
  RotateWebhook,
  UpdateWebhook,
  Webhook
} from "../Webhook.ts"

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
  | ScheduleNotFound
  | WebhookNotFound
  | DeliveryNotFound
  | HookNotFound
  | OperationNotFound
  | AgentVersionNotFound
  | LimitNotFound
  | NodeNotFound
  | Conflict
  | IdempotencyMismatch
  | UniqueKeyHeld
  | CoalesceMismatch

type ProblemClass =
  | (typeof commonProblems)[number]
  | typeof TaskNotFound
  | typeof GraphNotFound
  | typeof AgentNotFound
  | typeof ScheduleNotFound
  | typeof WebhookNotFound
  | typeof DeliveryNotFound
  | typeof HookNotFound
  | typeof OperationNotFound
  | typeof AgentVersionNotFound
  | typeof LimitNotFound
  | typeof NodeNotFound
  | typeof Conflict
  | typeof IdempotencyMismatch
  | typeof UniqueKeyHeld
  | typeof CoalesceMismatch

/** Groups of endpoints: the last but one token of a subject. */

type Decodable = Schema.ConstraintDecoder<unknown>

/** First token of an endpoint's name. */
export type ServiceGroup =
  | "tasks"
  | "graphs"
  | "agents"
  | "behaviours"
  | "limits"
  | "supervision"
  | "schedules"
  | "webhooks"
  | "hooks"
  | "operations"
  | "dead_letters"
  | "retention"
  | "nodes"

interface Definition<Request extends Schema.Top, Read extends Decodable, Answer extends Schema.Top> {
  readonly group: ServiceGroup
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
  group: ServiceGroup,
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
  group: ServiceGroup,
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
const ofSchedule = { schedule: ScheduleRef }
const ofWebhook = { id: WebhookId }
const ofHook = { id: HookId }
const ifVersion = {
  if_version: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })))
}
const ofLimit = { limit: LimitRef }
const submits = { takesKey: true, problems: [IdempotencyMismatch, UniqueKeyHeld, CoalesceMismatch] } as const
const ofInstance = { ...ofAgent, index: InstanceIndex }

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
    problems: [TaskNotFound, Conflict, IdempotencyMismatch, UniqueKeyHeld]
  }),
  "tasks.signal": endpoint("tasks", "signal", {
    summary: "Send a signal to a task that has not ended. It is kept until the task awaits it.",
    request: Schema.Struct({ ...ofTask, name: SignalName, payload: Schema.optionalKey(Schema.Json) }).annotate({
      identifier: "SendSignal"
    }),
    answer: SignalReceipt,
    problems: [TaskNotFound, Conflict, IdempotencyMismatch],
    takesKey: true
  }),
  "tasks.signals": endpoint("tasks", "signals", {
    summary: "What a task waits for, and the signals that it was sent.",
    request: Schema.Struct({
      ...ofTask,
      after: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.signalsMax }))),
      limit: ListTasks.fields.limit
    }).annotate({ identifier: "ListSignals" }),
    answer: TaskSignals,
    problems: [TaskNotFound]
  }),
  "tasks.pause": endpoint("tasks", "pause", {
    summary: "Set a task aside; one that runs is interrupted, and the attempt does not count.",
    request: Schema.Struct({ ...ofTask, ...PauseTask.fields, tree }).annotate({ identifier: "PauseTaskById" }),
    answer: Task,
    problems: [TaskNotFound, Conflict]
  }),
  "tasks.resume": endpoint("tasks", "resume", {
    summary: "Back to work with a task that was set aside.",
    request: Schema.Struct({ ...ofTask, tree }).annotate({ identifier: "ResumeTask" }),
    answer: Task,
    problems: [TaskNotFound, Conflict]
  }),
  "tasks.stream": endpoint("tasks", "stream", {
    summary: "Chunks of a stream with a number above `after`, oldest first; with `timeout_ms` once there is one.",
    request: Schema.Struct({
      ...ofTask,
      name: Schema.optionalKey(StreamName),
      after: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2_147_483_647 }))),
      limit: ListTasks.fields.limit,
      timeout_ms: Schema.optionalKey(
        Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.waitMillisMax })).annotate({
          description: "Longest wait for a chunk in milliseconds; none when absent."
        })
      )
    }).annotate({ identifier: "ReadStream" }),
    answer: ChunkPage,
    problems: [TaskNotFound],
    holds: true
  }),
  "tasks.streams": endpoint("tasks", "streams", {
    summary: "The streams of a task.",
    request: Schema.Struct(ofTask).annotate({ identifier: "ListStreams" }),
    answer: StreamList,
    problems: [TaskNotFound]
  }),
  "tasks.counts": endpoint("tasks", "counts", {
    summary: "Tasks by status; with `by`: `agent` also for each agent.",
    request: CountTasks.annotate({ identifier: "CountTasks" }),
    answer: TaskCounts,
    problems: [AgentNotFound]
  }),
  "tasks.attempts": endpoint("tasks", "attempts", {
    summary: "Attempts of a task with error, duration and node.",
    request: Schema.Struct(ofTask).annotate({ identifier: "ListAttempts" }),
    answer: AttemptList,
    problems: [TaskNotFound]
  }),
  "tasks.actions": endpoint("tasks", "actions", {
    summary: "Do one thing to every task that a filter finds, in the background; with `dry_run` only count them.",
    request: ActOnTasks,
    answer: Schema.Union([Operation, DryRun]).annotate({ identifier: "OperationOrDryRun" })
  }),
  "tasks.priority": endpoint("tasks", "priority", {
    summary: "Move a waiting task to another lane.",
    request: Schema.Struct({ ...ofTask, ...PrioritiseTask.fields }).annotate({ identifier: "PrioritiseTaskById" }),
    answer: Task,
    problems: [TaskNotFound, Conflict]
  }),
  "tasks.reroute": endpoint("tasks", "reroute", {
    summary: "Give a waiting task to another agent.",
    request: Schema.Struct({ ...ofTask, ...RerouteTask.fields }).annotate({ identifier: "RerouteTaskById" }),
    answer: Task,
    problems: [TaskNotFound, Conflict]
  }),
  "tasks.delete": endpoint("tasks", "delete", {
    summary: "Delete a task that has ended, with its events.",
    request: Schema.Struct(ofTask).annotate({ identifier: "DeleteTask" }),
    answer: DeletedTask,
    problems: [TaskNotFound, Conflict]
  }),
  "operations.get": endpoint("operations", "get", {
    summary: "How far an action on many tasks is.",
    request: Schema.Struct({ id: OperationId }).annotate({ identifier: "GetOperation" }),
    answer: Operation,
    problems: [OperationNotFound]
  }),
  "operations.cancel": endpoint("operations", "cancel", {
    summary: "Stop an operation; what it has done stays done.",
    request: Schema.Struct({ id: OperationId }).annotate({ identifier: "CancelOperation" }),
    answer: Operation,
    problems: [OperationNotFound, Conflict]
  }),
  "dead_letters.list": endpoint("dead_letters", "list", {
    summary: "Tasks that failed or timed out and that nobody has dealt with, with their attempts.",
    request: ListDeadLetters.annotate({ identifier: "ListDeadLetters" }),
    answer: Page(DeadLetter).annotate({ identifier: "DeadLetterPage" })
  }),
  "dead_letters.get": endpoint("dead_letters", "get", {
    summary: "A task that failed or timed out, and what was done about it.",
    request: Schema.Struct(ofTask).annotate({ identifier: "GetDeadLetter" }),
    answer: DeadLetter,
    problems: [TaskNotFound]
  }),
  "dead_letters.acknowledge": endpoint("dead_letters", "acknowledge", {
    summary: "Mark a dead letter as dealt with.",
    request: Schema.Struct({ ...ofTask, ...AcknowledgeTask.fields }).annotate({ identifier: "AcknowledgeById" }),
    answer: DeadLetter,
    problems: [TaskNotFound]
  }),
  "dead_letters.replay": endpoint("dead_letters", "replay", {
    summary: "Start a dead letter anew, as it is or with another payload, configuration or agent.",
    request: Schema.Struct({ ...ofTask, ...ReplayTask.fields }).annotate({ identifier: "ReplayById" }),
    answer: AcceptedTask,
    problems: [TaskNotFound, Conflict, IdempotencyMismatch, UniqueKeyHeld]
  }),
  "dead_letters.replay_many": endpoint("dead_letters", "replay_many", {
    summary: "Start every dead letter that the filter finds anew, in the background.",
    request: ReplayDeadLetters,
    answer: Operation
  }),
  "retention.get": endpoint("retention", "get", {
    summary: "After how long ended tasks are deleted, and what was.",
    request: Schema.Struct({}).annotate({ identifier: "GetRetention" }),
    answer: Retention
  }),
  "retention.set": endpoint("retention", "set", {
    summary: "Set the rules; the first that fits an ended task decides. With `if_version` only over that version.",
    request: Schema.Struct({
      ...SetRetention.fields,
      if_version: Schema.optionalKey(
        Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
      )
    }).annotate({ identifier: "SetRetentionRules" }),
    answer: Retention,
    problems: [Conflict]
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
  "graphs.pause": endpoint("graphs", "pause", {
    summary: "Set all of a graph aside that has not ended: nothing of it starts until it is resumed.",
    request: Schema.Struct({ ...ofGraph, ...PauseTask.fields }).annotate({ identifier: "PauseGraph" }),
    answer: Graph,
    problems: [GraphNotFound, Conflict]
  }),
  "graphs.resume": endpoint("graphs", "resume", {
    summary: "Back to work with a paused graph.",
    request: Schema.Struct(ofGraph).annotate({ identifier: "ResumeGraph" }),
    answer: Graph,
    problems: [GraphNotFound, Conflict]
  }),
  "graphs.retry": endpoint("graphs", "retry", {
    summary: "Run what did not complete of a graph once more, as a graph of its own that links back by `retry_of`.",
    request: Schema.Struct(ofGraph).annotate({ identifier: "RetryGraph" }),
    answer: AcceptedGraph,
    takesKey: true,
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
      ...ifVersion,
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
  }),
  "schedules.create": endpoint("schedules", "create", {
    summary: "Make a schedule.",
    request: CreateSchedule,
    answer: Schedule,
    problems: [Conflict]
  }),
  "schedules.get": endpoint("schedules", "get", {
    summary: "A schedule, by id or name.",
    request: Schema.Struct(ofSchedule).annotate({ identifier: "GetSchedule" }),
    answer: Schedule,
    problems: [ScheduleNotFound]
  }),
  "schedules.list": endpoint("schedules", "list", {
    summary: "Schedules, newest first. An empty request lists the first page.",
    request: ListSchedules,
    answer: Page(Schedule).annotate({ identifier: "SchedulePage" })
  }),
  "schedules.update": endpoint("schedules", "update", {
    summary: "Replace the parts of a schedule that are given; with `if_version` only that version of it.",
    request: Schema.Struct({
      ...ofSchedule,
      if_version: Schema.optionalKey(
        Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
      ),
      ...UpdateSchedule.fields
    }).annotate({ identifier: "UpdateScheduleByRef" }),
    answer: Schedule,
    problems: [ScheduleNotFound, Conflict]
  }),
  "schedules.delete": endpoint("schedules", "delete", {
    summary: "Delete a schedule; the tasks it made stay.",
    request: Schema.Struct(ofSchedule).annotate({ identifier: "DeleteSchedule" }),
    answer: Schedule,
    problems: [ScheduleNotFound]
  }),
  "schedules.pause": endpoint("schedules", "pause", {
    summary: "Nothing is due until it is resumed.",
    request: Schema.Struct(ofSchedule).annotate({ identifier: "PauseSchedule" }),
    answer: Schedule,
    problems: [ScheduleNotFound]
  }),
  "schedules.resume": endpoint("schedules", "resume", {
    summary: "Run again, from the next due time on.",
    request: Schema.Struct(ofSchedule).annotate({ identifier: "ResumeSchedule" }),
    answer: Schedule,
    problems: [ScheduleNotFound]
  }),
  "schedules.run": endpoint("schedules", "run", {
    summary: "Submit its task or graph now.",
    request: Schema.Struct(ofSchedule).annotate({ identifier: "RunSchedule" }),
    answer: StartedRun,
    takesKey: true,
    problems: [ScheduleNotFound, IdempotencyMismatch, UniqueKeyHeld, CoalesceMismatch]
  }),
  "schedules.next": endpoint("schedules", "next", {
    summary: "The next due times of a schedule.",
    request: Schema.Struct({ ...ofSchedule, count: Schema.optionalKey(PreviewCount) }).annotate({
      identifier: "NextOfSchedule"
    }),
    answer: DueTimes,
    problems: [ScheduleNotFound]
  }),
  "schedules.preview": endpoint("schedules", "preview", {
    summary: "The due times that an expression or interval would have. Nothing is stored.",
    request: PreviewSchedule,
    answer: DueTimes
  }),
  "schedules.runs": endpoint("schedules", "runs", {
    summary: "What became of each due time, newest first.",
    request: Schema.Struct({ ...ofSchedule, ...PageQuery.fields }).annotate({ identifier: "ListRuns" }),
    answer: Page(ScheduleRun).annotate({ identifier: "RunPage" }),
    problems: [ScheduleNotFound]
  }),
  "webhooks.create": endpoint("webhooks", "create", {
    summary: "Define a webhook. Its secret is in the answer and never again.",
    request: CreateWebhook,
    answer: CreatedWebhook,
    problems: [Conflict]
  }),
  "webhooks.get": endpoint("webhooks", "get", {
    summary: "A webhook.",
    request: Schema.Struct(ofWebhook).annotate({ identifier: "GetWebhook" }),
    answer: Webhook,
    problems: [WebhookNotFound]
  }),
  "webhooks.list": endpoint("webhooks", "list", {
    summary: "Webhooks, newest first. An empty request lists the first page.",
    request: PageQuery,
    answer: Page(Webhook).annotate({ identifier: "WebhookPage" })
  }),
  "webhooks.update": endpoint("webhooks", "update", {
    summary: "Replace the parts of a webhook that are given; with `if_version` only of that version.",
    request: Schema.Struct({ ...ofWebhook, ...ifVersion, ...UpdateWebhook.fields }).annotate({
      identifier: "UpdateWebhookById"
    }),
    answer: Webhook,
    problems: [WebhookNotFound, Conflict]
  }),
  "webhooks.delete": endpoint("webhooks", "delete", {
    summary: "Delete a webhook with its deliveries.",
    request: Schema.Struct(ofWebhook).annotate({ identifier: "DeleteWebhook" }),
    answer: Schema.Struct({ ...ofWebhook, deleted: Schema.Literal(true) }).annotate({ identifier: "DeletedWebhook" }),
    problems: [WebhookNotFound]
  }),
  "webhooks.rotate": endpoint("webhooks", "rotate", {
    summary: "Give a webhook a new secret; deliveries are signed with both for `overlap_ms`.",
    request: Schema.Struct({ ...ofWebhook, ...RotateWebhook.fields }).annotate({ identifier: "RotateWebhookById" }),
    answer: CreatedWebhook,
    problems: [WebhookNotFound]
  }),
  "webhooks.test": endpoint("webhooks", "test", {
    summary: "Send a ping, once and now; the answer says what came of it.",
    request: Schema.Struct(ofWebhook).annotate({ identifier: "TestWebhook" }),
    answer: Delivery,
    problems: [WebhookNotFound],
    holds: true
  }),
  "webhooks.enable": endpoint("webhooks", "enable", {
    summary: "Enable a webhook; what waited when it was disabled is sent.",
    request: Schema.Struct(ofWebhook).annotate({ identifier: "EnableWebhook" }),
    answer: Webhook,
    problems: [WebhookNotFound]
  }),
  "webhooks.disable": endpoint("webhooks", "disable", {
    summary: "Disable a webhook: it is told of nothing that happens meanwhile.",
    request: Schema.Struct(ofWebhook).annotate({ identifier: "DisableWebhook" }),
    answer: Webhook,
    problems: [WebhookNotFound]
  }),
  "webhooks.deliveries": endpoint("webhooks", "deliveries", {
    summary: "What a webhook was sent, newest first.",
    request: Schema.Struct({ ...ofWebhook, ...ListDeliveries.fields }).annotate({ identifier: "ListDeliveriesOf" }),
    answer: Page(Delivery).annotate({ identifier: "DeliveryPage" }),
    problems: [WebhookNotFound]
  }),
  "webhooks.replay": endpoint("webhooks", "replay", {
    summary: "Send one ended `delivery` again, or those made from `since` to `until`.",
    request: Schema.Union([
      Schema.Struct({ ...ofWebhook, delivery: DeliveryId }),
      Schema.Struct({ ...ofWebhook, ...ReplayDeliveries.fields })
    ]).annotate({ identifier: "ReplayDeliveriesOf" }),
    answer: Replayed,
    problems: [WebhookNotFound, DeliveryNotFound, Conflict]
  }),
  "hooks.create": endpoint("hooks", "create", {
    summary:
      "Define a hook, at which another system submits tasks over HTTP. Its secret is in the answer and never again.",
    request: CreateHook,
    answer: CreatedHook,
    problems: [Conflict]
  }),
  "hooks.get": endpoint("hooks", "get", {
    summary: "A hook.",
    request: Schema.Struct(ofHook).annotate({ identifier: "GetHook" }),
    answer: Hook,
    problems: [HookNotFound]
  }),
  "hooks.list": endpoint("hooks", "list", {
    summary: "Hooks, newest first. An empty request lists the first page.",
    request: PageQuery,
    answer: Page(Hook).annotate({ identifier: "HookPage" })
  }),
  "hooks.update": endpoint("hooks", "update", {
    summary: "Replace the parts of a hook that are given; with `if_version` only of that version.",
    request: Schema.Struct({ ...ofHook, ...ifVersion, ...UpdateHook.fields }).annotate({
      identifier: "UpdateHookById"
    }),
    answer: Hook,
    problems: [HookNotFound, Conflict]
  }),
  "hooks.delete": endpoint("hooks", "delete", {
    summary: "Delete a hook.",
    request: Schema.Struct(ofHook).annotate({ identifier: "DeleteHook" }),
    answer: Schema.Struct({ ...ofHook, deleted: Schema.Literal(true) }).annotate({ identifier: "DeletedHook" }),
    problems: [HookNotFound]
  }),
  "hooks.rotate": endpoint("hooks", "rotate", {
    summary: "Give a hook a new secret; the old one is refused at once.",
    request: Schema.Struct({ ...ofHook, ...RotateHook.fields }).annotate({ identifier: "RotateHookById" }),
    answer: CreatedHook,
    problems: [HookNotFound]
  }),
  "agents.versions": endpoint("agents", "versions", {
    summary: "Versions of an agent's definition, newest first, each with its figures.",
    request: Schema.Struct(ofAgent).annotate({ identifier: "ListAgentVersions" }),
    answer: AgentVersions,
    problems: [AgentNotFound]
  }),
  "agents.version": endpoint("agents", "version", {
    summary: "The definition of an agent that was in force at a version.",
    request: Schema.Struct({ ...ofAgent, version: AgentVersionNumber }).annotate({ identifier: "GetAgentVersion" }),
    answer: AgentVersion,
    problems: [AgentNotFound, AgentVersionNotFound]
  }),
  "agents.rollback": endpoint("agents", "rollback", {
    summary: "Make a new version with the definition of an old one.",
    request: Schema.Struct({ ...ofAgent, ...ifVersion, ...RollBackAgent.fields }).annotate({
      identifier: "RollBackAgentByRef"
    }),
    answer: Agent,
    problems: [AgentNotFound, AgentVersionNotFound, Conflict]
  }),
  "agents.rollout": endpoint("agents", "rollout", {
    summary: "Change the share of a roll-out: 100 finishes it, 0 takes it back.",
    request: Schema.Struct({ ...ofAgent, ...ifVersion, ...RollOutAgent.fields }).annotate({
      identifier: "RollOutAgentByRef"
    }),
    answer: Agent,
    problems: [AgentNotFound, Conflict]
  }),
  "behaviours.list": endpoint("behaviours", "list", {
    summary: "Behaviours that the node which answers can run: the types that an agent may have.",
    request: Schema.Struct({}).annotate({ identifier: "ListBehaviours" }),
    answer: BehaviourList
  }),
  "limits.create": endpoint("limits", "create", {
    summary: "Define a limit. It binds tasks that are accepted from now on.",
    request: CreateLimit,
    answer: Limit,
    problems: [Conflict]
  }),
  "limits.get": endpoint("limits", "get", {
    summary: "A limit, by id or name.",
    request: Schema.Struct(ofLimit).annotate({ identifier: "GetLimit" }),
    answer: Limit,
    problems: [LimitNotFound]
  }),
  "limits.list": endpoint("limits", "list", {
    summary: "Limits, newest first. An empty request lists the first page.",
    request: PageQuery.annotate({ identifier: "ListLimits" }),
    answer: Page(Limit).annotate({ identifier: "LimitPage" })
  }),
  "limits.update": endpoint("limits", "update", {
    summary: "Change how much a limit allows; with `if_version` only that version of it.",
    request: Schema.Struct({
      ...ofLimit,
      if_version: Schema.optionalKey(
        Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
      ),
      ...UpdateLimit.fields
    }).annotate({ identifier: "UpdateLimitByRef" }),
    answer: Limit,
    problems: [LimitNotFound, Conflict]
  }),
  "limits.delete": endpoint("limits", "delete", {
    summary: "Delete a limit; tasks that waited for it alone are queued.",
    request: Schema.Struct(ofLimit).annotate({ identifier: "DeleteLimit" }),
    answer: Limit,
    problems: [LimitNotFound]
  }),
  "limits.usage": endpoint("limits", "usage", {
    summary: "What is taken of a limit: of one key, or of those with most to do.",
    request: Schema.Struct({
      ...ofLimit,
      key: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.limitKeyCharactersMax)))
    }).annotate({ identifier: "GetLimitUsage" }),
    answer: LimitUsage,
    problems: [LimitNotFound]
  }),
  "nodes.list": endpoint("nodes", "list", {
    summary: "Nodes that are there, and those that have gone within the last hour.",
    request: Schema.Struct({}).annotate({ identifier: "ListNodes" }),
    answer: NodeList
  }),
  "nodes.get": endpoint("nodes", "get", {
    summary: "A node, by name.",
    request: Schema.Struct({ node: NodeName }).annotate({ identifier: "GetNode" }),
    answer: Node,
    problems: [NodeNotFound]
  }),
  "nodes.drain": endpoint("nodes", "drain", {
    summary: "Drain a node: it hands over what it hosts, and takes nothing until the drain is taken back.",
    request: Schema.Struct({ node: NodeName }).annotate({ identifier: "DrainNode" }),
    answer: Node,
    problems: [NodeNotFound, Conflict]
  }),
  "nodes.undrain": endpoint("nodes", "undrain", {
    summary: "Take a drain back.",
    request: Schema.Struct({ node: NodeName }).annotate({ identifier: "UndrainNode" }),
    answer: Node,
    problems: [NodeNotFound]
  }),
  "supervision.show": endpoint("supervision", "show", {
    summary: "A page of the supervision tree: agents, their instances, where they are and how they do.",
    request: ShowSupervision,
    answer: SupervisionTree,
    problems: [AgentNotFound]
  }),
  "supervision.restart": endpoint("supervision", "restart", {
    summary: "Start an instance anew; what it runs is given back without using an attempt.",
    request: Schema.Struct({ ...ofInstance, ...SteerInstance.fields }).annotate({ identifier: "RestartInstance" }),
    answer: InstanceOrder,
    problems: [AgentNotFound, Conflict]
  }),
  "supervision.quarantine": endpoint("supervision", "quarantine", {
    summary: "An instance gives back what it runs and takes nothing until it is released.",
    request: Schema.Struct({ ...ofInstance, ...SteerInstance.fields }).annotate({ identifier: "QuarantineInstance" }),
    answer: InstanceOrder,
    problems: [AgentNotFound, Conflict]
  }),
  "supervision.release": endpoint("supervision", "release", {
    summary: "Let an instance work again after a quarantine.",
    request: Schema.Struct({ ...ofInstance, ...SteerInstance.fields }).annotate({ identifier: "ReleaseInstance" }),
    answer: InstanceOrder,
    problems: [AgentNotFound, Conflict]
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
