/**
 * Owns what is said about tasks: the command that submits one, the view that shows one, and their parts.
 *
 * The life cycle, states in the order they happen (terminal ones in capitals):
 *
 *   pending --> queued --> running --> COMPLETED
 *      ^          ^           |------> FAILED | TIMEOUT
 *      |          '-----------|        (released: a node stopped in order)
 *      '----------------------'        (retry)
 *   running --> paused --> queued      (waits for a signal, which comes)
 *   pending | queued | running --> paused --> pending | queued   (set aside and resumed by somebody)
 *   CANCELLED can follow any state that is not terminal. Terminal is final.
 *
 * Times are RFC 3339 strings in UTC. Change by addition only.
 */
import { Schema } from "effect"
import { Condition, Pointer } from "./Condition.ts"
import { AgentId, AgentRef, GraphId, GraphKey, LimitId, Namespace, TaskId, TaskType } from "./Ids.ts"
import * as Limits from "./Limits.ts"
import { RetryPolicy } from "./RetryPolicy.ts"
import { Coalesce, Unique } from "./TaskKeys.ts"

/** RFC 3339 date and time. Views carry UTC with milliseconds or finer. */
export const Timestamp = Schema.String.check(
  Schema.isPattern(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/u, {
    expected: "an RFC 3339 date and time with a time zone, such as 2026-11-23T10:00:00Z"
  })
)

export const TaskStatus = Schema.Literals([
  "pending",
  "queued",
  "running",
  "paused",
  "completed",
  "failed",
  "timeout",
  "cancelled"
])
export type TaskStatus = typeof TaskStatus.Type

export const TerminalStatus = Schema.Literals(["completed", "failed", "timeout", "cancelled"])
export type TerminalStatus = typeof TerminalStatus.Type

export const isTerminal = (status: TaskStatus): status is TerminalStatus =>
  status === "completed" || status === "failed" || status === "timeout" || status === "cancelled"

/** What a `pending` task waits for; of a `paused` one `signal` or `children`, or null when somebody set it aside. */
export const WaitingFor = Schema.Literals(["dependencies", "time", "capacity", "agent", "retry", "signal", "children"])
export type WaitingFor = typeof WaitingFor.Type

/** Lanes from the first to the last served. They share an agent's slots 8 : 4 : 2 : 1, so that none starves. */
export const priorities = ["critical", "high", "normal", "low"] as const
export const TaskPriority = Schema.Literals(priorities)
export type TaskPriority = typeof TaskPriority.Type

export const Labels = Schema.Record(
  Schema.String.check(Schema.isBetweenLength(1, Limits.labelCharactersMax)),
  Schema.String.check(Schema.isMaxLength(Limits.labelCharactersMax))
).check(Schema.isMaxProperties(Limits.labelsMax))

export const Metadata = Schema.Record(Schema.String, Schema.Json)

const millis = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

export const TaskConfiguration = Schema.Struct({
  timeout_ms: Schema.optionalKey(millis(1, Limits.timeoutMillisMax)).annotateKey({
    description: "Longest run of one attempt."
  }),
  queue_timeout_ms: Schema.optionalKey(millis(1, Limits.queueTimeoutMillisMax)).annotateKey({
    description:
      "Longest wait for the start of the first attempt, from when nothing but an agent, a limit or its turn is missing; " +
      "then the task ends as `timeout` with code `queue_timeout`."
  }),
  retry: Schema.optionalKey(RetryPolicy),
  delivery: Schema.optionalKey(Schema.Literals(["at_least_once", "at_most_once"])).annotateKey({
    description: "`at_most_once`: an attempt whose end is unknown ends the task as failed with code `unknown_outcome`."
  }),
  result_ttl_ms: Schema.optionalKey(millis(1_000, Limits.resultTtlMillisMax)).annotateKey({
    description: "How long the result is kept after the task completed; as long as the task when absent."
  })
}).annotate({ identifier: "TaskConfiguration" })
export type TaskConfiguration = typeof TaskConfiguration.Type

