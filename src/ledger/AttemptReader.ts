/**
 * Attempts of tasks and what is known of dead letters beside the task, straight from Postgres: the events that begin and
 * end attempts, acknowledgements, retries.
 *
 * Invariant: every query names the namespace and is bounded, by key and by the attempts it shows.
 */
import { Context, Effect, Layer, type Schema } from "effect"
import { SqlClient } from "effect/sql"
import type { EventType } from "../../protocol/Event.ts"
import type { Namespace, TaskId } from "../../protocol/Ids.ts"
import type { Task, TaskError } from "../../protocol/Task.ts"
import type { DeadLetter } from "../../protocol/TaskAction.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import * as Views from "./TaskViews.ts"

/** An event that begins or ends an attempt. */
export interface AttemptEvent {
  readonly aggregate: TaskId
  readonly type: EventType
  readonly attempt: number | null
  readonly at: string
  readonly actor: string | null
  readonly data: Schema.Json
}

/** A dead letter without its attempts. */
export type DeadLetterFacts = Omit<DeadLetter, "attempts"> & { readonly instance: number | null }

export class AttemptReader extends Context.Service<
  AttemptReader,
  {
    /** Of each of these tasks the last `limit` such events, oldest first. */
    readonly events: (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<AttemptEvent>, StoreUnavailable>
    /** The instance that had the last attempt of a task; undefined when there is no such task. */
    readonly last: (
      namespace: Namespace,
      id: TaskId
    ) => Effect.Effect<{ readonly instance: number | null } | undefined, StoreUnavailable>
    /** Those of these tasks that failed or timed out, in no order. */
    readonly deadLetters: (
      namespace: Namespace,
      ids: ReadonlyArray<TaskId>
    ) => Effect.Effect<ReadonlyArray<DeadLetterFacts>, StoreUnavailable>
  }
>()("datamcp/ledger/AttemptReader") {
  static readonly layer = Layer.effect(
    AttemptReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const events = Effect.fn("AttemptReader.events")(
        (namespace: Namespace, ids: ReadonlyArray<TaskId>, limit: number) =>
          sql<AttemptEvent>`
            select e.aggregate, e.type, e.attempt, ${sql.literal(Views.utc("e.at", "at"))}, e.actor, e.data
            from unnest(${[...ids]}::uuid[]) as u (id) cross join lateral (
              select * from events x
              where x.aggregate = u.id and x.namespace = ${namespace} and x.kind = 'task'
                and x.type in ('TaskStarted', 'TaskRetried', 'TaskCompleted', 'TaskFailed', 'TaskTimedOut', 'TaskCancelled', 'TaskQueued')
              order by x.number desc limit ${limit}
            ) e
            order by e.aggregate, e.number
          `.pipe(orUnavailable("AttemptReader.events"))
      )

      const last = Effect.fn("AttemptReader.last")((namespace: Namespace, id: TaskId) =>
        sql<{ readonly instance: number | null }>`
          select instance from tasks where id = ${id} and namespace = ${namespace}
        `.pipe(
          Effect.map(([row]) => row),
          orUnavailable("AttemptReader.last")
        )
      )

      const deadLetters = Effect.fn("AttemptReader.deadLetters")((namespace: Namespace, ids: ReadonlyArray<TaskId>) =>
        sql<DeadLetterRow>`
          select ${sql.literal(Views.listColumns)}, t.instance,
            case when strpos(t.result::text, '\\u0000') = 0 then t.result -> 'error' end as error,
            k.actor as acknowledged_by, ${sql.literal(Views.utc("k.at", "acknowledged_at"))}, k.note,
            array(select r.id::text from tasks r where r.retry_of = t.id and r.namespace = t.namespace order by r.id limit 100) as retried_as
          from tasks t left join acknowledgements k on k.task_id = t.id
          where t.id = any (${[...ids]}::uuid[]) and t.namespace = ${namespace} and t.status in ('failed', 'timeout')
        `.pipe(
          Effect.map((rows) => rows.map(deadLetterOf)),
          orUnavailable("AttemptReader.deadLetters")
        )
      )

      return AttemptReader.of({ events, last, deadLetters })
    })
  )
}

interface DeadLetterRow extends Views.TaskRow {
  readonly instance: number | null
  readonly error: TaskError | null
  readonly acknowledged_by: string | null
  readonly acknowledged_at: string | null
  readonly note: string | null
  readonly retried_as: ReadonlyArray<TaskId>
}

const deadLetterOf = (row: DeadLetterRow): DeadLetterFacts => {
  const { acknowledged_at: at, acknowledged_by: actor, error, instance, note, retried_as, ...task } = row
  const view: Task = Views.taskOfRow(task)
  return {
    task: view,
    error,
    instance,
    acknowledged: at === null || actor === null ? null : { at, actor, note },
    retried_as
  }
}
