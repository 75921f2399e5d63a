/**
 * How the ledger commits: statements repeated until their outcome is known, requests grouped into batches, and what
 * follows a COMMIT: events on the bus, tasks that became ready for whoever dispatches.
 *
 * A commit whose answer is lost is unknown: the same batch is sent again marked as repetition. Ids, attempts and epochs
 * make it find what the first one did, and the row locks make it wait for a first one that is still under way.
 */
import { Context, Duration, Effect, Fiber, Metric, Queue, Schedule, Semaphore } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import { Bus } from "../../actors/ports/Bus.ts"
import { CrashPoints } from "../../actors/ports/CrashPoints.ts"
import type { GraphWork } from "../../actors/ports/GraphLedger.ts"
import { LedgerUnavailable, type Ready } from "../../actors/ports/Ledger.ts"
import type { Event } from "../../protocol/Event.ts"
import { GraphId, type NodeName } from "../../protocol/Ids.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import * as Batcher from "./Batcher.ts"
import { isTransient, messageOf } from "./Postgres.ts"
import * as TaskRows from "./TaskRows.ts"

/** Bounds of the ledger's batches. */
export const LedgerLimits = Context.Reference<{
  /** Most changes of one transaction. */
  readonly rowsMax: number
  /** Most bytes of one transaction. */
  readonly bytesMax: number
  /** Most transactions in flight per kind of change; those beyond the first begin full. */
  readonly lanes: number
  /** Changes of one kind that may wait; more suspend their callers. */
  readonly waitingMax: number
  /** Tasks that wait in `ready`; older ones give way and are found by the reconciler. */
  readonly readyMax: number
  /** How long most changes are repeated while Postgres is away before their caller is told so. */
  readonly patience: Duration.Duration
  /** Silence of a connection after which a statement is sent again on another: above Postgres's own statement timeout. */
  readonly answerWithin: Duration.Duration
  /** Connections that are asked at once whether they still answer; at least as many as the pool has. */
  readonly connectionsAsked: number
}>("datamcp/ledger/LedgerLimits", {
  defaultValue: () => ({
    rowsMax: 500,
    bytesMax: 4 * 1024 * 1024,
    lanes: 2,
    waitingMax: 20_000,
    readyMax: 20_000,
    patience: Duration.seconds(2),
    answerWithin: Duration.seconds(20),
    connectionsAsked: 32
  })
})

/** The statement itself was refused: a mistake in one row, which other rows need not share. */
export class StatementRefused {
  readonly _tag = "StatementRefused"
  readonly error: SqlError
  constructor(error: SqlError) {
    this.error = error
  }
}

export type CommitError = LedgerUnavailable | StatementRefused

/** What became of the statement is not known: Postgres is away, or its connection is silent. */
class OutcomeUnknown {
  readonly _tag = "OutcomeUnknown"
  readonly message: string
  constructor(message: string) {
    this.message = message
  }
}

/** For callers whose rows were checked before: a refused statement is a defect of ours. */
function refusedIsDefect<A>(effect: Effect.Effect<A, StatementRefused>): Effect.Effect<A>
function refusedIsDefect<A>(effect: Effect.Effect<A, CommitError>): Effect.Effect<A, LedgerUnavailable>
function refusedIsDefect<A>(effect: Effect.Effect<A, CommitError>) {
  return Effect.catchTag(effect, "StatementRefused", (refused) => Effect.die(refused.error))
}

const repeatedly = Schedule.jittered(
  Schedule.min([Schedule.exponential("50 millis", 1.6), Schedule.spaced("1 second")])
)

/** What the parts of the ledger share. */
export type Committing = Effect.Success<ReturnType<typeof make>>