/** When a dependency is satisfied: the parent completed, or ended in any way. */
export const DependencyOn = Schema.Literals(["completed", "ended"])
export type DependencyOn = typeof DependencyOn.Type

/** What becomes of a task when a parent was skipped: it is skipped too, or runs as if the parent had been satisfied. */
export const IfSkipped = Schema.Literals(["skip", "run"])
export type IfSkipped = typeof IfSkipped.Type

const edgeFields = {
  on: Schema.optionalKey(DependencyOn),
  required: Schema.optionalKey(Schema.Boolean),
  if_skipped: Schema.optionalKey(IfSkipped).annotateKey({
    description:
      "When the parent was skipped: `skip` this task too (the default), or `run` it. `on: ended` always runs."
  })
}

/**
 * A parent that must end before this task starts. With `on: "completed"` a parent that ends otherwise fails this task
 * (`required`, the default) or skips it (`required: false`: it ends `cancelled` with code `skipped`).
 */
export const Dependency = Schema.Struct({
  task_id: TaskId,
  ...edgeFields
}).annotate({ identifier: "Dependency" })
export type Dependency = typeof Dependency.Type

const submitFields = {
  name: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax))).annotateKey({
    description: "What a person calls it; the type when absent."
  }),
  type: Schema.optionalKey(TaskType).annotateKey({
    description: "Kind of work; may be left out when `agent` names an agent with exactly one capability."
  }),
  description: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.descriptionCharactersMax))),
  agent: Schema.optionalKey(AgentRef).annotateKey({
    description: "Agent that shall do it, by id or name. Without it any agent with the capability `type`."
  }),
  priority: Schema.optionalKey(TaskPriority),
  payload: Schema.optionalKey(Schema.Json).annotateKey({
    description:
      'Input of the behaviour. An object `{"$result": "<task id, or key within a graph>", "path": "<JSON Pointer>"}` anywhere in it is replaced by that dependency\'s result data when the task starts (RFC 6901; `path` optional). `{"$artifact": "<id>"}` as the whole payload stands for that artifact\'s JSON; payloads above 256 KiB become one by themselves.'
  }),
  configuration: Schema.optionalKey(TaskConfiguration),
  parent_id: Schema.optionalKey(TaskId).annotateKey({ description: "Task that this one belongs to." }),
  run_at: Schema.optionalKey(Timestamp).annotateKey({ description: "Earliest start." }),
  deadline: Schema.optionalKey(Timestamp).annotateKey({
    description: "Time after which the task ends as `timeout`, whatever it is doing."
  }),
  labels: Schema.optionalKey(Labels),
  metadata: Schema.optionalKey(Metadata)
}

export const IdempotencyKey = Schema.String.check(Schema.isBetweenLength(1, Limits.idempotencyKeyCharactersMax))

/** Command: accept one task. */
export const SubmitTask = Schema.Struct({
  ...submitFields,
  unique: Schema.optionalKey(Unique),
  coalesce: Schema.optionalKey(Coalesce),
  dependencies: Schema.optionalKey(Schema.Array(Dependency).check(Schema.isMaxLength(Limits.dependenciesMax))),
  idempotency_key: Schema.optionalKey(IdempotencyKey)
}).annotate({ identifier: "SubmitTask" })
export type SubmitTask = typeof SubmitTask.Type

/** What becomes of a map when an element does not complete. */
export const MapOnFailure = Schema.Literals(["fail", "fail_fast", "continue"])
export type MapOnFailure = typeof MapOnFailure.Type

