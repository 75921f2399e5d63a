/**
 * The tables of the simulated Postgres, and what its statements share: recording a change with its event, and what the end of
 * a task does to those that depend on it.
 *
 * A model of `sql/`: one statement is one step in time, so what row locks order in Postgres is ordered here by the loop of
 * the machine. Not modelled: graphs' steps and fail-fast, limits, signals, streams, tallies; cascades are never cut.
 */
import type { Schema } from "effect"
import type { EventType } from "../../protocol/Event.ts"
import type { TaskConfiguration, TaskPriority, TaskStatus, WaitingFor } from "../../protocol/Task.ts"
import { isTerminal, priorities } from "../../protocol/Task.ts"

export interface TaskRow {
  readonly id: string
  readonly namespace: string
  readonly name: string
  readonly type: string
  agent_id: string | null
  status: TaskStatus
  waiting_for: WaitingFor | null
  readonly lane: TaskPriority
  readonly max_attempts: number
  readonly at_most_once: boolean
  dependencies_open: number
  has_dependents: boolean
  readonly payload: Schema.Json | null
  readonly configuration: TaskConfiguration | null
  readonly parent_id: string | null
  readonly graph_id: string | null
  /** On the clock of `Tables.at`, as all moments here. */
  run_at: number | null
  readonly deadline: number | null
  readonly actor: string
  readonly trace: string | null
  attempt: number
  epoch: number
  instance: number
  version: number
  result: { readonly success: boolean; readonly data?: Schema.Json; readonly error?: { readonly code: string } } | null
  readonly created_at: number
  started_at: number | null
}

export interface EventRow {
  readonly number: number
  readonly type: EventType
  readonly attempt: number | null
  /** Epoch of the task once the change was made. */
  readonly epoch: number
  readonly status: TaskStatus
  readonly at: number
}

export interface DependencyRow {
  readonly child: string
  readonly parent: string
  readonly on_ended: boolean
  readonly required: boolean
  readonly runs_if_skipped: boolean
  resolved: boolean
}

export interface LeaseRow {
  readonly agent_id: string
  readonly index: number
  epoch: number
  node: string
  heartbeat: number
  status: "active" | "hibernating"
}

export interface KeyRow {
  readonly fingerprint: string
  readonly resource_id: string
  readonly created_at: number
}

/** A `task_change`, as functions return it. */
export interface Change {
  readonly id: string
  readonly namespace: string
  readonly number: number
  readonly event: EventType
  readonly at: Date
  readonly status: TaskStatus
  readonly agent_id: string | null
  readonly trace: string | null
  readonly data: Schema.Json
}

/** Told of every event in the order of its commit. */
export type Listener = (task: TaskRow, event: EventRow) => void

/** What is wrong with this Postgres on purpose. */
export type Flaw =
  | "claims ignore epochs"
  | "claims ignore attempts"
  | "ends ignore attempts and epochs"
  | "a repeated claim finds nothing"
  | "a takeover leaves what ran"
  | "a takeover counts no attempts"
  | "idempotency keys are forgotten"
  | "one parent is enough"
  | "ends release nobody"
  | "an end is answered and not written"
  | "an accept is answered and not written"
  | "a cancel ends what has ended"
  | "an event is left out"
  | "a claim counts no attempt"

export class Tables {
  readonly tasks = new Map<string, TaskRow>()
  readonly events = new Map<string, Array<EventRow>>()
  readonly children = new Map<string, Array<DependencyRow>>()
  readonly parents = new Map<string, Array<DependencyRow>>()
  readonly leases = new Map<string, LeaseRow>()
  readonly keys = new Map<string, KeyRow>()
  readonly graphs = new Set<string>()
  readonly listeners: Array<Listener> = []
  readonly flaws: ReadonlySet<Flaw>
  readonly #wallMillis: () => number
  #at = 0

  constructor(wallMillis: () => number, flaws: ReadonlySet<Flaw> = new Set()) {
    this.#wallMillis = wallMillis
    this.flaws = flaws
  }

