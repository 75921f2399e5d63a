/** What is stored once a run is quiet, read by SQL beside the platform and by its public API. */
import { Effect, Redacted } from "effect"
import { query } from "../../bench/servers/query.ts"
import type { Breach } from "../../protocol/Verification.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import * as Verifier from "../../src/ledger/Verifier.ts"
import { bodyOf, call } from "./Load.ts"
import type { Rig } from "./Rig.ts"

export interface StoredTask {
  readonly id: string
  readonly agent: string | null
  /** Index of the instance that ran it last. */
  readonly instance: number | null
  readonly epoch: number
  readonly status: string
  readonly attempt: number
  readonly max_attempts: number
  readonly at_most_once: boolean
  readonly version: number
  readonly type: string
  /** Microseconds of Postgres's clock; null while it has not ended. */
  readonly ended_at: number | null
  /** Another task was made of it. */
  readonly retried?: boolean
  /** A map: it does not run itself, and ends with its elements. */
  readonly map?: boolean
}

export interface StoredEvent {
  readonly task: string
  readonly number: number
  readonly type: string
  /** Microseconds of Postgres's clock. */
  readonly at: number
  readonly attempt: number | null
  /** Written by a takeover: the instance that ran it was lost. */
  readonly lost: boolean
}

export interface FinalState {
  readonly tasks: ReadonlyArray<StoredTask>
  readonly events: ReadonlyArray<StoredEvent>
  readonly dependencies: ReadonlyArray<{ readonly child: string; readonly parent: string }>
  /** What each idempotency key made: a task, or the tasks of a graph. */
  readonly keys: ReadonlyArray<{ readonly key: string; readonly task: string }>
  /** What `datamcp verify` finds. */
  readonly breaches: ReadonlyArray<Breach>
  /** Tasks of the dead-letter view. */
  readonly deadLetters: ReadonlyArray<string>
}

export const openTasks = async (rig: Rig): Promise<number> => {
  const [row] = await query<{ n: number }>(
    rig.databaseUrl,
    "select count(*)::int as n from tasks where status not in ('completed', 'failed', 'timeout', 'cancelled')"
  )
  return row?.n ?? 0
}

/** Waits until no task is left that has not ended; milliseconds that it took, or undefined when it did not come. */
export const untilQuiet = async (rig: Rig, withinMillis: number): Promise<number | undefined> => {
  const began = performance.now()
  while (performance.now() - began < withinMillis) {
    const open = await openTasks(rig).catch(() => Number.NaN)
    if (open === 0) return performance.now() - began
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return undefined
}

const micros = (column: string) => `(extract(epoch from ${column}) * 1000000)::float8`

export const readFinalState = async (rig: Rig): Promise<FinalState> => ({
  ...(await readStored(rig.databaseUrl)),
  deadLetters: await deadLetters(rig)
})

/** All but what only the public API tells. */
export const readStored = async (url: string): Promise<Omit<FinalState, "deadLetters">> => {
  const [tasks, events, dependencies, keys] = await Promise.all([
    query<StoredTask>(
      url,
      `select t.id::text, a.name as agent, t.instance, t.epoch, t.status::text, t.attempt, t.max_attempts, t.at_most_once, t.version,
         t.type, ${micros("t.completed_at")} as ended_at,
         exists (select from tasks r where r.retry_of = t.id) as retried,
         exists (select from graph_steps s where s.task_id = t.id and s.definition -> 'map' is not null) as map
       from tasks t left join agents a on a.id = t.agent_id`
    ),
    query<StoredEvent>(
      url,
      `select aggregate::text as task, number, type, ${micros("at")} as at, attempt, data ->> 'instance_lost' is not null as lost
       from events where kind = 'task' order by aggregate, number`
    ),
    query<{ child: string; parent: string }>(
      url,
      "select child_id::text as child, parent_id::text as parent from task_dependencies"
    ),
    query<{ key: string; task: string }>(
      url,
      `select k.key, t.id::text as task from idempotency_keys k join tasks t on t.id = k.resource_id or t.graph_id = k.resource_id`
    )
  ])
  const verification = await Effect.runPromise(
    Verifier.verify({ namespace: undefined, sinceMillis: undefined }).pipe(
      Effect.provide(
        Postgres.layer({ url: Redacted.make(url), connectionsMax: 2, applicationName: "checking a fault run" })
      )
    )
  )
  return { tasks, events, dependencies, keys, breaches: verification.breaches }
}

const deadLetters = async (rig: Rig): Promise<ReadonlyArray<string>> => {
  const node = rig.nodes.find((each) => each.process().isUp())
  if (node === undefined) return []
  const ids: Array<string> = []
  let cursor = ""
  do {
    const response = await call(rig, node, "GET", `/dead-letters?limit=100${cursor}`)
    if (!response.ok) throw new Error(`the dead letters cannot be read: ${response.status}`)
    const page = await bodyOf(response)
    for (const { task } of page.data) ids.push(task.id)
    cursor = page.next_cursor === null ? "" : `&cursor=${encodeURIComponent(page.next_cursor)}`
  } while (cursor !== "")
  return ids
}