/** One task per element of a list that a parent returned. The task that says `map` ends when its elements have. */
export const TaskMap = Schema.Struct({
  over: Schema.Struct({
    $result: Schema.String.annotateKey({ description: "The parent, by its key in the graph." }),
    path: Schema.optionalKey(Pointer),
    default: Schema.optionalKey(Schema.Json).annotateKey({ description: "Taken when there is nothing at `path`." })
  }),
  max_parallel: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.mapElementsMax }))
  ).annotateKey({ description: "Most elements that are queued or run at a time; all of them when absent." }),
  max_items: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.mapElementsMax }))
  ).annotateKey({ description: "A longer list fails the task; `mapElementsMax` when absent." }),
  on_failure: Schema.optionalKey(MapOnFailure).annotateKey({
    description:
      "When an element does not complete: `fail` after all have ended (the default), `fail_fast` at once and cancel the others, or `continue` and complete."
  })
}).annotate({ identifier: "TaskMap" })
export type TaskMap = typeof TaskMap.Type

/** A task within a graph: its dependencies are keys of the same graph. */
export const GraphTask = Schema.Struct({
  ...submitFields,
  when: Schema.optionalKey(Condition).annotateKey({
    description: "Looked at when the dependencies are satisfied; false ends the task `cancelled` with code `skipped`."
  }),
  map: Schema.optionalKey(TaskMap).annotateKey({
    description:
      'This task once per element: anywhere in `payload`, `{"$item": "<JSON Pointer>"}` is the element or a part of it and `{"$index": true}` its place, from 0.'
  }),
  dependencies: Schema.optionalKey(
    Schema.Array(Schema.Union([GraphKey, Schema.Struct({ task: GraphKey, ...edgeFields })])).check(
      Schema.isMaxLength(Limits.dependenciesMax)
    )
  )
}).annotate({ identifier: "GraphTask" })
export type GraphTask = typeof GraphTask.Type

/** What becomes of a graph when one of its tasks fails or times out. */
export const GraphOnFailure = Schema.Literals(["continue", "fail_fast"])
export type GraphOnFailure = typeof GraphOnFailure.Type

/** Command: accept tasks that name each other, all or none. */
export const SubmitGraph = Schema.Struct({
  name: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, Limits.nameCharactersMax))),
  tasks: Schema.Record(GraphKey, GraphTask),
  on_failure: Schema.optionalKey(GraphOnFailure).annotateKey({
    description:
      "When a task fails or times out: `continue` with what does not depend on it (the default), or `fail_fast`: cancel all that has not ended. A task whose dependents all tolerate its failure does not count."
  }),
  labels: Schema.optionalKey(Labels),
  idempotency_key: Schema.optionalKey(IdempotencyKey)
}).annotate({ identifier: "SubmitGraph" })
export type SubmitGraph = typeof SubmitGraph.Type

export const TaskProgress = Schema.Struct({
  percentage: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 100 })),
  current_step: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.nameCharactersMax))),
  message: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(Limits.progressMessageCharactersMax))),
  completed_steps: Schema.optionalKey(Schema.Int),
  total_steps: Schema.optionalKey(Schema.Int),
  estimated_completion: Schema.optionalKey(Timestamp)
}).annotate({ identifier: "TaskProgress" })
export type TaskProgress = typeof TaskProgress.Type

/** Why an attempt or a task did not succeed. `code` is stable and meant for programs. */
export const TaskError = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  details: Schema.optionalKey(Schema.Json).annotateKey({
    description: "What the code is about. Of a crash: `stack`, where it happened."
  }),
  final: Schema.optionalKey(
    Schema.Literals(["attempts", "total_time", "policy", "behaviour", "at_most_once"])
  ).annotateKey({
    description:
      "Why there was no further attempt: all attempts are used, `total_ms` would be passed, `retry_on` or `never_retry_on` " +
      "says so, the behaviour sees no use in one, or the task may run at most once."
  })
}).annotate({ identifier: "TaskError" })
export type TaskError = typeof TaskError.Type

