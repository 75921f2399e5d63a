/**
 * Stored agents as their owners see and change them: views, lists, figures, and changes that are one transaction with
 * the event they record.
 *
 * Invariant: an agent's version is the number of its last event, so each change writes exactly one. What a change may
 * be is decided by the caller, on the locked row; nothing here knows a rule.
 */
import { Context, Effect, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"
import type { InstanceOrders } from "../../actors/InstanceOrders.ts"
import type { Agent, AgentConfiguration, AgentMetrics, Capability } from "../../protocol/Agent.ts"
import type { EventType } from "../../protocol/Event.ts"
import type { AgentId, AgentName, AgentRef, Namespace, NodeName } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import {
  type AgentRow,
  type AgentViewRow,
  agentOfRow,
  definitionColumns,
  heartbeatFreshSeconds,
  isAgentId,
  presenceColumns,
  type StoredRollout
} from "./AgentRows.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { statusTexts } from "./TaskFilter.ts"

/** Who causes a change, for its event. */
export interface ChangedBy {
  readonly actor: string
  /** W3C trace id. */
  readonly trace: string | undefined
}

export interface NewAgent {
  readonly id: AgentId
  readonly namespace: Namespace
  readonly name: AgentName
  readonly type: string
  readonly description: string | undefined
  readonly capabilities: ReadonlyArray<Capability>
  readonly configuration: AgentConfiguration
  readonly desiredInstances: number
  readonly labels: Agent["labels"]
  readonly metadata: Agent["metadata"]
}

/** A change of an agent and the event that records it. Parts that are absent stay as they are. */
export interface AgentChange {
  readonly event: EventType
  readonly data: AgentEventData
  /** Null takes it away. */
  readonly description?: string | null | undefined
  readonly capabilities?: ReadonlyArray<Capability> | undefined
  readonly configuration?: AgentConfiguration | undefined
  readonly desiredInstances?: number | undefined
  readonly labels?: Agent["labels"] | undefined
  readonly metadata?: Agent["metadata"] | undefined
  /** A roll-out that begins, goes on, or (null) is over. */
  readonly rollout?: StoredRollout | null | undefined
  readonly instanceOrders?: InstanceOrders | undefined
  /** The version whose definition this brings back. */
  readonly restores?: number | undefined
  readonly draining?: true
  /** A new status takes away the reason of the old one. */
  readonly status?: "active" | "maintenance" | undefined
}

export type AgentEventData = {
  readonly [name: string]: string | number | boolean | ReadonlyArray<string> | ReadonlyArray<number>
}

export interface AgentListFilter {
  readonly type: string | undefined
  readonly capability: string | undefined
  /** Only agents before this one in the list's order. */
  readonly before: AgentId | undefined
}

export class AgentRegistry extends Context.Service<
  AgentRegistry,
  {
    /** `undefined` when the namespace has an agent of that name already; nothing was stored then. */
    readonly create: (agent: NewAgent, by: ChangedBy) => Effect.Effect<Agent | undefined, StoreUnavailable>
    /** By id, terminated ones included, or by name among the others. */
    readonly get: (namespace: Namespace, ref: AgentRef) => Effect.Effect<Agent | undefined, StoreUnavailable>
    /** Agents that are not terminated, newest first, at most `limit`. */
    readonly list: (
      namespace: Namespace,
      filter: AgentListFilter,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Agent>, StoreUnavailable>
    /**
     * Locks the agent, asks `decide` what shall become of it, and writes that with its event. `undefined` from `decide`
     * changes nothing and is no event. Answers the agent after the change; `undefined` when there is none.
     */
    readonly change: <E>(
      namespace: Namespace,
      ref: AgentRef,
      by: ChangedBy,
      decide: (agent: AgentRow) => Result.Result<AgentChange | undefined, E>
    ) => Effect.Effect<{ readonly agent: Agent; readonly changed: boolean } | undefined, E | StoreUnavailable>
    /** Figures from recorded ends; live counts are exact up to 10,000. */
    readonly metrics: (id: AgentId) => Effect.Effect<AgentMetrics, StoreUnavailable>
    /** Agents of a namespace that are not terminated, exact up to 10,000. */
    readonly count: (namespace: Namespace) => Effect.Effect<number, StoreUnavailable>
    /** Instances of a namespace's agents that a node holds alive. */
    readonly instancesOn: (namespace: Namespace, node: NodeName) => Effect.Effect<number, StoreUnavailable>
  }
>()("datamcp/ledger/AgentRegistry") {
  static readonly layer = Layer.effect(
    AgentRegistry,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const definition = sql.literal(definitionColumns)
      const definitionJson = sql.literal(definitionOf("a"))
      const view = sql.literal(`${definitionColumns}, ${presenceColumns}`)

      const is = (namespace: Namespace, ref: AgentRef) =>
        isAgentId(ref)
          ? sql`a.namespace = ${namespace} and a.id = ${ref}`
          : sql`a.namespace = ${namespace} and a.name = ${ref} and a.status <> 'terminated'`

      const viewOf = (namespace: Namespace, ref: AgentRef) =>
        sql<AgentViewRow>`select ${view} from agents a where ${is(namespace, ref)}`.pipe(
          Effect.map(([row]) => (row === undefined ? undefined : agentOfRow(row)))
        )

      const create = Effect.fn("AgentRegistry.create")(
        function* (agent: NewAgent, by: ChangedBy) {
          const [made] = yield* sql`
            with made as (
              insert into agents (id, namespace, name, type, description, capabilities, configuration, desired_instances,
                labels, metadata, updated_at)
              values (${agent.id}, ${agent.namespace}, ${agent.name}, ${agent.type}, ${agent.description},
                ${JSON.stringify(agent.capabilities)}, ${JSON.stringify(agent.configuration)}, ${agent.desiredInstances},
                ${JSON.stringify(agent.labels)}, ${JSON.stringify(agent.metadata)}, clock_timestamp())
              on conflict (namespace, name) where status <> 'terminated' do nothing
              returning *
            ), kept as (
              insert into agent_versions (agent_id, version, definition, actor)
              select a.id, a.version, ${definitionJson}, ${by.actor} from made a
            )
            insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
            select id, version, 'agent', 'AgentCreated', namespace, ${by.actor}, ${by.trace},
              ${JSON.stringify({ name: agent.name, type: agent.type, desired_instances: agent.desiredInstances })}
            from made
            returning aggregate
          `
          return made === undefined ? undefined : yield* viewOf(agent.namespace, agent.id)
        },
        (effect) => orUnavailable("AgentRegistry.create")(effect)
      )

      const get = Effect.fn("AgentRegistry.get")((namespace: Namespace, ref: AgentRef) =>
        orUnavailable("AgentRegistry.get")(viewOf(namespace, ref))
      )

      const list = Effect.fn("AgentRegistry.list")((namespace: Namespace, filter: AgentListFilter, limit: number) =>
        sql<AgentViewRow>`
          select ${view} from agents a
          where ${sql.and([
            sql`a.namespace = ${namespace} and a.status <> 'terminated'`,
            ...(filter.before === undefined ? [] : [sql`a.id < ${filter.before}`]),
            ...(filter.type === undefined ? [] : [sql`a.type = ${filter.type}`]),
            ...(filter.capability === undefined ? [] : [canDo(filter.capability)])
          ])}
          order by a.id desc limit ${limit}
        `.pipe(
          Effect.map((rows) => rows.map(agentOfRow)),
          orUnavailable("AgentRegistry.list")
        )
      )

      /** As the scheduler routes: an enabled capability of that name, and of that version when one is asked for. */
      const canDo = (type: string) => {
        const [name, version] = type.split("@")
        return sql`exists (
          select from json_array_elements(a.capabilities) c
          where split_part(c ->> 'name', '@', 1) = ${name} and c ->> 'enabled' is distinct from 'false' ${
            version === undefined
              ? sql.literal("")
              : sql`and coalesce(nullif(split_part(c ->> 'name', '@', 2), ''), c ->> 'version') = ${version}`
          }
        )`
      }

      const change = Effect.fn("AgentRegistry.change")(function* <E>(
        namespace: Namespace,
        ref: AgentRef,
        by: ChangedBy,
        decide: (agent: AgentRow) => Result.Result<AgentChange | undefined, E>
      ) {
        const decided = yield* Effect.gen(function* () {
          const [row] = yield* sql<AgentRow>`
            select ${definition} from agents a where ${is(namespace, ref)} for no key update
          `
          if (row === undefined) return Result.succeed(undefined)
          const decision = decide(row)
          if (Result.isFailure(decision)) return Result.fail(decision.failure)
          if (decision.success !== undefined) yield* write(row.id, decision.success, by)
          const agent = yield* viewOf(namespace, row.id)
          return Result.succeed(agent === undefined ? undefined : { agent, changed: decision.success !== undefined })
        }).pipe(sql.withTransaction, orUnavailable("AgentRegistry.change"))
        return yield* Effect.fromResult(decided)
      })

      const write = (id: AgentId, to: AgentChange, by: ChangedBy) =>
        definesAnew(to) ? Effect.andThen(writeChange(id, to, by), forgetVersions(id)) : writeChange(id, to, by)

      const writeChange = (id: AgentId, to: AgentChange, by: ChangedBy) => sql`
        with changed as (
          update agents a set
            description = case when ${to.description === undefined} then a.description else ${to.description ?? null} end,
            capabilities = coalesce(${json(to.capabilities)}::json, a.capabilities),
            configuration = coalesce(${json(to.configuration)}::json, a.configuration),
            desired_instances = coalesce(${to.desiredInstances ?? null}::int, a.desired_instances),
            labels = coalesce(${json(to.labels)}::jsonb, a.labels),
            metadata = coalesce(${json(to.metadata)}::json, a.metadata),
            draining = a.draining or ${to.draining ?? false},
            status = coalesce(${to.status ?? null}, a.status),
            status_reason = case when ${to.status ?? null}::text is null then a.status_reason end,
            instance_orders = coalesce(${json(to.instanceOrders)}::jsonb, a.instance_orders),
            rollout = case when ${to.rollout === undefined} then a.rollout else ${json(to.rollout ?? undefined)}::json end,
            definition_version = case when ${definesAnew(to)} then a.version + 1 else a.definition_version end,
            version = a.version + 1,
            updated_at = clock_timestamp()
          where a.id = ${id}
          returning a.*
        ), kept as (
          insert into agent_versions (agent_id, version, definition, restores, actor)
          select a.id, a.version, ${definitionJson}, ${to.restores ?? null}::int, ${by.actor}
          from changed a where ${definesAnew(to)}
        )
        insert into events (aggregate, number, kind, type, namespace, actor, trace, data)
        select id, version, 'agent', ${to.event}, namespace, ${by.actor}, ${by.trace}, ${JSON.stringify(to.data)}
        from changed
      `

      /** Those beyond the newest, but for the one that a roll-out stands on. */
      const forgetVersions = (id: AgentId) => sql`
        delete from agent_versions v using agents a
        where a.id = ${id} and v.agent_id = a.id
          and v.version < (
            select min(kept.version) from (
              select version from agent_versions where agent_id = ${id} order by version desc limit ${Limits.agentVersionsMax}
            ) kept
          )
          and v.version is distinct from (a.rollout #>> '{base,version}')::int
      `

      const metrics = Effect.fn("AgentRegistry.metrics")(
        function* (id: AgentId) {
          const [row] = yield* sql<MetricsRow>`
            select coalesce(sum(completed), 0)::float8 as completed, coalesce(sum(failed), 0)::float8 as failed,
              coalesce(sum(timed_out), 0)::float8 as timed_out, coalesce(sum(cancelled), 0)::float8 as cancelled,
              sum(attempts)::float8 as attempts, sum(millis_sum) as millis_sum, max(millis_max) as millis_max,
              ${liveCount(id, "queued")} as queue_depth, ${liveCount(id, "running")} as running
            from agent_tallies where agent_id = ${id}
          `
          const instances = yield* sql<AgentMetrics["instances"][number]>`
            select index, epoch, node, status,
              to_char(heartbeat at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as heartbeat
            from agent_instances where agent_id = ${id} order by index
          `
          return metricsOf(id, row ?? noEnds, instances)
        },
        (effect) => orUnavailable("AgentRegistry.metrics")(effect)
      )

      const liveCount = (id: AgentId, status: "queued" | "running") => sql`(
        select count(*)::int from (
          select 1 from tasks t where t.agent_id = ${id} and t.status = ${sql.literal(statusTexts[status])} limit ${countedMax}
        ) counted
      )`

      const count = Effect.fn("AgentRegistry.count")((namespace: Namespace) =>
        sql<{ readonly agents: number }>`
          select count(*)::int as agents from (
            select 1 from agents where namespace = ${namespace} and status <> 'terminated' limit ${countedMax}
          ) counted
        `.pipe(
          Effect.map(([row]) => row?.agents ?? 0),
          orUnavailable("AgentRegistry.count")
        )
      )

      const instancesOn = Effect.fn("AgentRegistry.instancesOn")((namespace: Namespace, node: NodeName) =>
        sql<{ readonly instances: number }>`
          select count(*)::int as instances from agent_instances i join agents a on a.id = i.agent_id
          where a.namespace = ${namespace} and i.node = ${node} and i.status = 'active'
            and i.heartbeat > clock_timestamp() - ${heartbeatFreshSeconds} * interval '1 second'
        `.pipe(
          Effect.map(([row]) => row?.instances ?? 0),
          orUnavailable("AgentRegistry.instancesOn")
        )
      )

      return AgentRegistry.of({ create, get, list, change, metrics, count, instancesOn })
    })
  )
}

