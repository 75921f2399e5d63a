/**
 * How tasks are accepted: one call of `task_accept` for what the scheduler gathered, and what it answers for each task. Those
 * with conditions go by a call of their own, so that others need not know of them.
 */
import { Duration, Effect, Metric, Semaphore } from "effect"
import type { AcceptOutcome, Ledger, LedgerUnavailable, NewGraph, NewTask } from "../../actors/ports/Ledger.ts"
import type { Event } from "../../protocol/Event.ts"
import type { AgentId, TaskType } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { TaskStatus, WaitingFor } from "../../protocol/Task.ts"
import type { Admitting } from "./Admitting.ts"
import type { Committing, StatementRefused } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import { messageOf } from "./Postgres.ts"
import * as TaskRows from "./TaskRows.ts"

interface AcceptRow {
  readonly ordinal: number
  readonly outcome:
    | "accepted"
    | "existing"
    | "unknown_parent"
    | "unknown_dependency"
    | "held"
    | "coalesced"
    | "unlike"
    | "changed"
  readonly id: string | null
  readonly status: TaskStatus | null
  readonly waiting_for: WaitingFor | null
  readonly at: Date
  readonly same: boolean | null
  readonly name: string | null
  readonly type: TaskType | null
  readonly agent_id: AgentId | null
  /** Of `task_accept_conditional`: what differs, and the event of a task that was joined. */
  readonly field?: string | null
  readonly change?: (TaskRows.ChangeRow & { readonly actor: string }) | null
}

/** A row of `task_accept_simple`. */
interface StoredRow {
  readonly id: string
  readonly status: TaskStatus
  readonly waiting_for: WaitingFor | null
  readonly at: Date
}

/** A stored row as the whole statement answers for it. Rows come in the order of the tasks, though nothing promises it. */
const acceptedRow = (row: StoredRow, tasks: ReadonlyArray<NewTask>, index: number): AcceptRow => {
  const ordinal = tasks[index]?.id === row.id ? index : tasks.findIndex(({ id }) => id === row.id)
  return { ...row, ordinal, outcome: "accepted", same: null, name: null, type: null, agent_id: null }
}

