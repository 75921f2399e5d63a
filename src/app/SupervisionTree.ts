/**
 * Puts the supervision tree together, as a pure function, from what Postgres has and what nodes answered.
 *
 *   agent in error, or an order  --> quarantined
 *   a node says that it hosts it --> starting, running, backing_off
 *   its agent is not active      --> stopped
 *   its node did not answer      --> unreachable
 *   otherwise                    --> hibernating: it starts when there is work
 */
import { isQuarantined, ordersOf } from "../../actors/InstanceOrders.ts"
import type { NodeName } from "../../protocol/Ids.ts"
import type {
  HostedInstance,
  InstanceState,
  Quarantine,
  SupervisedAgent,
  SupervisedInstance,
  SupervisedNode
} from "../../protocol/Supervision.ts"
import { type AgentViewRow, agentOfRow, heartbeatFreshSeconds } from "../ledger/AgentRows.ts"
import type { Lease } from "../ledger/SupervisionReader.ts"

/** How long after its last heartbeat a lease still says that its node should answer, in milliseconds. */
export const lostAfterMillis = heartbeatFreshSeconds * 1_000

export interface Seen {
  readonly agents: ReadonlyArray<AgentViewRow>
  readonly leases: ReadonlyArray<Lease>
  /** Nodes that should be there. */
  readonly expected: ReadonlySet<NodeName>
  readonly answers: ReadonlyMap<NodeName, ReadonlyArray<HostedInstance>>
}

export interface Wanted {
  readonly node: NodeName | undefined
  readonly state: InstanceState | undefined
}

/** Agents of which no instance is wanted are left out. */
export const treeOf = (
  seen: Seen,
  wanted: Wanted
): { readonly nodes: ReadonlyArray<SupervisedNode>; readonly agents: ReadonlyArray<SupervisedAgent> } => {
  const hosted = hostedIn(seen)
  const leases = new Map(seen.leases.map((lease) => [keyOf(lease), lease] as const))
  const isFiltered = wanted.node !== undefined || wanted.state !== undefined
  const agents = seen.agents.flatMap((row) => {
    const instances = Array.from({ length: row.desired_instances }, (_, index) => {
      const key = keyOf({ agent_id: row.id, index })
      return instanceOf(seen, row, { index, lease: leases.get(key), host: hosted.get(key) })
    }).filter(({ node, state }) => isWanted(wanted.node, node) && isWanted(wanted.state, state))
    return isFiltered && instances.length === 0 ? [] : [{ ...agentPart(row), instances }]
  })
  return { nodes: nodesOf(seen, wanted), agents }
}

const isWanted = <A>(wanted: A | undefined, is: A | null) => wanted === undefined || wanted === is

const keyOf = (of: Pick<Lease, "agent_id" | "index">) => `${of.agent_id}/${of.index}`

interface Host {
  readonly node: NodeName
  readonly instance: HostedInstance
}

/** Two nodes may believe that they host an instance: the later epoch is right. */
const hostedIn = ({ answers }: Seen): ReadonlyMap<string, Host> => {
  const hosted = new Map<string, Host>()
  for (const [node, instances] of answers) {
    for (const instance of instances) {
      const known = hosted.get(keyOf(instance))
      if ((known?.instance.epoch ?? -1) <= (instance.epoch ?? 0)) hosted.set(keyOf(instance), { node, instance })
    }
  }
  return hosted
}

const agentPart = (row: AgentViewRow) => {
  const { name, status, status_reason } = agentOfRow(row)
  return {
    agent_id: row.id,
    agent: name,
    type: row.type,
    status,
    status_reason,
    strategy: row.configuration.supervision ?? ("one_for_one" as const),
    desired_instances: row.desired_instances
  }
}

const instanceOf = (
  seen: Seen,
  row: AgentViewRow,
  { host, index, lease }: { readonly index: number; readonly lease: Lease | undefined; readonly host: Host | undefined }
): SupervisedInstance => {
  const quarantine = quarantineOf(row, index)
  const state = stateOf(seen, row, { quarantine, lease, host })
  const live = host?.instance
  return {
    index,
    state,
    node: host?.node ?? lease?.node ?? null,
    epoch: live?.epoch ?? lease?.epoch ?? null,
    since: quarantine?.at ?? live?.since ?? null,
    next_start_at: live?.next_start_at ?? null,
    restarts: { recent: live?.restarts_recent ?? 0, total: lease?.restarts ?? 0 },
    task_crashes: { recent: live?.task_crashes_recent ?? 0, total: lease?.task_crashes ?? 0 },
    last_crash: live?.last_crash ?? lease?.last_crash ?? null,
    waiting: live?.waiting ?? 0,
    running: live?.running ?? 0,
    tasks: live?.tasks ?? [],
    quarantine
  }
}

const stateOf = (
  { answers }: Seen,
  row: AgentViewRow,
  known: {
    readonly quarantine: Quarantine | null
    readonly lease: Lease | undefined
    readonly host: Host | undefined
  }
): InstanceState => {
  const { host, lease, quarantine } = known
  if (quarantine !== null) return "quarantined"
  if (host !== undefined) return host.instance.state
  if (row.status !== "active") return "stopped"
  const isHeld = lease?.status === "active" && lease.silentMillis < lostAfterMillis
  return isHeld && !answers.has(lease.node) ? "unreachable" : "hibernating"
}

/** Of the instance by order, or of its whole agent by escalation. */
const quarantineOf = (row: AgentViewRow, index: number): Quarantine | null => {
  const orders = { instanceOrders: row.instance_orders ?? undefined }
  if (isQuarantined(orders, index)) return ordersOf(orders, index).quarantine ?? null
  return row.status === "error" ? { at: row.updated_at, by: "supervisor", reason: row.status_reason } : null
}

const nodesOf = ({ answers, expected, leases }: Seen, wanted: Wanted): ReadonlyArray<SupervisedNode> => {
  const held = leases.flatMap(({ node, silentMillis, status }) =>
    status === "active" && silentMillis < lostAfterMillis ? [node] : []
  )
  return [...new Set([...expected, ...answers.keys(), ...held])]
    .filter((node) => isWanted(wanted.node, node))
    .sort()
    .map((node) => {
      const answer = answers.get(node)
      return { node, state: answer === undefined ? "unreachable" : "up", instances: answer?.length ?? 0 }
    })
}
