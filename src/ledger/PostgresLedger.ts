/**
 * The ledger on Postgres: every change of state is one function call of `sql/0002_ledger.sql`, batched, in one
 * transaction with its events, and answered after COMMIT. After that, events go out on the bus and tasks that became
 * ready go to `ready`; both may be lost without harm.
 *
 * A commit whose answer is lost is unknown: the same batch is sent again marked as repetition. Ids, attempts and epochs
 * make it find what the first one did, and the row locks make it wait for a first one that is still under way.
 */
import { Context, Duration, Effect, Layer, Metric, Queue, Schedule, Semaphore } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import { Bus } from "../../actors/ports/Bus.ts"
import {
  type AcceptOutcome,
  type Claimed,
  Ledger,
  LedgerUnavailable,
  type NewGraph,
  type NewTask,
  type Ready,
  type RunningTask,
  type Settlement,
  type Slot
} from "../../actors/ports/Ledger.ts"
import type { TaskOrder } from "../../protocol/Dispatch.ts"
import type { Event } from "../../protocol/Event.ts"
import type { AgentId, Namespace, NodeName, TaskId, TaskType } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import type { TaskProgress, TaskStatus, WaitingFor } from "../../protocol/Task.ts"
import * as Batcher from "./Batcher.ts"
import { isTransient } from "./Postgres.ts"
import * as TaskRows from "./TaskRows.ts"

/** Bounds of the ledger's batches. */
export const LedgerLimits = Context.Reference<{
  /** Most changes of one transaction. */
  readonly rowsMax: number
  /** Most bytes of one transaction. */
  readonly bytesMax: number
  /** Transactions in flight per kind of change. */
  readonly workers: number
  /** Changes of one kind that may wait; more suspend their callers. */
  readonly waitingMax: number
  /** Tasks that wait in `ready`; older ones give way and are found by the reconciler. */
  readonly readyMax: number
  /** How long an accept or claim is repeated while Postgres is away before its caller is told so. */
  readonly patience: Duration.Duration
}>("datamcp/ledger/LedgerLimits", {
  defaultValue: () => ({
    rowsMax: 500,
    bytesMax: 4 * 1024 * 1024,
    workers: 2,
    waitingMax: 20_000,
    readyMax: 20_000,
    patience: Duration.seconds(2)
  })
})

/** The statement itself was refused: a mistake in one row, which other rows need not share. */
class StatementRefused {
  readonly _tag = "StatementRefused"
  readonly error: SqlError
  constructor(error: SqlError) {
    this.error = error
  }
}

type CommitError = LedgerUnavailable | StatementRefused

interface Ending {
  readonly slot: Slot
  readonly task: RunningTask
  readonly end: Settlement
}

interface Wanted {
  readonly slot: Slot
  readonly orders: ReadonlyArray<TaskOrder>
}

interface AcceptRow {
  readonly ordinal: number
  readonly outcome: "accepted" | "existing" | "unknown_parent" | "unknown_dependency"
  readonly id: string
  readonly status: TaskStatus | null
  readonly waiting_for: WaitingFor | null
  readonly at: Date
  readonly same: boolean | null
}

const repeatedly = Schedule.jittered(
  Schedule.min([Schedule.exponential("50 millis", 1.6), Schedule.spaced("1 second")])
)

