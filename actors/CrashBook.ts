/**
 * What one node remembers of crashes: what its supervisors decide by, the last crash of each instance, and what is not yet
 * written where it outlives the node.
 *
 * Invariant: bounded. Nothing is kept of what never crashed, and nothing here is needed by a task: a lost note costs a number in
 * the supervision tree.
 */
import { Effect } from "effect"
import type { SupervisionStrategy } from "../protocol/Agent.ts"
import type { AgentId } from "../protocol/Ids.ts"
import type { Crash } from "../protocol/Supervision.ts"
import * as AgentSupervisor from "./AgentSupervisor.ts"
import type { AgentStore, Reported } from "./ports/AgentStore.ts"

/** Most agents whose crashes are counted, and most instances whose last crash is remembered. */
const agentsMax = 1_000
const instancesMax = 10_000

interface Unnoted {
  readonly of: Reported
  readonly restarts: number
  readonly taskCrashes: number
  readonly last: Crash
}

/** `now` is in milliseconds of a clock that never goes back. */
export const make = (options: {
  readonly store: AgentStore["Service"]
  readonly policy: AgentSupervisor.SupervisorPolicy
  readonly now: () => number
}) => {
  const { now, policy, store } = options
  const supervised = new Map<AgentId, AgentSupervisor.Supervised>()
  const lastCrashes = new Map<string, Crash>()
  const unnoted = new Map<string, Unnoted>()

  const of = (agentId: AgentId) => supervised.get(agentId) ?? AgentSupervisor.nothingCrashed

  const remember = (agentId: AgentId, after: AgentSupervisor.Supervised) => {
    supervised.delete(agentId)
    if (after === AgentSupervisor.nothingCrashed) return
    supervised.set(agentId, after)
    if (supervised.size <= agentsMax) return
    for (const [id, each] of supervised) if (AgentSupervisor.isQuiet(each, now(), policy)) supervised.delete(id)
    const [oldest] = supervised.keys()
    if (supervised.size > agentsMax && oldest !== undefined) supervised.delete(oldest)
  }

  const add = (more: Unnoted) => {
    const key = keyOf(more.of)
    const before = unnoted.get(key)
    unnoted.set(key, {
      ...more,
      restarts: more.restarts + (before?.restarts ?? 0),
      taskCrashes: more.taskCrashes + (before?.taskCrashes ?? 0)
    })
    lastCrashes.delete(key)
    lastCrashes.set(key, more.last)
    const [oldest] = lastCrashes.keys()
    if (lastCrashes.size > instancesMax && oldest !== undefined) lastCrashes.delete(oldest)
  }

  const note = (key: string) =>
    Effect.suspend(() => {
      const pending = unnoted.get(key)
      if (pending === undefined) return Effect.void
      unnoted.delete(key)
      return Effect.catch(store.noteCrashes(pending.of, pending), () =>
        Effect.sync(() => {
          const since = unnoted.get(key)
          add(since === undefined ? pending : { ...pending, last: since.last })
        })
      )
    })

  return {
    /** Decides what the crash of an instance leads to. */
    instanceCrashed: (instance: Reported, crash: Crash, strategy: SupervisionStrategy): AgentSupervisor.Decision => {
      const { after, decision } = AgentSupervisor.instanceCrashed(
        of(instance.agentId),
        { index: instance.index, atMillis: now(), strategy },
        policy
      )
      remember(instance.agentId, after)
      add({ of: instance, restarts: decision._tag === "Restart" ? 1 : 0, taskCrashes: 0, last: crash })
      return decision
    },
    taskCrashed: (instance: Reported, crash: Crash) => add({ of: instance, restarts: 0, taskCrashes: 1, last: crash }),
    /** Begins anew with an agent, as after an escalation. */
    forget: (agentId: AgentId) => {
      supervised.delete(agentId)
    },
    lastCrash: (instance: Pick<Reported, "agentId" | "index">): Crash | undefined => lastCrashes.get(keyOf(instance)),
    restartsOf: ({ agentId, index }: Pick<Reported, "agentId" | "index">): number =>
      AgentSupervisor.recentOf(of(agentId), index, now(), policy),
    /** Writes what is known of one instance. */
    note: (instance: Pick<Reported, "agentId" | "index">) => note(keyOf(instance)),
    /** Writes what is known of all; nothing when there is nothing new. */
    noteAll: Effect.suspend(() => Effect.forEach([...unnoted.keys()], note, { discard: true }))
  }
}

const keyOf = ({ agentId, index }: Pick<Reported, "agentId" | "index">) => `${agentId}/${index}`