  /** Begins a statement: later than every one before it, as Postgres's microseconds have it. */
  begin(): number {
    this.#at = Math.max(this.#wallMillis(), this.#at + 0.001)
    return this.#at
  }

  /** `now()` of the present statement. */
  get at(): number {
    return this.#at
  }

  /** Ids ascend with the order of routing; rows of a statement are taken in this order. */
  sorted(wanted: (task: TaskRow) => boolean): ReadonlyArray<TaskRow> {
    return [...this.tasks.values()].filter(wanted).sort((one, other) => (one.id < other.id ? -1 : 1))
  }

  insert(task: TaskRow): void {
    this.tasks.set(task.id, task)
    this.events.set(task.id, [])
    this.#record(task, "TaskCreated", null)
  }

  /** One step of a task's history: the next version, and the event of that number. */
  step(task: TaskRow, type: EventType, attempt: number | null = task.attempt): number {
    task.version++
    if (!(this.flaws.has("an event is left out") && type === "TaskRetried")) this.#record(task, type, attempt)
    return task.version
  }

  #record(task: TaskRow, type: EventType, attempt: number | null): void {
    const event = { number: task.version, type, attempt, epoch: task.epoch, status: task.status, at: this.#at }
    this.events.get(task.id)?.push(event)
    for (const listener of this.listeners) listener(task, event)
  }

  changeOf(task: TaskRow, event: EventType, agentId: string | null = task.agent_id): Change {
    const { id, namespace, status, trace, version } = task
    const data = null
    return { id, namespace, number: version, event, at: new Date(this.#at), status, agent_id: agentId, trace, data }
  }

  /** `dependencies_resolve`: down the graph from tasks that have ended. */
  resolve(ended: ReadonlyArray<TaskRow>): ReadonlyArray<Change> {
    if (this.flaws.has("ends release nobody")) return []
    const changes: Array<Change> = []
    let level = ended.filter(({ status }) => isTerminal(status))
    while (level.length > 0) {
      const counted = new Map<string, { counts: number; fails: boolean; skips: boolean }>()
      for (const parent of level) {
        const done = parent.status === "completed"
        const skipped = parent.status === "cancelled" && parent.result?.error?.code === "skipped"
        for (const edge of this.children.get(parent.id) ?? []) {
          if (edge.resolved) continue
          edge.resolved = true
          const required = edge.required && !skipped
          const satisfied = done || edge.on_ended || (skipped && edge.runs_if_skipped)
          const child = counted.get(edge.child) ?? { counts: 0, fails: false, skips: false }
          child.counts++
          child.fails ||= !satisfied && required
          child.skips ||= !satisfied && !required
          counted.set(edge.child, child)
        }
      }
      const next: Array<TaskRow> = []
      for (const task of this.sorted(({ id }) => counted.has(id))) {
        const of = counted.get(task.id)
        if (of === undefined || task.status !== "pending" || task.waiting_for !== "dependencies") continue
        const open = this.flaws.has("one parent is enough") ? 0 : task.dependencies_open - of.counts
        task.dependencies_open -= of.counts
        if (of.fails || of.skips) {
          task.status = of.fails ? "failed" : "cancelled"
          task.waiting_for = null
          task.result = { success: false, error: { code: of.fails ? "dependency_failed" : "skipped" } }
          this.step(task, of.fails ? "TaskFailed" : "TaskCancelled")
          changes.push(this.changeOf(task, of.fails ? "TaskFailed" : "TaskCancelled"))
          if (task.has_dependents) next.push(task)
          continue
        }
        if (open > 0) continue
        task.waiting_for =
          task.run_at !== null && task.run_at > this.#at ? "time" : task.agent_id === null ? "agent" : null
        task.status = task.waiting_for === null ? "queued" : "pending"
        this.step(task, "TaskQueued")
        changes.push(this.changeOf(task, "TaskQueued"))
      }
      level = next
    }
    return changes
  }
}

export const leaseKey = (agentId: string, index: number) => `${agentId}/${index}`

export const laneNumber = (lane: TaskPriority): number => priorities.indexOf(lane)
