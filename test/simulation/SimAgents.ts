/**
 * The stored agents of a simulated world, asked through the simulated Postgres: definitions that an operator pauses, scales
 * and brings back, and that the platform quarantines.
 */
import { type AgentRecord, AgentStore, AgentStoreUnavailable } from "../../actors/ports/AgentStore.ts"
import { LimitStore, LimitStoreUnavailable } from "../../actors/ports/LimitStore.ts"
import { AgentId, AgentName, type Namespace } from "../../protocol/Ids.ts"
import type { Machine, Process } from "./Machine.ts"
import type { SimPostgres } from "./SimPostgres.ts"

export interface AgentPlan {
  readonly type: "worker" | "pure"
  readonly concurrency: number
  readonly instances: number
}

export interface SimAgents {
  readonly of: (process: Process) => AgentStore["Service"]
  readonly limitsOf: (process: Process) => LimitStore["Service"]
  readonly all: () => ReadonlyArray<AgentRecord>
  /** As an operator would, with a new version. */
  readonly change: (id: AgentId, to: Partial<Pick<AgentRecord, "status" | "desiredInstances">>) => void
}

export const make = (
  machine: Machine,
  postgres: SimPostgres,
  namespace: Namespace,
  plans: ReadonlyArray<AgentPlan>
): SimAgents => {
  const agents = new Map<AgentId, AgentRecord & { changedAt: number }>()
  for (const [index, { concurrency, instances, type }] of plans.entries()) {
    const id = AgentId.make(`01900000-0000-7000-8000-0000000000a${index}`)
    agents.set(id, {
      id,
      namespace,
      name: AgentName.make(`${type}-${index}`),
      type,
      capabilities: [{ name: `${type}.act` }],
      configuration: { max_concurrent_tasks: concurrency },
      status: "active",
      draining: false,
      desiredInstances: instances,
      version: 1,
      definitionVersion: 1,
      rollout: undefined,
      changedAt: 0
    })
  }
  const all = () => [...agents.values()]

  const change: SimAgents["change"] = (id, to) => {
    const agent = agents.get(id)
    if (agent === undefined) return
    agents.set(id, { ...agent, ...to, version: agent.version + 1, changedAt: machine.now() })
    machine.say(`agent ${agent.name} becomes ${JSON.stringify(to)}`)
  }

  /** As `AgentStorePostgres` has it: changes are told again for this long. */
  const overlapMillis = 30_000

  const of = (process: Process) => {
    const ask = <A>(name: string, run: () => A) =>
      postgres.ask(process, name, run, () => new AgentStoreUnavailable({ message: "away" }))
    return AgentStore.of({
      page: (after, limit) =>
        ask("agents_page", () =>
          all()
            .filter(({ id }) => after === undefined || id > after)
            .slice(0, limit)
        ),
      changedSince: (at) =>
        ask("agents_changed", () => {
          const since = at === undefined ? Number.POSITIVE_INFINITY : Number(at)
          return {
            agents: all().filter(({ changedAt }) => changedAt >= since),
            now: String(machine.now() - overlapMillis)
          }
        }),
      byId: (id) => ask("agent_by_id", () => agents.get(id)),
      find: (_, ref) => ask("agent_find", () => all().find(({ id, name }) => id === ref || name === ref)),
      withCapability: (_, type) =>
        ask("agents_with", () => all().filter(({ capabilities }) => capabilities.some(({ name }) => name === type))),
      quarantine: ({ agentId }) =>
        ask("agent_quarantine", () => {
          const agent = agents.get(agentId)
          if (agent?.status === "active" || agent?.status === "maintenance") change(agentId, { status: "error" })
        }),
      // No agent of these worlds is `one_for_all`, and what is known of crashes decides nothing.
      restartOthers: () => ask("agent_restart_others", () => undefined),
      noteCrashes: () => ask("agent_note_crashes", () => undefined),
      finishDrained: () => ask("agents_drained", () => 0)
    })
  }

  const limitsOf = (process: Process) => {
    const ask = <A>(name: string, run: () => A) =>
      postgres.ask(process, name, run, () => new LimitStoreUnavailable({ message: "away" }))
    return LimitStore.of({ state: ask("limits_state", () => "0/"), all: ask("limits_all", () => []) })
  }

  return { of, limitsOf, all, change }
}
