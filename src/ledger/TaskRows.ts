/**
 * Owns the translation between the ledger's statements and the actors' words: rows in, rows out, and the recorded facts
 * as events. Rows come from our own SQL, so they are typed here once and trusted; no schema runs per row.
 */
import type { Schema } from "effect"
import type { Conditions, NewTask, RunningTask, Settlement, Slot } from "../../actors/ports/Ledger.ts"
import { freightBytesMax, type TaskOrder } from "../../protocol/Dispatch.ts"
import type { Event, EventType } from "../../protocol/Event.ts"
import type { AgentId, GraphId, Namespace, TaskId, TaskType } from "../../protocol/Ids.ts"
import type { TaskConfiguration, TaskPriority, TaskStatus } from "../../protocol/Task.ts"

/** JSON of one row of `task_accept`. The payload is text already and is put in as it is. */
export const acceptRow = (task: NewTask, ordinal: number, hasDependents: boolean): string => {
  const row = JSON.stringify({
    o: ordinal,
    id: task.id,
    namespace: task.namespace,
    name: task.name,
    type: task.type,
    agent_id: task.agentId,
    lane: task.lane,
    max_attempts: task.maxAttempts,
    at_most_once: task.atMostOnce || undefined,
    open: task.dependencies.length || undefined,
    dependents: hasDependents || task.step !== undefined || task.failsGraph || undefined,
    fails_graph: task.failsGraph || undefined,
    description: task.description,
    parent_id: task.parentId,
    graph_id: task.graphId,
    graph_key: task.graphKey,
    retry_of: task.retryOf,
    run_at: task.runAt,
    deadline: task.deadline,
    actor: task.actor,
    trace: task.trace,
    key: task.idempotency?.key,
    fingerprint: task.idempotency?.fingerprint,
    limits: task.limits?.map(({ fair, key, limitId }) => ({ l: limitId, k: key, f: fair }))
  })
  const parts = [row.slice(0, -1)]
  if (task.conditions !== undefined) parts.push(conditionFields(task.conditions))
  // An item of a list stands for itself until the list is whole.
  const payloadName = task.conditions?.coalesce?.keep === "all" ? "item" : "payload"
  if (task.payload !== undefined) parts.push(`"${payloadName}":${task.payload}`)
  if (task.configuration !== undefined) parts.push(`"configuration":${task.configuration}`)
  if (task.labels !== undefined) parts.push(`"labels":${task.labels}`)
  if (task.step !== undefined) parts.push(`"step":${task.step}`)
  if (task.metadata !== undefined) parts.push(`"metadata":${task.metadata}`)
  return `${parts.join(",")}}`
}

/** Fields of a row of `task_accept_conditional` beyond those of every task. */
const conditionFields = ({ coalesce, queueTimeoutMillis, unique }: Conditions): string =>
  JSON.stringify({
    unique_key: unique?.key,
    refuse: unique?.onConflict === "refuse" || undefined,
    coalesce_key: coalesce?.key,
    joins:
      coalesce === undefined
        ? undefined
        : {
            agent: coalesce.agentId,
            keep: coalesce.keep,
            quiet: coalesce.quietMillis,
            max_wait: coalesce.waitMillisMax,
            items_max: coalesce.itemsMax
          },
    queue_timeout: queueTimeoutMillis
  }).slice(1, -1)

/** JSON of how many tasks want each key of a limit at once: those with an agent, and without a time before which they do not start. */
export const wantedRows = (tasks: ReadonlyArray<NewTask>): string => {
  const wanted = new Map<string, { readonly n: string; readonly l: string; readonly k: string; c: number }>()
  for (const { agentId, limits, namespace, runAt } of tasks) {
    if (limits === undefined || agentId === undefined || runAt !== undefined) continue
    for (const { key, limitId } of limits) {
      const name = `${limitId} ${key}`
      const known = wanted.get(name)
      if (known === undefined) wanted.set(name, { n: namespace, l: limitId, k: key, c: 1 })
      else known.c++
    }
  }
  return JSON.stringify([...wanted.values()])
}

/** JSON of the edges of `task_accept`. */
export const dependencyRows = (tasks: ReadonlyArray<NewTask>): string =>
  JSON.stringify(
    tasks.flatMap((task) =>
      task.dependencies.map((dependency) => ({
        child: task.id,
        parent: dependency.task_id,
        on_ended: dependency.on === "ended",
        required: dependency.required ?? true,
        runs_if_skipped: dependency.if_skipped === "run" || undefined
      }))
    )
  )

const statusOf: { readonly [K in Settlement["_tag"]]: TaskStatus } = {
  Completed: "completed",
  Failed: "failed",
  TimedOut: "timeout",
  Retry: "pending",
  Released: "queued"
}

const eventOf: { readonly [K in Settlement["_tag"]]: EventType } = {
  Completed: "TaskCompleted",
  Failed: "TaskFailed",
  TimedOut: "TaskTimedOut",
  Retry: "TaskRetried",
  Released: "TaskQueued"
}

/** A lease, as `task_settle` takes it. */
export interface SlotRow {
  readonly slot: number
  readonly agent_id: AgentId
  readonly index: number
  readonly epoch: number
}

/** The number of a slot among `slots`, to which it is added when it is new. */
export const slotNumber = (slots: Array<SlotRow>, slot: Slot): number => {
  const known = slots.findIndex(
    (row) => row.agent_id === slot.agentId && row.index === slot.index && row.epoch === slot.epoch
  )
  if (known >= 0) return known
  slots.push({ slot: slots.length, agent_id: slot.agentId, index: slot.index, epoch: slot.epoch })
  return slots.length - 1
}

