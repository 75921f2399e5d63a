/**
 * Stored agent definitions as actors need them: read to fill and refresh the directory, quarantined and terminated with
 * the event of that change in the same statement.
 *
 * Invariant: `changedSince` misses no change, not even one whose transaction commits after a later one. It must not
 * decide which agent does a task: it leaves out only those that certainly cannot.
 */
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import { AgentStore, AgentStoreUnavailable, type Reported } from "../../actors/ports/AgentStore.ts"
import type { AgentId, AgentRef, Namespace } from "../../protocol/Ids.ts"
import type { Crash } from "../../protocol/Supervision.ts"
import { type AgentRow, definitionColumns, isAgentId, recordOfRow } from "./AgentRows.ts"
import { orUnavailable } from "./StoreUnavailable.ts"

/**
 * Longest time between the moment that a change notes and its commit, in seconds: above the timeouts of `Postgres.ts`
 * that end such a transaction.
 */
const overlapSeconds = 30

/** How long an agent drains at least, in seconds: time for every node to learn that it takes nothing new. */
const drainSecondsMin = 5

/** Most agents that can do one type and are looked at; routing needs some, not all. */
const candidatesMax = 1_000

export const layer = Layer.effect(
  AgentStore,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const columns = sql.literal(definitionColumns)

    const page = Effect.fn("AgentStore.page")((after: AgentId | undefined, limit: number) =>
      sql<AgentRow>`
        select ${columns} from agents a
        where a.status <> 'terminated' and (${after ?? null}::uuid is null or a.id > ${after ?? null}::uuid)
        order by a.id limit ${limit}
      `.pipe(Effect.map(records), orAway("AgentStore.page"))
    )

    /**
     * Without a moment to start from there is nothing to compare with: the answer is the moment alone, to be asked for
     * before `page`. What comes back lies before every change that may still be uncommitted, so the next call sees
     * those again or for the first time; after a full page it lies no later than just behind the page's last change.
     */
    const changedSince = Effect.fn("AgentStore.changedSince")(
      function* (at: string | undefined, limit: number) {
        const [clock] = yield* sql<{ readonly settled: string }>`
          select (clock_timestamp() - ${overlapSeconds} * interval '1 second')::text as settled
        `
        const settled = clock?.settled ?? "-infinity"
        if (at === undefined) return { agents: [], now: settled }
        const rows = yield* sql<AgentRow & { readonly next: string }>`
          select ${columns}, least(a.updated_at + interval '1 microsecond', ${settled}::timestamptz)::text as next
          from agents a where a.updated_at >= ${at}::timestamptz
          order by a.updated_at fetch first ${limit} rows with ties
        `
        return { agents: records(rows), now: (rows.length < limit ? undefined : rows.at(-1)?.next) ?? settled }
      },
      (effect) => orAway("AgentStore.changedSince")(effect)
    )

    const byId = Effect.fn("AgentStore.byId")((id: AgentId) =>
      sql<AgentRow>`select ${columns} from agents a where a.id = ${id}`.pipe(
        Effect.map((rows) => records(rows)[0]),
        orAway("AgentStore.byId")
      )
    )

    const find = Effect.fn("AgentStore.find")((namespace: Namespace, ref: AgentRef) =>
      sql<AgentRow>`
        select ${columns} from agents a
        where a.namespace = ${namespace} and ${isAgentId(ref) ? sql`a.id = ${ref}` : sql`a.name = ${ref}`}
          and a.status <> 'terminated'
      `.pipe(
        Effect.map((rows) => records(rows)[0]),
        orAway("AgentStore.find")
      )
    )

    const withCapability = Effect.fn("AgentStore.withCapability")((namespace: Namespace, type: string) =>
      sql<AgentRow>`
        select ${columns} from agents a
        where a.namespace = ${namespace} and a.status <> 'terminated' and not a.draining
          and exists (
            select from json_array_elements(a.capabilities) c
            where split_part(c ->> 'name', '@', 1) = split_part(${type}, '@', 1) and c ->> 'enabled' is distinct from 'false'
          )
        order by a.id limit ${candidatesMax}
      `.pipe(Effect.map(records), orAway("AgentStore.withCapability"))
    )

    const quarantine = Effect.fn("AgentStore.quarantine")(({ agentId, index, node }: Reported, reason: string) =>
      sql`
        with changed as (
          update agents set status = 'error', status_reason = ${reason}, version = version + 1,
            updated_at = clock_timestamp()
          where id = ${agentId} and status in ('active', 'maintenance')
          returning id, namespace, version
        )
        insert into events (aggregate, number, kind, type, namespace, actor, data)
        select id, version, 'agent', 'AgentStatusChanged', namespace, ${`node:${node}`},
          json_build_object('status', 'error', 'reason', ${reason}::text, 'instance', ${index}::int)
        from changed
      `.pipe(Effect.asVoid, orAway("AgentStore.quarantine"))
    )

    const restartOthers = Effect.fn("AgentStore.restartOthers")(({ agentId, index, node }: Reported, crash: Crash) =>
      sql`
        with changed as (
          update agents a set version = a.version + 1, updated_at = clock_timestamp(),
            instance_orders = coalesce(a.instance_orders, '{}') || (
              select jsonb_object_agg(i::text, coalesce(a.instance_orders -> i::text, '{}')
                || jsonb_build_object('restarts', coalesce((a.instance_orders -> i::text ->> 'restarts')::int, 0) + 1))
              from generate_series(0, a.desired_instances - 1) i where i <> ${index}
            )
          where a.id = ${agentId} and a.status = 'active' and a.desired_instances > 1
          returning a.id, a.namespace, a.version, a.desired_instances
        )
        insert into events (aggregate, number, kind, type, namespace, actor, data)
        select id, version, 'agent', 'AgentInstancesRestarted', namespace, ${`node:${node}`},
          json_build_object(
            'instances', (select json_agg(i) from generate_series(0, desired_instances - 1) i where i <> ${index}),
            'strategy', 'one_for_all', 'crashed', ${index}::int, 'crash', ${JSON.stringify(crash)}::json)
        from changed
      `.pipe(Effect.asVoid, orAway("AgentStore.restartOthers"))
    )

    const noteCrashes = Effect.fn("AgentStore.noteCrashes")(
      (
        { agentId, index }: Reported,
        crashes: { readonly restarts: number; readonly taskCrashes: number; readonly last: Crash }
      ) =>
        sql`
        update agent_instances set restarts = restarts + ${crashes.restarts}, task_crashes = task_crashes + ${crashes.taskCrashes},
          last_crash = ${JSON.stringify(crashes.last)}::json
        where agent_id = ${agentId} and index = ${index}
      `.pipe(Effect.asVoid, orAway("AgentStore.noteCrashes"))
    )

    const finishDrained = Effect.fn("AgentStore.finishDrained")((limit: number) =>
      sql<{ readonly finished: number }>`
        with drained as (
          select id from agents a
          where draining and status <> 'terminated'
            and updated_at < clock_timestamp() - ${drainSecondsMin} * interval '1 second'
            and not exists (select from tasks t where t.agent_id = a.id and t.status in ('queued', 'running'))
            and not exists (select from tasks t where t.agent_id = a.id and t.status in ('pending', 'paused'))
          order by id limit ${limit} for no key update skip locked
        ), changed as (
          update agents a set status = 'terminated', status_reason = null, version = a.version + 1,
            updated_at = clock_timestamp()
          from drained d where a.id = d.id
          returning a.id, a.namespace, a.version
        ), recorded as (
          insert into events (aggregate, number, kind, type, namespace, data)
          select id, version, 'agent', 'AgentStatusChanged', namespace, json_build_object('status', 'terminated')
          from changed
        )
        select count(*)::int as finished from changed
      `.pipe(
        Effect.map(([row]) => row?.finished ?? 0),
        orAway("AgentStore.finishDrained")
      )
    )

    return AgentStore.of({
      ...{ page, changedSince, byId, find, withCapability, quarantine, finishDrained },
      ...{ restartOthers, noteCrashes }
    })
  })
)

const records = (rows: ReadonlyArray<AgentRow>) => rows.map(recordOfRow)

/** The port has its own word for an outage. */
const orAway =
  (operation: string) =>
  <A, R>(effect: Effect.Effect<A, SqlError, R>): Effect.Effect<A, AgentStoreUnavailable, R> =>
    Effect.mapError(orUnavailable(operation)(effect), ({ message }) => new AgentStoreUnavailable({ message }))
