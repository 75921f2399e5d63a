/**
 * What the simulated Postgres does for each statement that the ledger sends: the functions of `sql/functions/` and the few
 * plain statements of `src/ledger/`, on `Tables`. `Calibration.test.ts` holds them against the real ones.
 *
 * A statement that is not known here fails the simulation, so that the model cannot fall behind unseen.
 */
import type { Schema } from "effect"
import type { TaskConfiguration, TaskPriority, TaskStatus } from "../../protocol/Task.ts"
import { isTerminal, priorities } from "../../protocol/Task.ts"
import { type Change, type DependencyRow, laneNumber, leaseKey, type Tables, type TaskRow } from "./Tables.ts"

type Params = ReadonlyArray<unknown>
type Rows = ReadonlyArray<object>

/** Name of what a statement does, for traces, and what does it. */
export interface Known {
  readonly name: string
  readonly run: (tables: Tables, params: Params) => Rows
}

export const find = (text: string): Known => {
  const called = /\bledger_[0-9a-f]+\.(\w+)\(/.exec(text)?.[1]
  if (called !== undefined) {
    const run = functions[called]
    if (run !== undefined) return { name: called, run }
  } else {
    const plain = statements.find(({ has }) => text.includes(has))
    if (plain !== undefined) return plain
  }
  throw new Error(`the simulated Postgres does not know this statement: ${text.slice(0, 200)}`)
}

const json = <A>(value: unknown): A => JSON.parse(String(value))

const momentOf = (text: string | undefined) => (text === undefined ? null : Date.parse(text))

// --- accept

interface NewRow {
  readonly o: number
  readonly id: string
  readonly namespace: string
  readonly name: string
  readonly type: string
  readonly agent_id?: string
  readonly lane: TaskPriority
  readonly max_attempts: number
  readonly at_most_once?: boolean
  readonly open?: number
  readonly dependents?: boolean
  readonly payload?: Schema.Json
  readonly configuration?: TaskConfiguration
  readonly parent_id?: string
  readonly graph_id?: string
  readonly run_at?: string
  readonly deadline?: string
  readonly actor: string
  readonly trace?: string
  readonly key?: string
  readonly fingerprint?: string
}

interface NewEdge {
  readonly child: string
  readonly parent: string
  readonly on_ended: boolean
  readonly required: boolean
  readonly runs_if_skipped?: boolean
}

const insert = (tables: Tables, row: NewRow) => {
  if (tables.tasks.has(row.id)) return false
  const runAt = momentOf(row.run_at)
  const waits =
    (row.open ?? 0) > 0
      ? "dependencies"
      : runAt !== null && runAt > tables.at
        ? "time"
        : row.agent_id === undefined
          ? "agent"
          : null
  tables.insert({
    id: row.id,
    namespace: row.namespace,
    name: row.name,
    type: row.type,
    agent_id: row.agent_id ?? null,
    status: waits === null ? "queued" : "pending",
    waiting_for: waits,
    lane: row.lane,
    max_attempts: row.max_attempts,
    at_most_once: row.at_most_once ?? false,
    dependencies_open: row.open ?? 0,
    has_dependents: row.dependents ?? false,
    payload: row.payload ?? null,
    configuration: row.configuration ?? null,
    parent_id: row.parent_id ?? null,
    graph_id: row.graph_id ?? null,
    run_at: runAt,
    deadline: momentOf(row.deadline),
    actor: row.actor,
    trace: row.trace ?? null,
    attempt: 0,
    epoch: 0,
    instance: 0,
    version: 1,
    result: null,
    created_at: tables.at,
    started_at: null
  })
  return true
}

const acceptSimple = (tables: Tables, [tasks]: Params): Rows =>
  json<ReadonlyArray<NewRow>>(tasks).flatMap((row): Rows => {
    if (tables.flaws.has("an accept is answered and not written") && row.name.endsWith("7")) {
      return [{ id: row.id, status: "queued", waiting_for: null, at: new Date(tables.at) }]
    }
    if (!insert(tables, row)) return []
    const { id, status, waiting_for } = tables.tasks.get(row.id) ?? {}
    return [{ id, status, waiting_for, at: new Date(tables.at) }]
  })

/** 72 hours. */
const keyMillis = 259_200_000

/** Puts a key down unless it was used; the row that stands for it then. */
const useKey = (tables: Tables, of: { namespace: string; key: string; fingerprint: string; id: string }) => {
  const at = `${of.namespace}/${of.key}`
  const known = tables.flaws.has("idempotency keys are forgotten") ? undefined : tables.keys.get(at)
  if (known !== undefined && known.created_at >= tables.at - keyMillis) return known
  const row = { fingerprint: of.fingerprint, resource_id: of.id, created_at: tables.at }
  tables.keys.set(at, row)
  return row
}

interface Refusal {
  readonly ordinal: number
  readonly outcome: "existing" | "unknown_parent" | "unknown_dependency"
  readonly id: string
  readonly same: boolean | null
  readonly at: number | null
}

const accept = (tables: Tables, [newTasks, newEdges, newGraph, atomic]: Params): Rows => {
  const rows = json<ReadonlyArray<NewRow>>(newTasks)
  const edges = json<ReadonlyArray<NewEdge>>(newEdges)
  const graph =
    newGraph === null
      ? undefined
      : json<{ id: string; namespace: string; key?: string; fingerprint?: string }>(newGraph)
  if (graph?.key !== undefined) {
    const { fingerprint = "", id, key, namespace } = graph
    const used = useKey(tables, { namespace, key, fingerprint, id })
    if (used.resource_id !== id) {
      const same = used.fingerprint === fingerprint
      const none = { status: null, waiting_for: null, name: null, type: null, agent_id: null }
      return [{ ordinal: -1, outcome: "existing", id: used.resource_id, at: new Date(used.created_at), same, ...none }]
    }
  }
  if (graph !== undefined) tables.graphs.add(graph.id)

  const isKnown = (id: string, namespace: string) => tables.tasks.get(id)?.namespace === namespace
  const batch = new Set(rows.map(({ id }) => id))
  const refusals: Array<Refusal> = []
  for (const { id, namespace, o, parent_id: parent } of rows) {
    if (parent !== undefined && !isKnown(parent, namespace)) {
      refusals.push({ ordinal: o, outcome: "unknown_parent", id: parent, same: null, at: null })
      continue
    }
    const unknown = edges
      .filter((edge) => edge.child === id && !batch.has(edge.parent) && !isKnown(edge.parent, namespace))
      .map((edge) => edge.parent)
      .sort()[0]
    if (unknown !== undefined) {
      refusals.push({ ordinal: o, outcome: "unknown_dependency", id: unknown, same: null, at: null })
    }
  }
  const isRefused = (ordinal: number) => refusals.some((refusal) => refusal.ordinal === ordinal)
  const keyed = rows.filter(({ key }) => key !== undefined)
  if (refusals.length === 0 || atomic !== true) {
    const existing: Array<Refusal> = []
    for (const { fingerprint = "", id, key = "", namespace, o } of keyed) {
      if (!isRefused(o)) useKey(tables, { namespace, key, fingerprint, id })
      const used = tables.keys.get(`${namespace}/${key}`)
      if (used === undefined || used.resource_id === id) continue
      const same = used.fingerprint === fingerprint
      existing.push({ ordinal: o, outcome: "existing", id: used.resource_id, same, at: used.created_at })
    }
    refusals.push(...existing)
  }
  const answerOf = ({ at, id, ordinal, outcome, same }: Refusal) => {
    const task = outcome === "existing" ? tables.tasks.get(id) : undefined
    return {
      ordinal,
      outcome,
      id,
      same,
      status: task?.status ?? null,
      waiting_for: task?.waiting_for ?? null,
      at: new Date(task?.created_at ?? at ?? tables.at),
      name: task?.name ?? null,
      type: task?.type ?? null,
      agent_id: task?.agent_id ?? null
    }
  }
  if (atomic === true && refusals.some(({ outcome, same }) => outcome !== "existing" || same !== true)) {
    for (const { id, key, namespace } of graph === undefined ? keyed : [...keyed, graph]) {
      if (tables.keys.get(`${namespace}/${key}`)?.resource_id === id) tables.keys.delete(`${namespace}/${key}`)
    }
    if (graph !== undefined) tables.graphs.delete(graph.id)
    return refusals.map(answerOf)
  }

  const refused = new Set(refusals.map(({ ordinal }) => ordinal))
  const added = new Set<string>()
  for (const row of rows) if (!refused.has(row.o) && insert(tables, row)) added.add(row.id)
  for (const { runs_if_skipped = false, ...edge } of edges) {
    if (added.has(edge.child)) addEdge(tables, { ...edge, runs_if_skipped, resolved: false })
  }
  const outside = [...new Set(edges.map(({ parent }) => parent))].flatMap((id) => tables.tasks.get(id) ?? [])
  for (const parent of outside) parent.has_dependents = true
  tables.resolve(outside.filter(({ status }) => isTerminal(status)))
  return [
    ...refusals.map(answerOf),
    ...rows.flatMap(({ id, o }) => {
      const task = refused.has(o) ? undefined : tables.tasks.get(id)
      if (task === undefined) return []
      const { status, waiting_for } = task
      const none = { same: null, name: null, type: null, agent_id: null }
      return [{ ordinal: o, outcome: "accepted", id, status, waiting_for, at: new Date(task.created_at), ...none }]
    })
  ]
}

const addEdge = (tables: Tables, edge: DependencyRow) => {
  for (const [index, id] of [
    [tables.children, edge.parent],
    [tables.parents, edge.child]
  ] as const) {
    const edges = index.get(id)
    if (edges === undefined) index.set(id, [edge])
    else edges.push(edge)
  }
}

// --- claim and settle

interface SlotRow {
  readonly slot: number
  readonly agent_id: string
  readonly index: number
  readonly epoch: number
}

/** Slots whose epoch is the present one. */
const heldSlots = (tables: Tables, slots: ReadonlyArray<SlotRow>) =>
  new Map(
    slots
      .filter(({ agent_id, epoch, index }) => {
        const lease = tables.leases.get(leaseKey(agent_id, index))
        return lease !== undefined && (lease.epoch === epoch || tables.flaws.has("claims ignore epochs"))
      })
      .map((slot) => [slot.slot, slot] as const)
  )

const claim = (tables: Tables, [newSlots, wanted, , again]: Params): Rows => {
  const slots = json<ReadonlyArray<SlotRow>>(newSlots)
  const tasks = json<ReadonlyArray<{ id: string; slot: number; behind: boolean; attempts?: number }>>(wanted)
  const held = heldSlots(tables, slots)
  const won: Array<object> = []
  const news = new Set<string>()
  for (const { attempts = 0, behind, id, slot } of tasks.toSorted(byId)) {
    const task = tables.tasks.get(id)
    const of = held.get(slot)
    if (task === undefined || of === undefined || task.status !== "queued" || task.agent_id !== of.agent_id) continue
    if (task.attempt !== attempts && !tables.flaws.has("claims ignore attempts")) continue
    if (task.attempt >= task.max_attempts) continue
    task.status = "running"
    if (!tables.flaws.has("a claim counts no attempt")) task.attempt++
    task.epoch = of.epoch
    task.instance = of.index
    task.started_at = tables.at
    const number = tables.step(task, "TaskStarted")
    news.add(id)
    const payload = behind ? task.payload : null
    won.push({ slot, id, attempt: task.attempt, number, at: new Date(tables.at), payload })
  }
  for (const { slot } of slots) {
    if (!held.has(slot)) won.push({ slot, id: null, attempt: null, number: null, at: null, payload: null })
  }
  if (again !== true || tables.flaws.has("a repeated claim finds nothing")) return won
  for (const { behind, id, slot } of tasks) {
    const task = tables.tasks.get(id)
    const of = slots.find((each) => each.slot === slot)
    if (task === undefined || of === undefined || news.has(id) || task.status !== "running") continue
    if (task.agent_id !== of.agent_id || task.instance !== of.index || task.epoch !== of.epoch) continue
    const payload = behind ? task.payload : null
    won.push({
      ...{ slot, id, attempt: task.attempt, number: task.version, payload },
      at: new Date(task.started_at ?? 0)
    })
  }
  return won
}

interface EndRow {
  readonly id: string
  readonly attempt: number
  readonly epoch: number
  readonly status: TaskStatus
  readonly result?: TaskRow["result"]
  readonly delay?: number
  readonly millis: number
  readonly slot?: number
}

const endEvents = {
  completed: "TaskCompleted",
  failed: "TaskFailed",
  timeout: "TaskTimedOut",
  pending: "TaskRetried",
  queued: "TaskQueued"
} as const

const settle = (tables: Tables, [newSlots, ends, , again]: Params): Rows => {
  const held = heldSlots(tables, json<ReadonlyArray<SlotRow>>(newSlots))
  const rows = json<ReadonlyArray<EndRow>>(ends)
  const answers: Array<object> = []
  const won = new Set<string>()
  const ended: Array<TaskRow> = []
  for (const end of rows.toSorted(byId)) {
    const task = tables.tasks.get(end.id)
    if (task === undefined) continue
    const slot = end.slot === undefined ? undefined : held.get(end.slot)
    const unfenced = tables.flaws.has("ends ignore attempts and epochs")
    const mayEnd =
      end.slot === undefined
        ? task.status === "running" && (unfenced || (task.attempt === end.attempt && task.epoch === end.epoch))
        : slot !== undefined &&
          task.status === "queued" &&
          task.attempt === end.attempt - 1 &&
          task.agent_id === slot.agent_id &&
          end.attempt <= task.max_attempts
    if (!mayEnd) continue
    won.add(end.id)
    if (tables.flaws.has("an end is answered and not written") && task.name.endsWith("3")) {
      answers.push({ id: task.id, number: task.version + 1, at: new Date(tables.at), child: null })
      continue
    }
    task.epoch = end.epoch
    if (slot !== undefined) {
      task.instance = slot.index
      task.attempt = end.attempt
      task.status = "running"
      task.started_at = tables.at - end.millis
      tables.step(task, "TaskStarted")
    }
    const given = end.status === "queued"
    const retried = end.status === "pending"
    task.status = end.status
    task.waiting_for = retried ? "retry" : null
    task.result = given || retried ? null : (end.result ?? null)
    if (retried) task.run_at = tables.at + (end.delay ?? 0)
    task.attempt = given ? task.attempt - 1 : end.attempt
    const type = endEvents[end.status as keyof typeof endEvents]
    const number = tables.step(task, type, end.attempt)
    if (task.has_dependents && !given && !retried) ended.push(task)
    answers.push({ id: task.id, number, at: new Date(tables.at), child: null })
  }
  if (again === true) {
    for (const end of rows) {
      const task = tables.tasks.get(end.id)
      if (task === undefined || won.has(end.id) || task.epoch !== end.epoch || task.status !== end.status) continue
      if (task.attempt !== (end.status === "queued" ? end.attempt - 1 : end.attempt)) continue
      answers.push({ id: task.id, number: task.version, at: new Date(tables.at), child: null })
    }
  }
  for (const child of tables.resolve(ended)) {
    answers.push({ id: child.id, number: child.number, at: child.at, child: { ...child, at: child.at.toISOString() } })
  }
  return answers
}

const byId = (one: { readonly id: string }, other: { readonly id: string }) => (one.id < other.id ? -1 : 1)

const progress = (tables: Tables, [reports]: Params): Rows =>
  json<ReadonlyArray<{ id: string; attempt: number; epoch: number }>>(reports).flatMap(({ attempt, epoch, id }) => {
    const task = tables.tasks.get(id)
    if (task?.status !== "running" || task.attempt !== attempt || task.epoch !== epoch) return []
    return [{ id, number: tables.step(task, "TaskProgressed"), at: new Date(tables.at) }]
  })

// --- instances

const takeOver = (tables: Tables, [agentId, index, node]: Params): Rows => {
  const key = leaseKey(String(agentId), Number(index))
  const lease = tables.leases.get(key)
  const epoch = (lease?.epoch ?? 0) + 1
  tables.leases.set(key, {
    ...{ agent_id: String(agentId), index: Number(index), epoch, node: String(node) },
    ...{ heartbeat: tables.at, status: "active" }
  })
  const changes: Array<Change> = []
  const ended: Array<TaskRow> = []
  const ran = tables.sorted((task) => task.agent_id === agentId && task.instance === index && task.status === "running")
  for (const task of tables.flaws.has("a takeover leaves what ran") ? [] : ran) {
    const once = task.at_most_once
    const over = once || (task.attempt >= task.max_attempts && !tables.flaws.has("a takeover counts no attempts"))
    task.status = over ? "failed" : "queued"
    if (over) task.result = { success: false, error: { code: once ? "unknown_outcome" : "instance_lost" } }
    tables.step(task, over ? "TaskFailed" : "TaskQueued")
    changes.push(tables.changeOf(task, over ? "TaskFailed" : "TaskQueued"))
    if (over && task.has_dependents) ended.push(task)
  }
  return [{ epoch, changes: [...changes, ...tables.resolve(ended)] }]
}

const heartbeat = (tables: Tables, [slots]: Params): Rows => {
  for (const { agent_id, epoch, index } of json<ReadonlyArray<SlotRow>>(slots)) {
    const lease = tables.leases.get(leaseKey(agent_id, index))
    if (lease?.epoch === epoch) lease.heartbeat = tables.at
  }
  return []
}

const hibernate = (tables: Tables, [agentId, index, epoch]: Params): Rows => {
  const lease = tables.leases.get(leaseKey(String(agentId), Number(index)))
  if (lease !== undefined && lease.epoch === epoch) lease.status = "hibernating"
  return []
}

const orphans = (tables: Tables, [silentMillis, limit]: Params): Rows =>
  [...tables.leases.values()]
    .filter(({ agent_id, heartbeat: heard, index }) => {
      if (heard >= tables.at - Number(silentMillis)) return false
      return [...tables.tasks.values()].some(
        (task) => task.agent_id === agent_id && task.instance === index && task.status === "running"
      )
    })
    .slice(0, Number(limit))
    .map(({ agent_id, index }) => ({ agent_id, index }))

const lost = (tables: Tables, [ids, agentId, index, epoch]: Params): Rows =>
  (ids as ReadonlyArray<string>).flatMap((id) => {
    const task = tables.tasks.get(id)
    const runs =
      task?.status === "running" && task.agent_id === agentId && task.instance === index && task.epoch === epoch
    return runs ? [] : [{ id }]
  })

// --- upkeep

const cancel = (tables: Tables, [namespace, ids]: Params): Rows => {
  const asked = new Set(ids as ReadonlyArray<string>)
  const changes: Array<Change> = []
  const ended: Array<TaskRow> = []
  for (const task of tables.sorted((each) => asked.has(each.id) && each.namespace === namespace)) {
    if (isTerminal(task.status) && !tables.flaws.has("a cancel ends what has ended")) continue
    const ran = task.status === "running"
    task.status = "cancelled"
    task.waiting_for = null
    task.result = { success: false, error: { code: "cancelled" } }
    tables.step(task, "TaskCancelled")
    changes.push(tables.changeOf(task, "TaskCancelled", ran ? task.agent_id : null))
    if (task.has_dependents) ended.push(task)
  }
  return [...changes, ...tables.resolve(ended)]
}

const queueDue = (tables: Tables, [limit]: Params): Rows =>
  [...tables.tasks.values()]
    .filter(
      ({ run_at: runAt, status, waiting_for: waits }) =>
        status === "pending" && (waits === "time" || waits === "retry") && runAt !== null && runAt <= tables.at
    )
    .sort((one, other) => (one.run_at ?? 0) - (other.run_at ?? 0))
    .slice(0, Number(limit))
    .map((task) => {
      task.status = task.agent_id === null ? "pending" : "queued"
      task.waiting_for = task.agent_id === null ? "agent" : null
      tables.step(task, "TaskQueued")
      return tables.changeOf(task, "TaskQueued")
    })

const expire = (tables: Tables, [limit]: Params): Rows => {
  const changes: Array<Change> = []
  const ended: Array<TaskRow> = []
  const due = [...tables.tasks.values()]
    .filter(({ deadline, status }) => deadline !== null && deadline <= tables.at && !isTerminal(status))
    .sort((one, other) => (one.deadline ?? 0) - (other.deadline ?? 0))
  for (const task of due.slice(0, Number(limit))) {
    const ran = task.status === "running"
    task.status = "timeout"
    task.waiting_for = null
    task.result = { success: false, error: { code: "deadline" } }
    tables.step(task, "TaskTimedOut")
    changes.push(tables.changeOf(task, "TaskTimedOut", ran ? task.agent_id : null))
    if (task.has_dependents) ended.push(task)
  }
  return [...changes, ...tables.resolve(ended)]
}

const waitsForAgent = ({ status, waiting_for }: TaskRow) => status === "pending" && waiting_for === "agent"

const assign = (tables: Tables, [namespace, type, agentId, limit]: Params): Rows =>
  tables
    .sorted((task) => waitsForAgent(task) && task.namespace === namespace && task.type === type)
    .slice(0, Number(limit))
    .map((task) => {
      task.agent_id = String(agentId)
      task.status = "queued"
      task.waiting_for = null
      tables.step(task, "TaskQueued")
      return tables.changeOf(task, "TaskQueued")
    })

const withoutAgent = (tables: Tables, [namespace, type, limit]: Params): Rows => {
  const kinds = new Map<string, { namespace: string; type: string }>()
  for (const task of tables.tasks.values()) {
    const after = task.namespace > String(namespace) || (task.namespace === namespace && task.type > String(type))
    if (waitsForAgent(task) && after) kinds.set(`${task.namespace}/${task.type}`, task)
  }
  return [...kinds]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .slice(0, Number(limit))
    .map(([, kind]) => ({ namespace: kind.namespace, type: kind.type }))
}

const agentsWithWork = (tables: Tables, [limit]: Params): Rows => {
  const agents = new Set<string>()
  for (const { agent_id: id, status } of tables.tasks.values()) {
    if (id !== null && (status === "queued" || status === "running")) agents.add(id)
  }
  return [...agents]
    .sort()
    .slice(0, Number(limit))
    .map((id) => ({ agents_with_work: id }))
}

// --- orders and results

const orderRow = (tables: Tables, task: TaskRow) => ({
  id: task.id,
  namespace: task.namespace,
  name: task.name,
  type: task.type,
  lane: task.lane,
  agent_id: task.agent_id,
  graph_id: task.graph_id,
  attempt: task.attempt,
  max_attempts: task.max_attempts,
  at_most_once: task.at_most_once,
  configuration: task.configuration,
  trace: task.trace,
  deadline: task.deadline === null ? null : written(task.deadline),
  parked_attempt: null,
  parked_position: null,
  limited: null,
  payload: task.payload,
  payload_behind: false,
  first_started_at:
    task.attempt > 0 && task.configuration?.retry?.total_ms !== undefined
      ? written(tables.events.get(task.id)?.find(({ type }) => type === "TaskStarted")?.at ?? 0)
      : null
})

/** A moment as Postgres writes it in JSON. */
const written = (moment: number) => new Date(moment).toISOString().replace(/\.?0*Z$/, "+00:00")

const ready = (tables: Tables, [ids]: Params): Rows =>
  (ids as ReadonlyArray<string>).flatMap((id) => {
    const task = tables.tasks.get(id)
    return task?.status === "queued" ? [orderRow(tables, task)] : []
  })

const backlog = (tables: Tables, [agentId, limit]: Params): Rows => {
  const queued = tables.sorted((task) => task.status === "queued" && task.agent_id === agentId)
  return priorities.flatMap((lane) =>
    queued
      .filter((task) => laneNumber(task.lane) === laneNumber(lane))
      .slice(0, Number(limit))
      .map((task) => orderRow(tables, task))
  )
}

const results = (tables: Tables, [namespace, ids]: Params): Rows =>
  (ids as ReadonlyArray<string>).flatMap((id) => {
    const task = tables.tasks.get(id)
    return task === undefined || task.namespace !== namespace
      ? []
      : [{ id, status: task.status, data: task.result?.data ?? null }]
  })

const earlier = (tables: Tables, [namespace, key, fingerprint]: Params): Rows => {
  const used = tables.keys.get(`${String(namespace)}/${String(key)}`)
  if (used === undefined || used.created_at < tables.at - keyMillis) return []
  const task = tables.tasks.get(used.resource_id)
  return [
    {
      id: used.resource_id,
      same: used.fingerprint === fingerprint,
      status: task?.status ?? null,
      waiting_for: task?.waiting_for ?? null,
      at: new Date(task?.created_at ?? used.created_at),
      name: task?.name ?? null,
      type: task?.type ?? null,
      agent_id: task?.agent_id ?? null
    }
  ]
}

const nothing = (): Rows => []
const counted = (): Rows => [{ count: 0 }]

const functions: Readonly<Record<string, Known["run"]>> = {
  task_accept_simple: acceptSimple,
  task_accept: accept,
  task_claim: claim,
  task_settle: settle,
  task_progress: progress,
  task_cancel: cancel,
  task_set_aside: nothing,
  instance_take_over: takeOver,
  instances_heartbeat: heartbeat,
  tasks_queue_due: queueDue,
  tasks_expire: expire,
  tasks_assign: assign,
  types_without_agent: withoutAgent,
  agents_with_work: agentsWithWork,
  dependencies_resume: nothing,
  awaits_expire: nothing,
  children_heal: nothing,
  tasks_start_expire: nothing,
  graphs_due: nothing,
  limits_open: nothing,
  limits_tidy: counted
}

const statements: ReadonlyArray<Known & { readonly has: string }> = [
  { name: "ready", has: "from tasks t where t.id = any ($1::uuid[]) and t.status::text = 'queued'", run: ready },
  { name: "backlog", has: "unnest(enum_range(null::task_lane))", run: backlog },
  { name: "results", has: "t.result -> 'data' as data from tasks t", run: results },
  { name: "earlier", has: "select k.resource_id as id", run: earlier },
  { name: "orphans", has: "from agent_instances i\n             where i.heartbeat <", run: orphans },
  { name: "lost", has: "select u.id from unnest($1::uuid[]) as u (id)", run: lost },
  { name: "hibernate", has: "update agent_instances set status = 'hibernating'", run: hibernate },
  { name: "tidy", has: "delete from agent_tallies", run: counted },
  { name: "tidy", has: "delete from idempotency_keys", run: counted },
  { name: "tidy", has: "task_deletions", run: counted },
  { name: "ask", has: "select 1", run: () => [{ one: 1 }] }
]