export const make = (node: NodeName) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const bus = yield* Bus
    const limits = yield* LedgerLimits
    const crashPoint = yield* CrashPoints
    const scope = yield* Effect.scope
    const actor = `node:${node}`
    const ready = yield* Queue.sliding<Ready>(limits.readyMax)
    const work = yield* Queue.sliding<GraphWork>(limits.readyMax)

    /**
     * Waits for an effect no longer than `within`. What is late is interrupted in the background: ending a statement on a
     * silent connection takes seconds more, which nobody waits for.
     */
    const within = <A, E, E2>(
      effect: Effect.Effect<A, E>,
      duration: Duration.Duration,
      late: Effect.Effect<never, E2>
    ) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Effect.forkIn(effect, scope, { startImmediately: true }), (fiber) =>
          restore(Effect.timeoutOrElse(Fiber.join(fiber), { duration, orElse: () => late })).pipe(
            Effect.onError(() =>
              fiber.pollUnsafe() === undefined ? Effect.forkIn(Fiber.interrupt(fiber), scope) : Effect.void
            )
          )
        )
      )

    /**
     * Where one connection is silent, others of the pool may be: each is asked at once, and what does not answer is left.
     * Statements would otherwise find them one after the other.
     */
    const ask = sql`select 1`.pipe(Effect.asVoid)
    const askEach = Effect.forEach(
      Array.from({ length: limits.connectionsAsked }),
      () => Effect.ignore(within(ask, Duration.min(limits.answerWithin, Duration.seconds(1)), Effect.fail("silent"))),
      { concurrency: "unbounded", discard: true }
    )
    const asking = yield* Semaphore.make(1)
    const leaveSilent = asking.withPermitsIfAvailable(1)(askEach)

    /** Runs a statement until its outcome is known, however long Postgres is away. */
    const commitUntilKnown = <Row extends object>(
      operation: string,
      statement: (again: boolean) => Effect.Effect<ReadonlyArray<Row>, SqlError>
    ): Effect.Effect<ReadonlyArray<Row>, StatementRefused> =>
      Effect.suspend(() => {
        let again = false
        const place = `commit:${operation}`
        crashPoint(place, "before")
        const answer = Effect.mapError(
          Effect.suspend(() => statement(again)),
          (error) => (isTransient(error) ? new OutcomeUnknown(messageOf(error)) : new StatementRefused(error))
        )
        const silence = Effect.andThen(
          leaveSilent,
          Effect.suspend(() => Effect.fail(new OutcomeUnknown("no answer")))
        )
        const once = Effect.tapError(within(answer, limits.answerWithin, silence), (error) => {
          again = true
          return Effect.logDebug(`${operation} was not answered`, error._tag === "OutcomeUnknown" ? error.message : "")
        })
        return Effect.retry(once, {
          schedule: repeatedly,
          while: (error) => error._tag === "OutcomeUnknown"
        }).pipe(
          Effect.catchTag("OutcomeUnknown", Effect.die),
          Effect.tap(() => Effect.sync(() => crashPoint(place, "after")))
        )
      }).pipe(Effect.trackDuration(Metrics.ledgerCommitSeconds({ operation }), Duration.toSeconds))

    /** The same for callers who may be told, in time, that the outcome is not known. */
    const commit = <Row extends object>(
      operation: string,
      statement: (again: boolean) => Effect.Effect<ReadonlyArray<Row>, SqlError>,
      patience: Duration.Duration = limits.patience
    ): Effect.Effect<ReadonlyArray<Row>, CommitError> => {
      const late = Effect.andThen(
        Effect.forkIn(leaveSilent, scope),
        Effect.suspend(() =>
          Effect.fail(new LedgerUnavailable({ operation, message: "Postgres did not answer in time" }))
        )
      )
      return within(commitUntilKnown(operation, statement), patience, late)
    }

    const publish = (events: ReadonlyArray<Event>) =>
      events.length === 0
        ? Effect.void
        : Effect.suspend(() => {
            crashPoint("publish:events", "before")
            return Effect.andThen(
              bus.publishEvents(events),
              Effect.sync(() => crashPoint("publish:events", "after"))
            )
          })

    /** Hands queued tasks to whoever dispatches, in the order in which they were accepted. Failing to is no harm: the reconciler finds them. */
    const offerReady = (ids: ReadonlyArray<string>) =>
      ids.length === 0
        ? Effect.void
        : sql
            .unsafe<TaskRows.OrderRow>(
              `select ${TaskRows.orderColumns} from tasks t where t.id = any ($1::uuid[]) and t.status::text = 'queued' order by t.id`,
              [ids]
            )
            .pipe(
              Effect.flatMap((rows) =>
                Queue.offerAll(
                  ready,
                  rows.map((row) => ({ agentId: row.agent_id, order: TaskRows.orderOfRow(row) }))
                )
              ),
              Effect.timeout(limits.patience),
              Effect.catch((error) => Effect.logDebug("ready tasks are left to the reconciler", error.message))
            )

    /** Told of every announced change; whoever sets it looks for room that it made. */
    const watched: { changed: (changes: ReadonlyArray<TaskRows.ChangeRow>) => void } = { changed: () => {} }

    /** `by`: who asked for it, where that is not this node. */
    const announce = (changes: ReadonlyArray<TaskRows.ChangeRow>, by = actor): Effect.Effect<void> => {
      if (changes.length === 0) return Effect.void
      const facts = changes.filter(TaskRows.isFact)
      for (const { event, id } of changes.length === facts.length ? [] : changes) {
        if (event === "step") Queue.offerUnsafe(work, { _tag: "Step", id })
        else if (event === "ending") Queue.offerUnsafe(work, { _tag: "Ending", id: GraphId.make(id) })
      }
      watched.changed(facts)
      return Effect.andThen(
        publish(
          facts.map((change) =>
            TaskRows.changeEvent(change, change.event === "TaskPaused" || change.event === "TaskResumed" ? by : actor)
          )
        ),
        offerReady(facts.filter((change) => change.status === "queued").map((change) => change.id))
      )
    }

    /** Groups requests of a kind; see `Batcher`. */
    const batch = <A, B, E extends CommitError>(
      operation: string,
      bytesOf: (request: A) => number,
      flush: (requests: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<B>, E>
    ) =>
      Batcher.make<A, B, E>({
        rowsMax: limits.rowsMax,
        bytesMax: limits.bytesMax,
        lanes: limits.lanes,
        waitingMax: limits.waitingMax,
        bytesOf,
        flush,
        onBatch: (size) => Metric.update(Metrics.ledgerBatchSize({ operation }), size),
        isRefusal: (error) => error._tag === "StatementRefused"
      })

    /** Rows of a statement that changes no tasks. */
    const rowsOf = <Row extends object>(
      operation: string,
      text: string,
      params: ReadonlyArray<unknown>,
      patience?: Duration.Duration
    ) => refusedIsDefect(commit<Row>(operation, () => sql.unsafe(text, params), patience))

    /** Changes of a statement, announced. */
    const changes = Effect.fnUntraced(function* (
      operation: string,
      text: string,
      params: ReadonlyArray<unknown>,
      patience?: Duration.Duration
    ) {
      const changed = yield* rowsOf<TaskRows.ChangeRow>(operation, text, params, patience)
      yield* announce(changed)
      return changed
    })

    return {
      sql,
      bus,
      node,
      actor,
      limits,
      ready,
      work,
      commit,
      commitUntilKnown,
      refusedIsDefect,
      publish,
      offerReady,
      announce,
      watched,
      batch,
      rowsOf,
      changes
    }
  })