const make = (node: NodeName) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const bus = yield* Bus
    const limits = yield* LedgerLimits
    const actor = `node:${node}`
    const ready = yield* Queue.sliding<Ready>(limits.readyMax)

    /**
     * Runs a statement until its outcome is known: repeated while Postgres is away, for `patience` or for ever.
     */
    const commit = <Row extends object>(
      operation: string,
      statement: (again: boolean) => Effect.Effect<ReadonlyArray<Row>, SqlError>,
      patience: Duration.Duration | "endless"
    ): Effect.Effect<ReadonlyArray<Row>, CommitError> =>
      Effect.suspend(() => {
        let again = false
        const once = Effect.suspend(() => statement(again)).pipe(
          Effect.mapError((error) => {
            again = true
            return isTransient(error)
              ? new LedgerUnavailable({ operation, message: error.reason.message })
              : new StatementRefused(error)
          })
        )
        const retried = Effect.retry(once, {
          schedule: repeatedly,
          while: (error) => error._tag === "LedgerUnavailable"
        })
        return patience === "endless"
          ? retried
          : Effect.timeoutOrElse(retried, {
              duration: patience,
              orElse: () =>
                Effect.fail(new LedgerUnavailable({ operation, message: "Postgres did not answer in time" }))
            })
      }).pipe(Effect.trackDuration(Metrics.ledgerCommitSeconds({ operation }), Duration.toSeconds))

    /** For callers that hand in single rows: a refused statement is a defect of ours, since input was checked before. */
    const refusedIsDefect = <A, R>(effect: Effect.Effect<A, CommitError, R>): Effect.Effect<A, LedgerUnavailable, R> =>
      Effect.catchTag(effect, "StatementRefused", (refused) => Effect.die(refused.error))

    const publish = (events: ReadonlyArray<Event>) => (events.length === 0 ? Effect.void : bus.publishEvents(events))

    /** Hands queued tasks to whoever dispatches. Failing to is no harm: the reconciler finds them. */
    const offerReady = (ids: ReadonlyArray<string>) =>
      ids.length === 0
        ? Effect.void
        : sql
            .unsafe<TaskRows.OrderRow>(
              `select ${TaskRows.orderColumns} from tasks t where t.id = any ($1::uuid[]) and t.status = 'queued'`,
              [ids]
            )
            .pipe(
              Effect.flatMap((rows) =>
                Queue.offerAll(
                  ready,
                  rows.map((row) => ({ agentId: row.agent_id, order: TaskRows.orderOfRow(row) }))
                )
              ),
              Effect.catch((error) => Effect.logDebug("ready tasks are left to the reconciler", error.message))
            )

    const announce = (changes: ReadonlyArray<TaskRows.ChangeRow>) =>
      changes.length === 0
        ? Effect.void
        : Effect.andThen(
            publish(changes.map((change) => TaskRows.changeEvent(change, actor))),
            offerReady(changes.filter((change) => change.status === "queued").map((change) => change.id))
          )

    // --- accept

    const acceptRows = (
      tasks: ReadonlyArray<NewTask>,
      options: { readonly simple: boolean; readonly atomic: boolean; readonly graph: NewGraph | undefined }
    ) =>
      Effect.gen(function* () {
        const parents = new Set<string>()
        for (const task of tasks) for (const dependency of task.dependencies) parents.add(dependency.task_id)
        const rows = `[${tasks.map((task, ordinal) => TaskRows.acceptRow(task, ordinal, parents.has(task.id))).join(",")}]`
        const edges = options.simple ? "[]" : TaskRows.dependencyRows(tasks)
        const graph =
          options.graph === undefined
            ? null
            : JSON.stringify({
                id: options.graph.id,
                namespace: options.graph.namespace,
                name: options.graph.name,
                key: options.graph.idempotency?.key,
                fingerprint: options.graph.idempotency?.fingerprint
              })
        const answers = yield* commit<AcceptRow>(
          "accept",
          () =>
            sql.unsafe("select * from task_accept($1::json, $2::json, $3::json, $4::boolean, $5::boolean)", [
              rows,
              edges,
              graph,
              options.atomic,
              options.simple
            ]),
          limits.patience
        )
        return yield* acceptOutcomes(tasks, answers)
      })

    const acceptOutcomes = (tasks: ReadonlyArray<NewTask>, answers: ReadonlyArray<AcceptRow>) => {
      const outcomes: Array<AcceptOutcome> = []
      const events: Array<Event> = []
      const at = answers[0]?.at.toISOString() ?? ""
      let graphAnswer: AcceptOutcome | undefined
      for (const row of answers) {
        const task = tasks[row.ordinal]
        if (row.outcome === "accepted" && task !== undefined && row.status !== null) {
          outcomes[row.ordinal] = {
            _tag: "Accepted",
            status: row.status,
            waitingFor: row.waiting_for ?? undefined,
            createdAt: at
          }
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
        } else if (row.outcome === "existing") {
          const existing: AcceptOutcome = {
            _tag: "Existing",
            id: row.id,
            same: row.same === true,
            status: row.status ?? "pending",
            waitingFor: row.waiting_for ?? undefined,
            createdAt: row.at.toISOString()
          }
          if (row.ordinal < 0) graphAnswer = existing
          else outcomes[row.ordinal] = existing
        } else if (row.outcome !== "accepted") {
          outcomes[row.ordinal] = {
            _tag: "UnknownTask",
            field: row.outcome === "unknown_parent" ? "parent_id" : "dependencies",
            id: row.id
          }
        }
      }
      // All or none, and it was none: rows without a refusal of their own share the first one's.
      const shared =
        graphAnswer ??
        outcomes.find((outcome) => outcome?._tag === "UnknownTask" || (outcome?._tag === "Existing" && !outcome.same))
      for (let index = 0; index < tasks.length; index++) {
        const outcome = outcomes[index] ?? shared
        if (outcome !== undefined) outcomes[index] = outcome
      }
      return Effect.as(Effect.andThen(Metric.update(Metrics.tasksAccepted, events.length), publish(events)), outcomes)
    }

    const batch = <A, B>(
      bytesOf: (request: A) => number,
      flush: (requests: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<B>, CommitError>
    ) =>
      Batcher.make<A, B, CommitError>({
        rowsMax: limits.rowsMax,
        bytesMax: limits.bytesMax,
        workers: limits.workers,
        waitingMax: limits.waitingMax,
        bytesOf,
        flush,
        isRefusal: (error) => error._tag === "StatementRefused"
      })

    const isSimple = (task: NewTask) =>
      task.dependencies.length === 0 && task.parentId === undefined && task.idempotency === undefined

    /** One transaction; when it is refused for a mistake in one task, halves, until only that one fails. */
    const acceptEach = (tasks: ReadonlyArray<NewTask>): Effect.Effect<ReadonlyArray<AcceptOutcome>, CommitError> =>
      acceptRows(tasks, { simple: tasks.every(isSimple), atomic: false, graph: undefined }).pipe(
        Effect.catchTag("StatementRefused", (refused) => {
          if (tasks.length === 1) return Effect.fail(refused)
          const middle = tasks.length >> 1
          return Effect.zipWith(
            acceptEach(tasks.slice(0, middle)),
            acceptEach(tasks.slice(middle)),
            (first, second) => [...first, ...second]
          )
        })
      )
    // Whole graphs are large transactions: one at a time leaves room for everybody else.
    const atomically = yield* Semaphore.make(1)
    const accept: Ledger["Service"]["accept"] = (tasks, options) =>
      refusedIsDefect(
        options?.atomic === true
          ? atomically.withPermit(acceptRows(tasks, { simple: false, atomic: true, graph: options.graph }))
          : acceptEach(tasks)
      )

    // --- claim

    const claimBatch = (wanted: ReadonlyArray<Wanted>) =>
      Effect.gen(function* () {
        const slots = wanted.map(({ slot }, index) => ({
          slot: index,
          agent_id: slot.agentId,
          index: slot.index,
          epoch: slot.epoch
        }))
        const tasks = wanted.flatMap(({ orders }, index) =>
          orders.map((order) => ({ id: order.id, slot: index, behind: order.payload_behind === true }))
        )
        // One order of locking for all batches.
        tasks.sort((left, right) => (left.id < right.id ? -1 : 1))
        const rows = yield* commit<{
          readonly slot: number
          readonly id: TaskId | null
          readonly attempt: number
          readonly number: number
          readonly at: Date
          readonly payload: Claimed["payload"] | null
        }>(
          "claim",
          (again) =>
            sql.unsafe("select * from task_claim($1::json, $2::json, $3::text, $4::boolean)", [
              JSON.stringify(slots),
              JSON.stringify(tasks),
              actor,
              again
            ]),
          limits.patience
        )
        const answers = wanted.map(() => ({ fenced: false, claimed: new Array<Claimed>() }))
        const orders = new Map(wanted.flatMap((entry) => entry.orders.map((order) => [order.id, order] as const)))
        const events: Array<Event> = []
        for (const row of rows) {
          const answer = answers[row.slot]
          if (answer === undefined) continue
          if (row.id === null) {
            answer.fenced = true
            continue
          }
          answer.claimed.push({ id: row.id, attempt: row.attempt, payload: row.payload ?? undefined })
          const order = orders.get(row.id)
          if (order === undefined) continue
          events.push({
            type: "TaskStarted",
            kind: "task",
            aggregate: row.id,
            number: row.number,
            at: row.at.toISOString(),
            namespace: order.namespace,
            actor,
            trace: order.trace ?? null,
            data: { attempt: row.attempt }
          })
        }
        yield* publish(events)
        yield* Metric.update(Metrics.tasksClaimed, events.length)
        return answers
      })

    const claimBatched = yield* batch((entry: Wanted) => 100 * entry.orders.length, claimBatch)
    const claim = (slot: Slot, orders: ReadonlyArray<TaskOrder>) => refusedIsDefect(claimBatched({ slot, orders }))

    // --- settle

    const settleBatch = (endings: ReadonlyArray<Ending>) =>
      Effect.gen(function* () {
        const rows = endings.map(({ slot, task, end }) => TaskRows.settleRow(slot, task, end))
        rows.sort((left, right) => (left.id < right.id ? -1 : 1))
        const answers = yield* commit<{
          readonly id: TaskId
          readonly number: number
          readonly at: Date
          readonly child: TaskRows.ChangeRow | null
        }>(
          "settle",
          (again) =>
            sql.unsafe("select * from task_settle($1::json, $2::text, $3::boolean)", [
              JSON.stringify(rows),
              actor,
              again
            ]),
          "endless"
        )
        const recorded = new Map<string, number>()
        const children: Array<TaskRows.ChangeRow> = []
        for (const row of answers) {
          if (row.child === null) recorded.set(row.id, row.number)
          else children.push(row.child)
        }
        const at = answers[0]?.at.toISOString() ?? ""
        const events: Array<Event> = []
        for (const { task, end } of endings) {
          const number = recorded.get(task.id)
          if (number === undefined) continue
          const { type, data } = TaskRows.settleEvent(end)
          events.push({
            type,
            kind: "task",
            aggregate: task.id,
            number,
            at,
            namespace: task.namespace,
            actor,
            trace: task.trace ?? null,
            data
          })
        }
        yield* publish(events)
        yield* announce(children)
        yield* offerReady(
          endings.filter(({ end, task }) => end._tag === "Released" && recorded.has(task.id)).map(({ task }) => task.id)
        )
        yield* countEnds(endings.length, events)
        return endings.map(({ task }) => ({ recorded: recorded.has(task.id) }))
      })

    const settleBatched = yield* batch((ending: Ending) => TaskRows.bytesOfEnd(ending.end), settleBatch)
    const settle: Ledger["Service"]["settle"] = (slot, task, end) =>
      settleBatched({ slot, task, end }).pipe(
        // A result that Postgres will not store (an invalid character, say) must not keep its task running for ever.
        Effect.catchTag("StatementRefused", (refused) =>
          end._tag === "Completed"
            ? refusedIsDefect(
                settleBatched({
                  slot,
                  task,
                  end: {
                    _tag: "Failed",
                    error: {
                      code: "result_refused",
                      message: `the result cannot be stored: ${refused.error.reason.message}`
                    },
                    executionMillis: end.executionMillis
                  }
                })
              )
            : Effect.die(refused.error)
        )
      )

    // --- progress, cancel, takeover

    const progressBatched = yield* batch(
      (_: { readonly slot: Slot; readonly task: RunningTask; readonly progress: TaskProgress }) => 300,
      (reports) =>
        Effect.gen(function* () {
          const rows = reports.map(({ slot, task, progress }) => ({
            id: task.id,
            attempt: task.attempt,
            epoch: slot.epoch,
            progress
          }))
          const answers = yield* commit<{ readonly id: TaskId; readonly number: number; readonly at: Date }>(
            "progress",
            () => sql.unsafe("select * from task_progress($1::json, $2::text)", [JSON.stringify(rows), actor]),
            limits.patience
          )
          const numbers = new Map(answers.map((row) => [row.id, row] as const))
          const events: Array<Event> = []
          for (const { task, progress } of reports) {
            const row = numbers.get(task.id)
            if (row === undefined) continue
            events.push({
              type: "TaskProgressed",
              kind: "task",
              aggregate: task.id,
              number: row.number,
              at: row.at.toISOString(),
              namespace: task.namespace,
              actor,
              trace: task.trace ?? null,
              data: { ...progress }
            })
          }
          yield* publish(events)
          return reports.map(() => true)
        })
    )
    const progress: Ledger["Service"]["progress"] = (slot, task, report) =>
      Effect.asVoid(refusedIsDefect(progressBatched({ slot, task, progress: report })))

    const changes = (operation: string, text: string, params: ReadonlyArray<unknown>) =>
      refusedIsDefect(commit<TaskRows.ChangeRow>(operation, () => sql.unsafe(text, params), limits.patience))

    const cancel = Effect.fnUntraced(function* (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>,
      by: { readonly actor: string; readonly reason: string | undefined }
    ) {
      const changed = yield* changes("cancel", "select * from task_cancel($1::text, $2::uuid[], $3::text, $4::text)", [
        namespace,
        ids,
        by.actor,
        by.reason ?? null
      ])
      yield* announce(changed)
      const asked = new Set<string>(ids)
      yield* Metric.update(Metrics.tasksCancelled, changed.length)
      return changed
        .filter((change) => asked.has(change.id))
        .map((change) => ({ id: change.id, ranOn: change.agent_id ?? undefined }))
    })

    const takeOver = Effect.fnUntraced(function* (instance: { readonly agentId: AgentId; readonly index: number }) {
      const rows = yield* refusedIsDefect(
        commit<{ readonly epoch: number; readonly changes: ReadonlyArray<TaskRows.ChangeRow> }>(
          "take_over",
          () =>
            sql.unsafe("select * from instance_take_over($1::uuid, $2::int, $3::text)", [
              instance.agentId,
              instance.index,
              node
            ]),
          limits.patience
        )
      )
      const taken = rows[0]
      if (taken === undefined) return yield* Effect.die(new Error("a takeover without an epoch"))
      yield* announce(taken.changes)
      yield* Metric.update(Metrics.takeovers, 1)
      const failed = taken.changes.filter((change) => change.status === "failed").length
      const requeued = taken.changes.filter((change) => change.status === "queued").length
      return { epoch: taken.epoch, requeued, failed }
    })

    // --- what the reconciler asks

    const rowsOf = <Row extends object>(operation: string, text: string, params: ReadonlyArray<unknown>) =>
      refusedIsDefect(commit<Row>(operation, () => sql.unsafe(text, params), limits.patience))

    const queueDue = Effect.fnUntraced(function* (limit: number) {
      const changed = yield* changes("queue_due", "select * from tasks_queue_due($1::int, $2::text)", [limit, actor])
      yield* announce(changed)
      return changed.length
    })

    const expire = Effect.fnUntraced(function* (limit: number) {
      const changed = yield* changes("expire", "select * from tasks_expire($1::int, $2::text)", [limit, actor])
      yield* announce(changed)
      const expired = changed.filter((change) => change.status === "timeout")
      return {
        ended: expired.length,
        running: expired.flatMap((change) =>
          change.agent_id === null ? [] : [{ id: change.id, agentId: change.agent_id }]
        )
      }
    })

    const assign = Effect.fnUntraced(function* (
      waiting: { readonly namespace: Namespace; readonly type: TaskType; readonly agentId: AgentId },
      limit: number
    ) {
      const changed = yield* changes(
        "assign",
        "select * from tasks_assign($1::text, $2::text, $3::uuid, $4::int, $5::text)",
        [waiting.namespace, waiting.type, waiting.agentId, limit, actor]
      )
      yield* announce(changed)
      return changed.length
    })

    const tidy = Effect.fnUntraced(function* (limit: number) {
      const folded = yield* rowsOf<{ readonly count: number }>(
        "tidy",
        `with many as (
           select agent_id from agent_tallies where at < now() - interval '1 minute' group by agent_id having count(*) > 20 limit 200
         ), gone as (
           delete from agent_tallies where ctid = any (array(
             select t.ctid from agent_tallies t join many using (agent_id) where t.at < now() - interval '1 minute' limit $1::int))
           returning *
         ), kept as (
           insert into agent_tallies (agent_id, at, completed, failed, timed_out, cancelled, attempts, millis_sum, millis_max)
           select agent_id, min(at), sum(completed), sum(failed), sum(timed_out), sum(cancelled), sum(attempts), sum(millis_sum), max(millis_max)
           from gone group by agent_id returning 1
         ) select ((select count(*) from gone) - (select count(*) from kept))::int as count`,
        [limit]
      )
      const forgotten = yield* rowsOf<{ readonly count: number }>(
        "tidy",
        `with gone as (
           delete from idempotency_keys where (namespace, key) in (
             select namespace, key from idempotency_keys where created_at < now() - interval '72 hours' order by created_at limit $1::int)
           returning 1
         ) select count(*)::int as count from gone`,
        [limit]
      )
      return (folded[0]?.count ?? 0) + (forgotten[0]?.count ?? 0)
    })

    return Ledger.of({
      ready,
      accept,
      claim,
      settle,
      progress,
      cancel,
      takeOver,
      queueDue,
      expire,
      assign,
      tidy,
      hibernate: (slot) =>
        Effect.asVoid(
          rowsOf(
            "hibernate",
            "update agent_instances set status = 'hibernating' where agent_id = $1::uuid and index = $2::int and epoch = $3::int",
            [slot.agentId, slot.index, slot.epoch]
          )
        ),
      heartbeat: (slots) =>
        Effect.asVoid(
          rowsOf(
            "heartbeat",
            `update agent_instances i set heartbeat = now()
             from json_to_recordset($1::json) as s (agent_id uuid, index int, epoch int)
             where i.agent_id = s.agent_id and i.index = s.index and i.epoch = s.epoch`,
            [JSON.stringify(slots.map((slot) => ({ agent_id: slot.agentId, index: slot.index, epoch: slot.epoch })))]
          )
        ),
      backlog: (agentId, { limit }) =>
        Effect.map(
          rowsOf<TaskRows.OrderRow>(
            "backlog",
            `select ${TaskRows.orderColumns} from tasks t
             where t.agent_id = $1::uuid and t.status = 'queued' order by t.lane, t.id limit $2::int`,
            [agentId, limit]
          ),
          (rows) => rows.map(TaskRows.orderOfRow)
        ),
      results: (namespace, refs) =>
        rowsOf(
          "results",
          `select t.id, t.status, t.result -> 'data' as data from tasks t where t.namespace = $1::text and t.id = any ($2::uuid[])`,
          [namespace, refs.map((ref) => ref.id)]
        ),
      withoutAgent: (limit) =>
        rowsOf(
          "without_agent",
          "select distinct namespace, type from tasks where status = 'pending' and waiting_for = 'agent' limit $1::int",
          [limit]
        ),
      orphans: (silentFor, limit) =>
        Effect.map(
          rowsOf<{ readonly agent_id: AgentId; readonly index: number }>(
            "orphans",
            `select i.agent_id, i.index from agent_instances i
             where i.heartbeat < now() - $1::float8 * interval '1 millisecond'
               and exists (select from tasks t where t.agent_id = i.agent_id and t.instance = i.index and t.status = 'running')
             limit $2::int`,
            [Duration.toMillis(silentFor), limit]
          ),
          (rows) => rows.map((row) => ({ agentId: row.agent_id, index: row.index }))
        ),
      agentsWithWork: (limit) =>
        Effect.map(
          rowsOf<{ readonly agents_with_work: AgentId }>(
            "agents_with_work",
            "select * from agents_with_work($1::int)",
            [limit]
          ),
          (rows) => rows.map((row) => row.agents_with_work)
        ),
      lost: (slot, ids) =>
        Effect.map(
          rowsOf<{ readonly id: TaskId }>(
            "lost",
            `select u.id from unnest($1::uuid[]) as u (id)
             where not exists (select from tasks t where t.id = u.id and t.status = 'running' and t.agent_id = $2::uuid
               and t.instance = $3::int and t.epoch = $4::int)`,
            [ids, slot.agentId, slot.index, slot.epoch]
          ),
          (rows) => rows.map((row) => row.id)
        )
    })
  })

/** Needs `SqlClient` and the bus. `node` is recorded as the actor of what the node does by itself. */
export const layer = (node: NodeName) => Layer.effect(Ledger, make(node))

const outcomes: Partial<Record<Event["type"], string>> = {
  TaskCompleted: "completed",
  TaskFailed: "failed",
  TaskTimedOut: "timeout",
  TaskRetried: "retry",
  TaskQueued: "released"
}

/** Counts a batch of ends: those recorded by outcome, the others as fenced. */
const countEnds = (tried: number, recorded: ReadonlyArray<Event>): Effect.Effect<void> =>
  Effect.suspend(() => {
    const counts = new Map<string, number>()
    for (const { type } of recorded) {
      const outcome = outcomes[type]
      if (outcome !== undefined) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
    }
    return Effect.andThen(
      Effect.forEach(counts, ([outcome, count]) => Metric.update(Metrics.taskEnds({ outcome }), count), {
        discard: true
      }),
      tried > recorded.length ? Metric.update(Metrics.taskEndsFenced, tried - recorded.length) : Effect.void
    )
  })
