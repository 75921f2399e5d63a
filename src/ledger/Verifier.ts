/**
 * Looks at live data for what must always be true of it (`Invariants.ts`): the tasks in batches, in the order of their ids, each batch by key.
 *
 * Every look is a read-only transaction of one statement, so it locks no row, changes nothing and waits for nobody. What it finds it looks
 * at again, a few times: only what is still so is a breach.
 */
import { Context, Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import type { Breach, Verification, VerificationScope } from "../../protocol/Verification.ts"
import { type Invariant, invariants } from "./Invariants.ts"
import { messageOf, type SessionProblem, sqlState } from "./Postgres.ts"

export const VerifierLimits = Context.Reference<{
  /** Tasks per statement. */
  readonly batchTasks: number
  /** How often a finding is looked at again before it is believed, and after how long. */
  readonly looksAgain: number
  readonly lookAgainMillis: number
  /** Breaches that are listed of each check; all are counted up to ten times as many. */
  readonly listedMax: number
  /** Longest statement that reads every task. */
  readonly statementMillis: number
  /** From about how many tasks on those statements are left out, unless everything was asked for. */
  readonly historyTasks: number
}>("datamcp/ledger/VerifierLimits", {
  defaultValue: () => ({
    batchTasks: 500,
    looksAgain: 3,
    lookAgainMillis: 300,
    listedMax: 1_000,
    statementMillis: 300_000,
    historyTasks: 1_000_000
  })
})

interface Finding {
  readonly subject: string
  readonly found: string
  /** The task to look at again; null for what is no task's. */
  readonly task: string | null
}

/** The database could not be looked at, or not to the end. */
export class VerificationFailed extends Schema.TaggedError<VerificationFailed>()("VerificationFailed", {
  message: Schema.String
}) {}

/** SQLSTATE of a table or column that is not there. */
const missingStates = new Set(["42P01", "42703"])

/** The same in words for whoever asked. */
export const failed = (error: SqlError | SessionProblem) =>
  new VerificationFailed({
    message:
      error._tag === "SessionProblem"
        ? error.message
        : missingStates.has(sqlState(error) ?? "")
          ? `The database is not that of this version (${messageOf(error)}). Run \`datamcp migrate\`, or start a node, and try again.`
          : `Postgres cannot be asked: ${messageOf(error)}. Check that it runs, and what DATABASE_URL says.`
  })

/** What is broken, and what was looked at. Fails with `SqlError` only: a breach is an answer. */
export const verify = Effect.fn("Verifier.verify")(function* (scope: VerificationScope) {
  const sql = yield* SqlClient.SqlClient
  const limits = yield* VerifierLimits
  const namespace = scope.namespace ?? null
  const breaches: Array<Breach> = []
  const broken = new Map<string, number>()
  const skipped = new Set<string>()

  /** One look: a snapshot of its own, and no way to change or lock anything. */
  const look = <A extends object>(statement: string, parameters: ReadonlyArray<unknown>, settings: string) =>
    sql.withTransaction(
      Effect.andThen(
        sql`set transaction read only`,
        Effect.andThen(sql.unsafe(settings), sql.unsafe<A>(statement, parameters))
      )
    )

  const byKey = "set local enable_seqscan = off"
  const long = `set local statement_timeout = ${limits.statementMillis}`
  const bounded = ({ over, query }: Invariant) =>
    `select q.subject, q.found, ${over === "tasks" ? "split_part(q.subject, ' ', 1)" : "null"} as task
    from (${query}) q order by q.subject limit ${limits.listedMax * 10}`

  const ask = (invariant: Invariant, ids: ReadonlyArray<string>) =>
    invariant.over === "tasks"
      ? look<Finding>(bounded(invariant), [ids], byKey)
      : look<Finding>(bounded(invariant), [namespace], long)

  /** Findings that stay when they are looked at again, as they are then. */
  const confirmed = Effect.fnUntraced(function* (invariant: Invariant, ids: ReadonlyArray<string>) {
    let findings = yield* ask(invariant, ids)
    for (let time = 0; time < limits.looksAgain && findings.length > 0; time++) {
      yield* Effect.sleep(limits.lookAgainMillis)
      const before = new Set(findings.map(({ subject }) => subject))
      const tasks = new Set(findings.flatMap(({ task }) => task ?? []))
      findings = (yield* ask(invariant, [...tasks])).filter(({ subject }) => before.has(subject))
    }
    return findings
  })

  const check = Effect.fnUntraced(function* (invariant: Invariant, ids: ReadonlyArray<string>) {
    const findings = yield* confirmed(invariant, ids)
    const known = broken.get(invariant.id) ?? 0
    broken.set(invariant.id, known + findings.length)
    const room = Math.max(0, limits.listedMax - known)
    breaches.push(...findings.slice(0, room).map(({ found, subject }) => ({ check: invariant.id, subject, found })))
  })

  const [start] = yield* sql<{ readonly since: string | null; readonly after: string; readonly tasks: number }>`
    select to_char(f.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as since,
      -- The least UUIDv7 of that moment.
      coalesce((lpad(to_hex((extract(epoch from f.at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid,
        '00000000-0000-0000-0000-000000000000') as after,
      (select greatest(c.reltuples, 0)::float8 from pg_class c where c.oid = 'tasks'::regclass) as tasks
    from (select now() - ${scope.sinceMillis ?? null}::float8 * interval '1 millisecond' as at) f`

  const tasksBatch = (after: string) =>
    look<{ readonly id: string }>(
      `select t.id::text as id from tasks t
      where t.id > $1::uuid ${namespace === null ? "" : "and t.namespace = $3"} order by t.id limit $2::int`,
      [after, limits.batchTasks, ...(namespace === null ? [] : [namespace])],
      byKey
    )

  const ofTasks = invariants.filter(({ over }) => over === "tasks")
  let tasks = 0
  let after = start?.after
  while (after !== undefined) {
    const ids: ReadonlyArray<string> = (yield* tasksBatch(after)).map(({ id }) => id)
    if (ids.length > 0) for (const invariant of ofTasks) yield* check(invariant, ids)
    tasks += ids.length
    after = ids.length < limits.batchTasks ? undefined : ids.at(-1)
  }

  const tooMany = scope.sinceMillis !== undefined && (start?.tasks ?? 0) > limits.historyTasks
  for (const invariant of invariants) {
    if (invariant.over === "tasks") continue
    if (invariant.over === "history" && tooMany) skipped.add(invariant.id)
    else yield* check(invariant, [])
  }

  return {
    ok: breaches.length === 0,
    namespace,
    since: start?.since ?? null,
    tasks,
    checks: invariants.map(({ guarantee, id, promise }) => ({
      id,
      guarantee,
      promise,
      outcome: skipped.has(id) ? "skipped" : (broken.get(id) ?? 0) > 0 ? "broken" : "holds",
      broken: broken.get(id) ?? 0
    })),
    breaches
  } satisfies Verification as Verification
}) satisfies (scope: VerificationScope) => Effect.Effect<Verification, SqlError, SqlClient.SqlClient>