export const TaskResult = Schema.Struct({
  success: Schema.Boolean,
  data: Schema.optionalKey(Schema.Json),
  error: Schema.optionalKey(TaskError),
  execution_time_ms: Schema.optionalKey(Schema.Finite).annotateKey({
    description: "Duration of the last attempt, on the node's monotonic clock."
  }),
  usage: Schema.optionalKey(Schema.Json),
  expired_at: Schema.optionalKey(Timestamp).annotateKey({
    description: "When the result was cleared, because its `result_ttl_ms` was over."
  })
}).annotate({ identifier: "TaskResult" })
export type TaskResult = typeof TaskResult.Type

/** Why a task waits for capacity, as it stands now. */
export const WaitingOn = Schema.Struct({
  limit_id: LimitId,
  limit: Schema.NullOr(Schema.String).annotateKey({ description: "Name of the limit; null when it is gone." }),
  key: Schema.String,
  position: Schema.Int.annotateKey({
    description: `Its place among the tasks of its group that wait for this key, from 1; counted up to ${Limits.waitingCountedMax}. Groups take turns.`
  }),
  estimate_ms: Schema.NullOr(Schema.Int).annotateKey({
    description: "Of a rate: time until so many tokens have come, if no other group waits."
  })
}).annotate({ identifier: "WaitingOn" })
export type WaitingOn = typeof WaitingOn.Type

/** Which of its children a parked task waits for, as it stands now. */
export const AwaitedChildren = Schema.Struct({
  open: Schema.Int.annotateKey({ description: "Children that have not ended." }),
  total: Schema.Int.annotateKey({ description: "Children whose ends it awaits." }),
  tasks: Schema.Array(TaskId).annotateKey({
    description: `Those that have not ended, the first ${Limits.awaitedChildrenShown} of them.`
  })
}).annotate({ identifier: "AwaitedChildren" })
export type AwaitedChildren = typeof AwaitedChildren.Type

/** View: a task as the ledger has it. */
export const Task = Schema.Struct({
  id: TaskId,
  namespace: Namespace,
  name: Schema.String,
  type: TaskType,
  description: Schema.optionalKey(Schema.String),
  agent_id: Schema.NullOr(AgentId),
  status: TaskStatus,
  waiting_for: Schema.NullOr(WaitingFor),
  waiting_on: Schema.optionalKey(WaitingOn).annotateKey({
    description:
      "Present when a single task is asked for that waits for `capacity`: the limit that is full, and its place in the queue."
  }),
  awaited_children: Schema.optionalKey(AwaitedChildren).annotateKey({
    description: "Present when a single task is asked for that waits for `children`."
  }),
  priority: TaskPriority,
  payload: Schema.optionalKey(Schema.Json),
  configuration: TaskConfiguration,
  progress: Schema.NullOr(TaskProgress),
  result: Schema.NullOr(TaskResult),
  dependencies: Schema.optionalKey(Schema.Array(Dependency)),
  parent_id: Schema.NullOr(TaskId),
  graph_id: Schema.NullOr(GraphId),
  graph_key: Schema.NullOr(GraphKey),
  retry_of: Schema.NullOr(TaskId).annotateKey({ description: "The terminal task that this one retries." }),
  run_at: Schema.NullOr(Timestamp),
  deadline: Schema.NullOr(Timestamp),
  unique_key: Schema.optionalKey(Schema.String).annotateKey({
    description: "The key of `unique`: while it has not ended no other task has it."
  }),
  coalesce_key: Schema.optionalKey(Schema.String).annotateKey({
    description: "The key of `coalesce`: submissions join it while it waits for `time`."
  }),
  labels: Labels,
  metadata: Metadata,
  attempt: Schema.Int,
  max_attempts: Schema.Int,
  created_at: Timestamp,
  started_at: Schema.NullOr(Timestamp),
  completed_at: Schema.NullOr(Timestamp),
  version: Schema.Int.annotateKey({ description: "Number of the task's last event." })
}).annotate({ identifier: "Task" })
export type Task = typeof Task.Type