/** One row of `task_settle`; with a slot, of an attempt that had not been claimed. */
export const settleRow = (slot: Slot, task: RunningTask, end: Settlement, unclaimedSlot: number | undefined) => ({
  slot: unclaimedSlot,
  id: task.id,
  attempt: task.attempt,
  epoch: slot.epoch,
  version: task.agentVersion,
  status: statusOf[end._tag],
  result:
    end._tag === "Completed"
      ? { success: true, data: end.data, execution_time_ms: end.executionMillis }
      : end._tag === "Released"
        ? undefined
        : { success: false, error: end.error, execution_time_ms: end.executionMillis },
  delay: end._tag === "Retry" ? end.delayMillis : undefined,
  millis: end._tag === "Released" ? 0 : end.executionMillis
})

/** About how many bytes an end adds to a batch. */
export const bytesOfEnd = (end: Settlement): number => (end._tag === "Completed" ? 300 + end.dataBytes : 600)

/** The event that `task_settle` recorded for a row, with the attempt that it keeps in a column of its own. */
export const settleEvent = (
  end: Settlement,
  attempt: number
): { readonly type: EventType; readonly data: Schema.Json } => ({
  type: eventOf[end._tag],
  data:
    end._tag === "Completed"
      ? { attempt, execution_time_ms: end.executionMillis }
      : end._tag === "Released"
        ? { released: true }
        : end._tag === "Retry"
          ? { attempt, execution_time_ms: end.executionMillis, error: { ...end.error }, delay_ms: end.delayMillis }
          : { attempt, execution_time_ms: end.executionMillis, error: { ...end.error } }
})

/** What `TaskStarted` says: the first definition of an agent is not written down with each of its tasks. */
export const startedData = (attempt: number, agentVersion: number | undefined) => ({
  attempt,
  agent_version: agentVersion ?? firstDefinition
})

/** The version of an agent's first definition. */
export const firstDefinition = 1

/** A `task_change` as JSON or as columns. One without a status is no fact but says that a step or a graph is due. */
export interface ChangeRow {
  readonly id: TaskId
  readonly namespace: Namespace
  readonly number: number
  readonly event: EventType | "step" | "ending"
  readonly at: string | Date
  readonly status: TaskStatus
  readonly agent_id: AgentId | null
  readonly trace: string | null
  readonly data: Schema.Json
}

export const isFact = (row: ChangeRow): row is ChangeRow & { readonly event: EventType } =>
  row.event !== "step" && row.event !== "ending"

export const changeEvent = (row: ChangeRow & { readonly event: EventType }, actor: string): Event => ({
  type: row.event,
  kind: "task",
  aggregate: row.id,
  number: row.number,
  at: typeof row.at === "string" ? row.at : row.at.toISOString(),
  namespace: row.namespace,
  actor,
  trace: row.trace,
  data: row.data
})

/** Columns from which an order is made; `t` is the task. */
export const orderColumns = `t.id, t.namespace, t.name, t.type, t.lane, t.agent_id, t.graph_id, t.attempt, t.max_attempts, t.at_most_once,
  t.configuration, t.trace, t.parked_attempt, t.parked_position, t.limited, to_json(t.deadline) #>> '{}' as deadline,
  case when octet_length(t.payload::text) <= ${freightBytesMax} then t.payload end as payload,
  coalesce(octet_length(t.payload::text) > ${freightBytesMax}, false) as payload_behind,
  case when t.attempt > 0 and t.configuration #> '{retry,total_ms}' is not null then (
    select to_json(e.at) #>> '{}' from events e where e.aggregate = t.id and e.type = 'TaskStarted' order by e.number limit 1
  ) end as first_started_at`

export interface OrderRow {
  readonly id: TaskId
  readonly namespace: Namespace
  readonly name: string
  readonly type: TaskType
  readonly lane: TaskPriority
  readonly agent_id: AgentId
  readonly graph_id: GraphId | null
  readonly attempt: number
  readonly max_attempts: number
  readonly at_most_once: boolean
  readonly configuration: TaskConfiguration | null
  readonly trace: string | null
  readonly deadline: string | null
  readonly parked_attempt: number | null
  readonly parked_position: number | null
  /** Asked for only where a retry policy bounds the time of all attempts together. */
  readonly first_started_at: string | null
  readonly limited: boolean | null
  readonly payload: Schema.Json | null
  readonly payload_behind: boolean
}

export const orderOfRow = (row: OrderRow): TaskOrder => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  type: row.type,
  lane: row.lane,
  max_attempts: row.max_attempts,
  ...(row.attempt > 0 && { attempts: row.attempt }),
  ...(row.payload !== null && { payload: row.payload }),
  ...(row.payload_behind && { payload_behind: true }),
  ...(row.graph_id !== null && { graph_id: row.graph_id }),
  ...(row.configuration?.timeout_ms !== undefined && { timeout_ms: row.configuration.timeout_ms }),
  ...(row.configuration?.retry !== undefined && { retry: row.configuration.retry }),
  ...(row.at_most_once && { at_most_once: true }),
  ...(row.deadline !== null && { deadline: row.deadline }),
  ...(row.parked_attempt !== null &&
    row.parked_position !== null && { parked: { attempt: row.parked_attempt, position: row.parked_position } }),
  ...(row.first_started_at !== null && { first_started_at: row.first_started_at }),
  ...(row.trace !== null && { trace: row.trace }),
  ...(row.limited === true && { limited: true })
})

/** Counts by status of which all are none. */
export const noTasks: Readonly<Record<TaskStatus, number>> = {
  pending: 0,
  queued: 0,
  running: 0,
  paused: 0,
  completed: 0,
  failed: 0,
  timeout: 0,
  cancelled: 0
}
