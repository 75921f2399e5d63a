/**
 * Owns the translation between rows of `agents` and the words of the protocol. Rows come from our own SQL, so they are
 * typed here once and trusted; no schema runs per row.
 */
import type { InstanceOrders } from "../../actors/InstanceOrders.ts"
import type { AgentRecord, Definition } from "../../actors/ports/AgentStore.ts"
import type { Agent, AgentConfiguration, AgentStatus, Capability } from "../../protocol/Agent.ts"
import type { AgentId, AgentName, Namespace } from "../../protocol/Ids.ts"

/** Whether a reference to an agent is its id; anything else is its name, and no name looks like an id. */
export const isAgentId = (ref: string): boolean => uuid.test(ref)

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u

/** How long after its last heartbeat an instance still counts as current, in seconds. */
export const heartbeatFreshSeconds = 15

/** Live tasks of an agent that are looked at to tell idle from busy. */
const liveTasksMax = 1_000

/** Columns of an agent's definition and state; `a` is the agent. */
export const definitionColumns = `a.id, a.namespace, a.name, a.type, a.description, a.capabilities, a.configuration,
  a.status, a.status_reason, a.draining, a.desired_instances, a.labels, a.metadata, a.version,
  a.definition_version, a.rollout, a.instance_orders,
  to_char(a.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  to_char(a.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as updated_at`

/** A roll-out under way, with what runs where it has not arrived. */
export interface StoredRollout {
  readonly percent: number
  readonly base: Definition
}

export interface AgentRow {
  readonly id: AgentId
  readonly namespace: Namespace
  readonly name: AgentName
  readonly type: string
  readonly description: string | null
  readonly capabilities: ReadonlyArray<Capability>
  readonly configuration: AgentConfiguration
  readonly status: AgentRecord["status"]
  readonly status_reason: string | null
  readonly draining: boolean
  readonly desired_instances: number
  readonly labels: Agent["labels"]
  readonly metadata: Agent["metadata"]
  readonly version: number
  /** The version that brought the present definition. */
  readonly definition_version: number
  readonly rollout: StoredRollout | null
  readonly instance_orders: InstanceOrders | null
  readonly created_at: string
  readonly updated_at: string
}

/** What a view says beyond the definition: seen now, bounded whatever the backlog. */
export const presenceColumns = `(
    select count(*)::int from agent_instances i
    where i.agent_id = a.id and i.status = 'active'
      and i.heartbeat > clock_timestamp() - interval '${heartbeatFreshSeconds} seconds'
  ) as current_instances,
  a.status = 'active' and coalesce((
    select bool_or(live.status = 'running') or count(*) = ${liveTasksMax}
    from (
      select t.status from tasks t where t.agent_id = a.id and t.status in ('queued', 'running')
      order by t.lane, t.id limit ${liveTasksMax}
    ) live
  ), false) as busy`

export interface AgentViewRow extends AgentRow {
  readonly current_instances: number
  readonly busy: boolean
}

export const agentOfRow = (row: AgentViewRow): Agent => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  type: row.type,
  ...(row.description !== null && { description: row.description }),
  capabilities: row.capabilities,
  configuration: row.configuration,
  status: statusOf(row),
  status_reason: row.status_reason ?? (row.draining && row.status !== "terminated" ? draining : null),
  draining: row.draining,
  desired_instances: row.desired_instances,
  current_instances: row.current_instances,
  labels: row.labels,
  metadata: row.metadata,
  created_at: row.created_at,
  updated_at: row.updated_at,
  version: row.version,
  definition_version: row.definition_version,
  ...(row.rollout !== null && {
    rollout: {
      percent: row.rollout.percent,
      version: row.definition_version,
      base_version: row.rollout.base.version
    }
  })
})

const draining = "draining: it takes nothing new and ends with its last open task"

const statusOf = (row: AgentViewRow): AgentStatus => {
  if (row.status !== "active") return row.status
  return row.busy ? "busy" : "idle"
}

export const recordOfRow = (row: AgentRow): AgentRecord => ({
  id: row.id,
  namespace: row.namespace,
  name: row.name,
  type: row.type,
  capabilities: row.capabilities,
  configuration: row.configuration,
  status: row.status,
  draining: row.draining,
  desiredInstances: row.desired_instances,
  version: row.version,
  definitionVersion: row.definition_version,
  rollout: row.rollout ?? undefined,
  instanceOrders: row.instance_orders ?? undefined
})