/** Where counting live rows stops. */
const countedMax = 10_000

/** The definition of a row, as `agent_versions` keeps it. */
const definitionOf = (row: string) =>
  `json_build_object('description', ${row}.description, 'capabilities', ${row}.capabilities, 'configuration',
    ${row}.configuration, 'labels', ${row}.labels, 'metadata', ${row}.metadata)`

/** Whether a change makes a new definition: how many instances run, and whether they do, is none of it. */
const definesAnew = (to: AgentChange): boolean =>
  [to.description, to.capabilities, to.configuration, to.labels, to.metadata].some((part) => part !== undefined)

const json = (value: unknown) => (value === undefined ? null : JSON.stringify(value))

interface MetricsRow {
  readonly completed: number
  readonly failed: number
  readonly timed_out: number
  readonly cancelled: number
  readonly attempts: number | null
  readonly millis_sum: number | null
  readonly millis_max: number | null
  readonly queue_depth: number
  readonly running: number
}

const noEnds: MetricsRow = {
  completed: 0,
  failed: 0,
  timed_out: 0,
  cancelled: 0,
  attempts: 0,
  millis_sum: null,
  millis_max: null,
  queue_depth: 0,
  running: 0
}

const metricsOf = (id: AgentId, row: MetricsRow, instances: AgentMetrics["instances"]): AgentMetrics => {
  const ran = row.completed + row.failed + row.timed_out
  const { attempts, millis_sum: millis } = row
  return {
    agent_id: id,
    completed: row.completed,
    failed: row.failed,
    timed_out: row.timed_out,
    cancelled: row.cancelled,
    success_rate: ran === 0 ? null : row.completed / ran,
    response_time_mean_ms: attempts === null || attempts === 0 || millis === null ? null : millis / attempts,
    response_time_max_ms: attempts === null || attempts === 0 ? null : row.millis_max,
    queue_depth: row.queue_depth,
    running: row.running,
    instances
  }
}
