/**
 * What tests of the ledger share: a ledger on a database of its own and a bus in memory, tasks as the scheduler would
 * hand them in, and the rows and events that came of them.
 */
import { Effect, Layer, References } from "effect"
import { SqlClient } from "effect/sql"
import { Ledger, type NewTask, type RunningTask, type Settlement, type Slot } from "../../actors/ports/Ledger.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import { type AgentId, Namespace, NodeName, TaskId } from "../../protocol/Ids.ts"
import type { TaskError, TaskStatus, WaitingFor } from "../../protocol/Task.ts"
import { invariants } from "../../src/ledger/Invariants.ts"
import * as PostgresLedger from "../../src/ledger/PostgresLedger.ts"
import * as MemoryBus from "../support/MemoryBus.ts"
import * as Database from "./Database.ts"

export const home = Namespace.make("default")

/** A ledger as node `n1` has it, with the database and the bus below it. */
export const layer = PostgresLedger.layer(NodeName.make("n1")).pipe(
  Layer.provideMerge(MemoryBus.layer),
  Layer.provideMerge(Database.layer),
  // Warnings of what a test provokes say nothing.
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
)

/** A second node's ledger on the same database. */
export const otherNode = Effect.map(Layer.build(Layer.fresh(PostgresLedger.layer(NodeName.make("n2")))), (context) =>
  Ledger.pipe(Effect.provide(context))
).pipe(Effect.flatten)

/** A task for nobody, with nothing to wait for; `over` says what is otherwise. */
export const task = (over: Partial<NewTask> = {}) =>
  Effect.map(
    UuidV7,
    (ids): NewTask => ({
      id: TaskId.make(ids.next()),
      namespace: home,
      name: "a task",
      type: "echo.say",
      description: undefined,
      agentId: undefined,
      lane: "normal",
      payload: undefined,
      configuration: undefined,
      maxAttempts: 5,
      atMostOnce: false,
      labels: undefined,
      metadata: undefined,
      parentId: undefined,
      graphId: undefined,
      graphKey: undefined,
      retryOf: undefined,
      runAt: undefined,
      deadline: undefined,
      actor: "key:test",
      trace: undefined,
      dependencies: [],
      idempotency: undefined,
      step: undefined,
      failsGraph: false,
      ...over
    })
  )

export const tasks = (count: number, over: (index: number) => Partial<NewTask> = () => ({})) =>
  Effect.forEach(Array.from({ length: count }), (_, index) => task(over(index)))

let agents = 0
/** A new agent that takes any task given to it. */
export const agent = Effect.suspend(() => Database.insertAgent(`agent-${++agents}`))

/** The lease of an agent's instance, freshly taken. */
export const lease = Effect.fnUntraced(function* (agentId: AgentId, index = 0) {
  const ledger = yield* Ledger
  const { epoch } = yield* ledger.takeOver({ agentId, index })
  return { namespace: home, agentId, index, epoch } satisfies Slot
})

export const orderOf = (of: NewTask, over: Partial<TaskOrder> = {}): TaskOrder => ({
  id: of.id,
  namespace: of.namespace,
  name: of.name,
  type: of.type,
  lane: of.lane,
  max_attempts: of.maxAttempts,
  ...over
})

/** An agent with one instance, and `count` of its tasks running there. */
export const running = Effect.fnUntraced(function* (
  count: number,
  over: (index: number) => Partial<NewTask> = () => ({})
) {
  const ledger = yield* Ledger
  const agentId = yield* agent
  const slot = yield* lease(agentId)
  const accepted = yield* tasks(count, (index) => ({ agentId, ...over(index) }))
  yield* ledger.accept(accepted)
  const runs = yield* claim(slot, accepted)
  if (runs.length !== count) return yield* Effect.die(new Error(`${runs.length} of ${count} tasks were claimed`))
  return { agentId, slot, tasks: accepted, runs }
})

