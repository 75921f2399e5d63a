/** A migrated database that only one test file uses, and rows put into it without the ledger. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { AgentId, Namespace, TaskId } from "../../protocol/Ids.ts"
import type { TaskStatus } from "../../protocol/Task.ts"
import { migrate } from "../../src/ledger/Migrations.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import { freshDatabase } from "../support/Servers.ts"

/** `SqlClient` on a database that is migrated first, the services of the platform, and ids. */
export const on = <E, R>(url: Effect.Effect<Redacted.Redacted, E, R>) => {
  const connected = Layer.unwrap(
    Effect.map(url, (url) => Postgres.layer({ url, connectionsMax: 10, applicationName: "datamcp-test" }))
  )
  return Layer.effectDiscard(migrate()).pipe(
    Layer.provideMerge(connected),
    Layer.provideMerge(NodeServices.layer),
    Layer.provideMerge(UuidV7.layer)
  )
}

export const layer = on(freshDatabase())

export interface TaskSeed {
  readonly namespace?: string
  readonly name?: string
  readonly type?: string
  readonly status?: TaskStatus
  readonly waiting_for?: string
  readonly agent_id?: string
  readonly labels?: Record<string, string>
  readonly payload?: unknown
  readonly result?: unknown
  readonly parent_id?: string
  readonly graph_id?: string
  readonly graph_key?: string
  readonly created_at?: string
  readonly version?: number
  readonly id?: string
}

const ended = new Set<string | undefined>(["completed", "failed", "timeout", "cancelled"])

/** Stores tasks as they stand. Their ids, ascending, in the order given. */
export const insertTasks = Effect.fnUntraced(function* (seeds: ReadonlyArray<TaskSeed>) {
  const sql = yield* SqlClient.SqlClient
  const ids = yield* UuidV7
  const rows = seeds.map((seed) => ({
    id: ids.next(),
    namespace: "default",
    name: "a task",
    type: "echo.say",
    status: "completed",
    version: 1,
    lane: "normal",
    max_attempts: 5,
    created_at: new Date().toISOString(),
    ...seed,
    waiting_for: seed.waiting_for ?? (seed.status === "pending" ? "time" : null),
    completed_at: ended.has(seed.status ?? "completed") ? new Date().toISOString() : null
  }))
  yield* sql`
    insert into tasks (id, namespace, name, type, status, waiting_for, version, lane, max_attempts, agent_id, labels, payload,
      result, parent_id, graph_id, graph_key, created_at, completed_at)
    select id, namespace, name, type, status, waiting_for, version, lane, max_attempts, agent_id, labels, payload,
      result, parent_id, graph_id, graph_key, created_at, completed_at
    from json_to_recordset(${JSON.stringify(rows)}::json) as t (id uuid, namespace text, name text, type text,
      status task_status, waiting_for task_wait, version int, lane task_lane, max_attempts int, agent_id uuid, labels jsonb,
      payload json, result json, parent_id uuid, graph_id uuid, graph_key text, created_at timestamptz,
      completed_at timestamptz)
  `
  return rows.map(({ id }) => TaskId.make(id))
})

/** Stores an event of a task as the ledger would. */
export const insertEvent = Effect.fnUntraced(function* (
  id: TaskId,
  number: number,
  type: string,
  namespace = "default"
) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    insert into events (aggregate, number, kind, type, namespace, actor, data)
    values (${id}, ${number}, 'task', ${type}, ${namespace}, 'key:test', ${JSON.stringify({ number })})
  `
})

export const insertNamespace = Effect.fnUntraced(function* (name: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`insert into namespaces (name) values (${name}) on conflict do nothing`
  return Namespace.make(name)
})

/** Stores an agent of type echo. */
export const insertAgent = Effect.fnUntraced(function* (name: string, namespace = "default") {
  const sql = yield* SqlClient.SqlClient
  const id = AgentId.make((yield* UuidV7).next())
  yield* sql`
    insert into agents (id, namespace, name, type, capabilities, configuration, updated_at)
    values (${id}, ${namespace}, ${name}, 'echo', '[{"name":"echo.say"}]', '{}', clock_timestamp())
  `
  return id
})
