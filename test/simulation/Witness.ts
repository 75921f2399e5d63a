/**
 * What must hold in every simulated world, watched as it happens and looked over at the end.
 *
 * The witness hears every event in the order of commits and every run of a behaviour, and keeps its own books: it shares no
 * decision with the model that it watches.
 */
import { isTerminal, type TaskStatus } from "../../protocol/Task.ts"
import type { SimAgents } from "./SimAgents.ts"
import { type EventRow, leaseKey, type Tables, type TaskRow } from "./Tables.ts"
import { type Run, short } from "./Work.ts"

/** A broken promise: which one, and by what. */
export class Violation extends Error {
  readonly promise: string
  constructor(promise: string, what: string) {
    super(`${promise}: ${what}`)
    this.promise = promise
  }
}

interface Book {
  last: number
  ended: TaskStatus | undefined
  runs: number
}

/** What clients were told. */
export interface Told {
  readonly ids: ReadonlyArray<string>
  readonly key: string | undefined
}

export interface Witness {
  readonly onRun: (run: Run) => void
  /** Everything that must be true once nothing is left to do. */
  readonly atTheEnd: (told: ReadonlyArray<Told>, runs: ReadonlyArray<Run>) => void
}

export const watch = (tables: Tables, agents: () => SimAgents): Witness => {
  const books = new Map<string, Book>()
  /** Tasks that run, by the lease that they run under. */
  const running = new Map<string, Set<string>>()

  const broken = (promise: string, task: TaskRow | { readonly id: string }, what: string): never => {
    throw new Violation(promise, `${short(task.id)} ${what}`)
  }

  const concurrencyOf = (agentId: string | null) =>
    agents()
      .all()
      .find(({ id }) => id === agentId)?.configuration.max_concurrent_tasks ?? 0

  const parentsEnded = (task: TaskRow, doing: string) => {
    for (const edge of tables.parents.get(task.id) ?? []) {
      const parent = tables.tasks.get(edge.parent)
      const book = books.get(edge.parent)
      if (parent === undefined || book?.ended === undefined) {
        return broken("a task starts after its parents", task, `${doing} before ${short(edge.parent)} ended`)
      }
      if (edge.required && !edge.on_ended && book.ended !== "completed") {
        return broken("a task starts after its parents", task, `${doing} though ${short(edge.parent)} ${book.ended}`)
      }
    }
  }

  const started = (task: TaskRow, { attempt, epoch }: EventRow) => {
    if ((attempt ?? 0) > task.max_attempts) {
      broken("attempts are bounded", task, `attempt ${attempt} of ${task.max_attempts}`)
    }
    parentsEnded(task, "starts")
    const key = leaseKey(task.agent_id ?? "", task.instance)
    const lease = tables.leases.get(key)
    if (lease?.epoch !== epoch) {
      broken("only the present epoch starts tasks", task, `starts under epoch ${epoch} of ${lease?.epoch}`)
    }
    const others = running.get(key) ?? new Set()
    running.set(key, others)
    if (others.size >= concurrencyOf(task.agent_id)) {
      broken("an instance runs what it has slots for", task, `starts beside ${[...others].map(short).join(", ")}`)
    }
    others.add(task.id)
  }

  tables.listeners.push((task, event) => {
    const book = books.get(task.id) ?? { last: 0, ended: undefined, runs: 0 }
    books.set(task.id, book)
    if (event.number !== book.last + 1) {
      broken("events have no gaps", task, `has event ${event.number} after ${book.last}`)
    }
    book.last = event.number
    if (book.ended !== undefined) broken("an end is final", task, `${event.type} after it was ${book.ended}`)
    const ran = running.get(leaseKey(task.agent_id ?? "", task.instance))
    if (event.type === "TaskStarted") return started(task, event)
    if (event.type === "TaskCompleted" || event.type === "TaskRetried") {
      const lease = tables.leases.get(leaseKey(task.agent_id ?? "", task.instance))
      if (lease?.epoch !== event.epoch || ran?.has(task.id) !== true) {
        broken(
          "only the live attempt ends its task",
          task,
          `${event.type} under epoch ${event.epoch} of ${lease?.epoch}`
        )
      }
    }
    if (event.type !== "TaskProgressed") ran?.delete(task.id)
    if (isTerminal(event.status)) book.ended = event.status
  })

  const onRun = (run: Run) => {
    const task = tables.tasks.get(run.taskId)
    if (task === undefined) return broken("only accepted tasks run", { id: run.taskId }, "runs")
    parentsEnded(task, "runs")
    const book = books.get(run.taskId)
    // A claim that is given back before it has begun may come again; what has begun may not.
    if (book !== undefined && ++book.runs > 1 && task.at_most_once) {
      broken("what may run at most once runs at most once", task, `runs for the ${book.runs}. time`)
    }
    const claims = tables.events.get(run.taskId)?.filter(({ attempt, type }) => {
      return type === "TaskStarted" && attempt === run.number
    })
    if (!run.idempotent && (claims ?? []).length === 0) {
      broken("nothing runs without its claim", task, `runs attempt ${run.number} on ${run.node}`)
    }
  }

  const atTheEnd = (told: ReadonlyArray<Told>, runs: ReadonlyArray<Run>) => {
    const byKey = new Map<string, string>()
    for (const { ids, key } of told) {
      for (const id of ids) {
        if (!tables.tasks.has(id)) broken("what was acknowledged is there", { id }, "was acknowledged and is gone")
      }
      if (key === undefined) continue
      const same = byKey.get(key)
      const made = ids.join()
      if (same !== undefined && same !== made) {
        throw new Violation("a key makes one thing", `${key} made ${same} and ${made}`)
      }
      byKey.set(key, made)
    }
    const byName = new Map<string, string>()
    for (const task of tables.tasks.values()) {
      const book = books.get(task.id)
      if (book?.ended === undefined) broken("every task ends", task, `is ${task.status} (${task.waiting_for})`)
      if (book?.last !== task.version)
        broken("events have no gaps", task, `has ${book?.last} events of ${task.version}`)
      if (task.name.startsWith("key-")) {
        const other = byName.get(task.name)
        if (other !== undefined) broken("a key makes one thing", task, `is ${task.name} as ${short(other)} is`)
        byName.set(task.name, task.id)
      }
      if (task.status === "completed") {
        const made = runs.some(
          ({ how, number, taskId }) => taskId === task.id && how === "returned" && number === task.result?.data
        )
        if (!made) broken("a result comes from a run", task, `has the result ${JSON.stringify(task.result?.data)}`)
      }
    }
    for (const [key, tasks] of running) {
      const [left] = tasks
      if (left !== undefined) broken("no slot is kept", { id: left }, `is still counted at ${key}`)
    }
    strictlySerial(runs)
  }

  /** What one instance with one slot recorded did not overlap in the world outside either. */
  const strictlySerial = (runs: ReadonlyArray<Run>) => {
    const serial = new Set(
      agents()
        .all()
        .filter(({ configuration, type }) => configuration.max_concurrent_tasks === 1 && type === "worker")
        .map(({ id }) => `${id}`)
    )
    const recorded = new Map<string, Array<Run>>()
    for (const task of tables.tasks.values()) {
      if (task.status !== "completed" || task.agent_id === null || !serial.has(task.agent_id)) continue
      const run = runs.findLast(
        ({ how, number, taskId }) => taskId === task.id && how === "returned" && number === task.result?.data
      )
      const key = leaseKey(task.agent_id, task.instance)
      const own = recorded.get(key) ?? []
      recorded.set(key, own)
      if (run !== undefined) own.push(run)
    }
    for (const own of recorded.values()) {
      own.sort((one, other) => one.began - other.began)
      for (const [index, run] of own.entries()) {
        const next = own[index + 1]
        if (next !== undefined && next.began < (run.ended ?? 0)) {
          broken("a serial instance records one run at a time", { id: next.taskId }, `overlaps ${short(run.taskId)}`)
        }
      }
    }
  }

  return { onRun, atTheEnd }
}