/** Claims these tasks. Those that were won, ready to be settled, in the order given. */
export const claim = Effect.fnUntraced(function* (slot: Slot, wanted: ReadonlyArray<NewTask>) {
  const ledger = yield* Ledger
  const { claimed: fresh } = yield* ledger.claim(
    slot,
    wanted.map((each) => orderOf(each))
  )
  // An order that knows of fewer attempts than there were wins nothing: the others are asked for as they stand.
  const missing = new Set(wanted.map(({ id }) => id)).difference(new Set(fresh.map(({ id }) => id)))
  const queued = missing.size === 0 ? [] : yield* Effect.orDie(ledger.backlog(slot.agentId, { limit: 10_000 }))
  const outdated = queued.filter(({ attempts = 0, id }) => attempts > 0 && missing.has(id))
  const again = outdated.length === 0 ? [] : (yield* ledger.claim(slot, outdated)).claimed
  const attempts = new Map([...fresh, ...again].map(({ id, attempt }) => [id, attempt] as const))
  return wanted.flatMap(({ id, namespace }): ReadonlyArray<RunningTask> => {
    const attempt = attempts.get(id)
    return attempt === undefined ? [] : [{ id, namespace, attempt, trace: undefined }]
  })
})

export const completed: Settlement = { _tag: "Completed", data: { ok: true }, dataBytes: 11, executionMillis: 1.5 }
const error: TaskError = { code: "no", message: "it did not work" }
export const failed: Settlement = { _tag: "Failed", error, executionMillis: 2 }
export const timedOut: Settlement = { _tag: "TimedOut", error, executionMillis: 3 }
export const released: Settlement = { _tag: "Released" }
export const retryAfter = (delayMillis: number): Settlement => ({
  _tag: "Retry",
  error,
  delayMillis,
  executionMillis: 4
})

export interface TaskRow {
  readonly status: TaskStatus
  readonly waiting_for: WaitingFor | null
  readonly attempt: number
  readonly epoch: number
  readonly version: number
  readonly agent_id: string | null
  readonly dependencies_open: number
  readonly result: { readonly data?: unknown; readonly error?: TaskError } | null
  readonly progress: unknown
  readonly created_at: Date
}

/** The stored row; undefined when there is none. */
export const row = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<TaskRow>`
    select status, waiting_for, attempt, epoch, version, agent_id, dependencies_open, result, progress, created_at
    from tasks where id = ${id}
  `
  return rows[0]
})

/** Rows in the order of the ids; missing ones left out. */
export const rows = Effect.fnUntraced(function* (ids: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<TaskRow & { readonly id: string }>`
    select t.id, status, waiting_for, attempt, epoch, version, agent_id, dependencies_open, result, progress, created_at
    from unnest(${ids}::uuid[]) with ordinality u (id, at) join tasks t on t.id = u.id order by u.at
  `
})

export const statuses = (ids: ReadonlyArray<string>) => Effect.map(rows(ids), (all) => all.map(({ status }) => status))

/** Recorded events of a task, in order. */
export const eventsOf = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{
    readonly number: number
    readonly type: string
    readonly data: unknown
    readonly actor: string | null
  }>`
    select number, type, data, actor from events where aggregate = ${id} order by number
  `
})

export const eventTypes = (id: string) => Effect.map(eventsOf(id), (events) => events.map(({ type }) => type))

/** What `datamcp verify` would say of all tasks. Should always be nothing. */
export const brokenHistories = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const ids = (yield* sql<{ readonly id: string }>`select id from tasks`).map(({ id }) => id)
  const found = yield* Effect.forEach(invariants, ({ id, over, query }) =>
    over === "tasks"
      ? Effect.map(sql.unsafe<object>(query, [ids]), (rows) => rows.map((row) => ({ check: id, ...row })))
      : Effect.succeed([])
  )
  return found.flat()
})

export const countRows = Effect.fnUntraced(function* (table: string) {
  const sql = yield* SqlClient.SqlClient
  const [counted] = yield* sql<{ readonly count: number }>`select count(*)::int as count from ${sql(table)}`
  return counted?.count ?? 0
})
