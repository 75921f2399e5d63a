/**
 * Single tasks by id, read many at a time: whoever asks while a read is in flight shares the next one. A thousand waits a
 * second then cost Postgres a hundred statements, and a caller at rest pays nothing for it.
 *
 * Invariant: a task is read after it was asked for, never before, so whoever asks sees what was committed until then. Every row
 * is found by its key and within its namespace.
 */
import { Effect, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import type { Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Batcher from "./Batcher.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"

interface Asked {
  readonly namespace: Namespace
  readonly id: TaskId
}

/** A task's row with its place among those asked for, from 1. */
export type Placed<Row> = Row & { readonly place: number }

export interface LookupOptions<Row extends object, A> {
  /** What is asked, for logs. */
  readonly operation: string
  /** Columns of the task `t`. */
  readonly columns: string
  readonly read: (row: Placed<Row>) => A
  /** Most tasks of one statement: bounds what an answer may weigh. */
  readonly tasksMax: number
}

/** Statements in flight at a time; one beyond the first begins full. */
const lanes = 4

/** Who may wait; more suspend. */
const waitingMax = 10_000

/** Answers with the task, or `undefined` when there is none by this id in the namespace. */
export const make = <Row extends object, A extends object>({
  columns,
  operation,
  read,
  tasksMax
}: LookupOptions<Row, A>): Effect.Effect<
  (namespace: Namespace, id: TaskId) => Effect.Effect<A | undefined, StoreUnavailable>,
  never,
  Scope.Scope | SqlClient.SqlClient
> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    // The limit keeps the look-up by key, one task at a time, whatever the planner believes of a table that has grown since.
    const text = `select a.place::int, found.* from unnest($1::uuid[], $2::text[]) with ordinality as a (id, namespace, place)
      cross join lateral (
        select ${columns} from tasks t where t.id = a.id and t.namespace = a.namespace limit 1
      ) found`
    const one = `select 1 as place, ${columns} from tasks t where t.id = $1 and t.namespace = $2`

    const rows = (asked: ReadonlyArray<Asked>): Effect.Effect<ReadonlyArray<Placed<Row>>, SqlError> => {
      const [first, second] = asked
      return first !== undefined && second === undefined
        ? sql.unsafe<Placed<Row>>(one, [first.id, first.namespace])
        : sql.unsafe<Placed<Row>>(text, [asked.map(({ id }) => id), asked.map(({ namespace }) => namespace)])
    }

    const lookUp = yield* Batcher.make<Asked, { readonly task: A | undefined }, StoreUnavailable>({
      rowsMax: tasksMax,
      bytesMax: Number.POSITIVE_INFINITY,
      bytesOf: () => 0,
      lanes,
      waitingMax,
      flush: (asked) =>
        Effect.map(orUnavailable(operation)(rows(asked)), (found) => {
          const answers = asked.map((): { task: A | undefined } => ({ task: undefined }))
          for (const row of found) {
            const answer = answers[row.place - 1]
            if (answer !== undefined) answer.task = read(row)
          }
          return answers
        }),
      onBatch: () => Effect.void,
      isRefusal: () => false
    })
    return (namespace, id) => Effect.map(lookUp({ namespace, id }), ({ task }) => task)
  })