export const make = Effect.fnUntraced(function* (committing: Committing, admitting: Admitting) {
  const { commit, limits, publish, rowsOf, sql } = committing

  const acceptRows = (
    tasks: ReadonlyArray<NewTask>,
    options: {
      readonly simple: "plain" | "limited" | false
      readonly conditional: boolean
      readonly atomic: boolean
      readonly graph: NewGraph | undefined
    }
  ) =>
    Effect.gen(function* () {
      const parents = new Set<string>()
      for (const task of tasks) for (const dependency of task.dependencies) parents.add(dependency.task_id)
      const rows = `[${tasks.map((task, ordinal) => TaskRows.acceptRow(task, ordinal, parents.has(task.id))).join(",")}]`
      const edges = options.simple !== false ? "[]" : TaskRows.dependencyRows(tasks)
      const graph =
        options.graph === undefined
          ? null
          : JSON.stringify({
              id: options.graph.id,
              namespace: options.graph.namespace,
              name: options.graph.name,
              key: options.graph.idempotency?.key,
              fingerprint: options.graph.idempotency?.fingerprint,
              on_failure: options.graph.onFailure,
              retry_of: options.graph.retryOf,
              references: options.graph.references
            })
      yield* Metric.update(Metrics.ledgerBatchSize({ operation: "accept" }), tasks.length)
      const whole = (again: boolean) => {
        // A repetition may only read, and so wait for no standby: a word in the log of writes makes its commit wait for all before it.
        const heard = again ? `(select pg_logical_emit_message(true, 'datamcp', 'again')) heard, ` : ""
        return options.conditional
          ? sql.unsafe<AcceptRow>(
              `select a.* from ${heard}${ledger}.task_accept_conditional($1::json, $2::json, $3::json, $4::boolean, $5::int) a`,
              [rows, edges, graph, options.atomic, Limits.payloadBytesMax]
            )
          : sql.unsafe<AcceptRow>(
              `select a.* from ${heard}${ledger}.task_accept($1::json, $2::json, $3::json, $4::boolean) a`,
              [rows, edges, graph, options.atomic]
            )
      }
      const simple =
        options.simple === "limited"
          ? sql.unsafe<StoredRow>(`select * from ${ledger}.task_accept_limited($1::json, $2::json)`, [
              rows,
              TaskRows.wantedRows(tasks)
            ])
          : sql.unsafe<StoredRow>(`select * from ${ledger}.task_accept_simple($1::json)`, [rows])
      const answers = yield* commit<AcceptRow | StoredRow>(
        "accept",
        // What an unknown commit may have stored, only the whole statement answers for.
        (again) => (options.simple === false || again ? whole(again) : simple),
        // A large graph takes Postgres its time: a second for 10,000 tasks, two for 64 MiB.
        Duration.sum(limits.patience, Duration.millis(tasks.length + (rows.length + edges.length) / 8_192))
      )
      return yield* acceptOutcomes(tasks, answers)
    })

  const acceptOutcomes = (tasks: ReadonlyArray<NewTask>, rows: ReadonlyArray<AcceptRow | StoredRow>) => {
    const answers = rows.map((row, index) => ("ordinal" in row ? row : acceptedRow(row, tasks, index)))
    const outcomes: Array<AcceptOutcome> = []
    const events: Array<Event> = []
    let graphAnswer: Existing | undefined
    for (const row of answers) {
      const task = tasks[row.ordinal]
      const at = row.at.toISOString()
      if (row.outcome === "accepted" && task !== undefined && row.status !== null) {
        outcomes[row.ordinal] = {
          _tag: "Accepted",
          status: row.status,
          waitingFor: row.waiting_for ?? undefined,
          createdAt: at
        }
        if (row.waiting_for === "capacity") admitting.wake(task.namespace)
        events.push({
          type: "TaskCreated",
          kind: "task",
          aggregate: task.id,
          number: 1,
          at,
          namespace: task.namespace,
          actor: task.actor,
          trace: task.trace ?? null,
          data: row.waiting_for === null ? null : { waiting_for: row.waiting_for }
        })
      } else if (row.outcome === "changed") {
        const { change } = row
        if (change !== undefined && change !== null && TaskRows.isFact(change))
          events.push(TaskRows.changeEvent(change, change.actor))
      } else if (row.outcome === "held") {
        outcomes[row.ordinal] = { _tag: "Held", id: row.id ?? undefined, ...standing(row) }
      } else if (row.outcome === "coalesced") {
        outcomes[row.ordinal] = { _tag: "Coalesced", id: row.id ?? "", ...standing(row) }
      } else if (row.outcome === "unlike") {
        outcomes[row.ordinal] = { _tag: "Unlike", id: row.id ?? "", field: row.field ?? "" }
      } else if (row.outcome === "existing") {
        const existing = existingOf(row)
        if (row.ordinal < 0) graphAnswer = existing
        else outcomes[row.ordinal] = existing
      } else if (row.outcome !== "accepted") {
        outcomes[row.ordinal] = {
          _tag: "UnknownTask",
          field: row.outcome === "unknown_parent" ? "parent_id" : "dependencies",
          id: row.id ?? ""
        }
      }
    }
    // Rows without an answer of their own: the graph was there before, or it was all or none, and it was none.
    const shared: AcceptOutcome = graphAnswer ?? { _tag: "Undone" }
    for (let index = 0; index < tasks.length; index++) outcomes[index] ??= shared
    return Effect.as(Effect.andThen(Metric.update(Metrics.tasksAccepted, events.length), publish(events)), outcomes)
  }

  const isSimple = (task: NewTask) =>
    task.dependencies.length === 0 &&
    task.parentId === undefined &&
    task.graphId === undefined &&
    task.idempotency === undefined &&
    task.conditions === undefined

  const simplicity = (tasks: ReadonlyArray<NewTask>) =>
    tasks.every(isSimple) && (tasks.some(({ limits }) => limits !== undefined) ? "limited" : "plain")

  /** One transaction; when it is refused for a mistake in one task, halves, until only that one is refused. */
  const acceptEach = (
    tasks: ReadonlyArray<NewTask>
  ): Effect.Effect<ReadonlyArray<AcceptOutcome>, LedgerUnavailable> => {
    const conditional = isConditional(tasks)
    return conditional && !tasks.every(hasConditions)
      ? acceptParted(tasks)
      : acceptAlike(tasks, { simple: simplicity(tasks), conditional, atomic: false, graph: undefined })
  }

  /** Those with conditions after the others: each kind in its own transaction, outcomes in the order of the tasks. */
  const acceptParted = Effect.fnUntraced(function* (tasks: ReadonlyArray<NewTask>) {
    const plain = tasks.filter((task) => !hasConditions(task))
    const conditional = tasks.filter(hasConditions)
    const first = (yield* acceptEach(plain)).values()
    const second = (yield* acceptEach(conditional)).values()
    return tasks.map((task): AcceptOutcome => {
      const next = (hasConditions(task) ? second : first).next()
      return next.done === true ? { _tag: "Undone" } : next.value
    })
  })

  const acceptAlike = (
    tasks: ReadonlyArray<NewTask>,
    options: Parameters<typeof acceptRows>[1]
  ): Effect.Effect<ReadonlyArray<AcceptOutcome>, LedgerUnavailable> =>
    acceptRows(tasks, options).pipe(
      Effect.catchTag("StatementRefused", (refused) => {
        if (tasks.length === 1) return refusedAll(tasks, refused)
        const middle = tasks.length >> 1
        return Effect.zipWith(acceptEach(tasks.slice(0, middle)), acceptEach(tasks.slice(middle)), (first, second) => [
          ...first,
          ...second
        ])
      })
    )

  const refusedAll = (tasks: ReadonlyArray<NewTask>, refused: StatementRefused) =>
    Effect.as(
      Effect.logWarning("a task cannot be stored", messageOf(refused.error)),
      tasks.map((): AcceptOutcome => ({ _tag: "Refused", message: messageOf(refused.error) }))
    )

  // Whole graphs are large transactions: one at a time leaves room for everybody else.
  const atomically = yield* Semaphore.make(1)
  const acceptAll = (tasks: ReadonlyArray<NewTask>, graph: NewGraph | undefined) =>
    atomically
      .withPermit(acceptRows(tasks, { simple: false, conditional: isConditional(tasks), atomic: true, graph }))
      .pipe(Effect.catchTag("StatementRefused", (refused) => refusedAll(tasks, refused)))

  const accept: Ledger["Service"]["accept"] = (tasks, options) =>
    options?.atomic === true ? acceptAll(tasks, options.graph) : acceptEach(tasks)

  const earlier: Ledger["Service"]["earlier"] = (namespace, { fingerprint, key }) =>
    Effect.map(
      rowsOf<Omit<AcceptRow, "ordinal" | "outcome">>(
        "earlier",
        `select k.resource_id as id, k.fingerprint = decode($3::text, 'hex') as same, t.status, t.waiting_for,
           coalesce(t.created_at, k.created_at) as at, t.name, t.type, t.agent_id
         from idempotency_keys k left join tasks t on t.id = k.resource_id
         where k.namespace = $1::text and k.key = $2::text and k.created_at >= now() - interval '72 hours'`,
        [namespace, key, fingerprint]
      ),
      ([row]) => (row === undefined ? undefined : existingOf(row))
    )

  return { accept, earlier }
})

type Existing = Extract<AcceptOutcome, { readonly _tag: "Existing" }>

const hasConditions = ({ conditions }: NewTask): boolean => conditions !== undefined
const isConditional = (tasks: ReadonlyArray<NewTask>): boolean => tasks.some(hasConditions)

const existingOf = (row: Omit<AcceptRow, "ordinal" | "outcome">): Existing => ({
  _tag: "Existing",
  id: row.id ?? "",
  same: row.same === true,
  ...standing(row)
})

/** A task as it was found. */
const standing = (row: Omit<AcceptRow, "ordinal" | "outcome">) => ({
  status: row.status ?? "pending",
  waitingFor: row.waiting_for ?? undefined,
  createdAt: row.at.toISOString(),
  routed:
    row.name === null || row.type === null
      ? undefined
      : { name: row.name, type: row.type, agentId: row.agent_id ?? undefined }
})