/** What a submission answers: enough to follow the task, without reading it back. */
export const AcceptedTask = Schema.Struct({
  id: TaskId,
  namespace: Namespace,
  name: Schema.String,
  type: TaskType,
  agent_id: Schema.NullOr(AgentId),
  status: TaskStatus,
  waiting_for: Schema.NullOr(WaitingFor),
  priority: TaskPriority,
  duplicate: Schema.Boolean.annotateKey({
    description:
      "True when nothing was added: an earlier submission with the same idempotency key, or the live task with the same key of `unique`, is the answer."
  }),
  coalesced: Schema.optionalKey(Schema.Boolean).annotateKey({
    description: "True when the submission joined a task that waits, whose id this is."
  }),
  created_at: Timestamp
}).annotate({ identifier: "AcceptedTask" })
export type AcceptedTask = typeof AcceptedTask.Type

/** View: a graph and the state of its tasks. */
export const Graph = Schema.Struct({
  id: GraphId,
  namespace: Namespace,
  name: Schema.NullOr(Schema.String),
  created_at: Timestamp,
  on_failure: Schema.optionalKey(GraphOnFailure),
  retry_of: Schema.optionalKey(Schema.NullOr(GraphId)).annotateKey({ description: "The graph that this one retries." }),
  counts: Schema.Record(Schema.String, Schema.Int),
  ended: Schema.Boolean.annotateKey({ description: "True when every task has ended." }),
  paused: Schema.optionalKey(
    Schema.Struct({
      phase: Schema.Literals(["pausing", "paused", "resuming"]),
      actor: Schema.String.annotateKey({ description: "Who paused it, or resumes it." }),
      reason: Schema.NullOr(Schema.String)
    })
  ).annotateKey({ description: "There while the graph is paused as a whole." }),
  tasks: Schema.Array(
    Schema.Struct({
      id: TaskId,
      key: GraphKey,
      name: Schema.String,
      type: TaskType,
      agent_id: Schema.NullOr(AgentId),
      status: TaskStatus,
      waiting_for: Schema.NullOr(WaitingFor),
      attempt: Schema.Int,
      progress: Schema.NullOr(TaskProgress),
      error: Schema.NullOr(TaskError),
      execution_time_ms: Schema.NullOr(Schema.Finite),
      dependencies: Schema.Array(GraphKey),
      map: Schema.optionalKey(
        Schema.Struct({
          total: Schema.NullOr(Schema.Int).annotateKey({
            description: "Elements of its list; null until it is known."
          }),
          counts: Schema.Record(Schema.String, Schema.Int).annotateKey({ description: "Elements by status." })
        })
      ).annotateKey({ description: "Of a map. Its elements are the tasks with its id as `parent_id`." }),
      taken_over: Schema.optionalKey(Schema.Boolean).annotateKey({
        description: "It completed in the graph that this one retries, and was not run again."
      })
    })
  )
}).annotate({ identifier: "Graph" })
export type Graph = typeof Graph.Type

/** A graph as a list shows it. */
export const GraphSummary = Schema.Struct({
  id: GraphId,
  namespace: Namespace,
  name: Schema.NullOr(Schema.String),
  created_at: Timestamp,
  on_failure: GraphOnFailure,
  retry_of: Schema.NullOr(GraphId),
  counts: Schema.Record(Schema.String, Schema.Int).annotateKey({
    description: "Tasks by status: of the first 1,000 of a larger graph."
  })
}).annotate({ identifier: "GraphSummary" })
export type GraphSummary = typeof GraphSummary.Type

/** What accepting a graph answers: the id of each task by its key. */
export const AcceptedGraph = Schema.Struct({
  id: GraphId,
  name: Schema.NullOr(Schema.String),
  duplicate: Schema.Boolean,
  tasks: Schema.Record(GraphKey, TaskId)
}).annotate({ identifier: "AcceptedGraph" })
export type AcceptedGraph = typeof AcceptedGraph.Type
