/**
 * Decides, as a pure function, what the crash of one instance of an agent leads to on its node. OTP's supervisor, with its words:
 *
 *   child                     supervisor            restart      intensity
 *   attempt of a task         its instance          temporary    `RestartIntensity.restartPolicy`, counted in `Instance.ts`
 *   instance of an agent      the agent's, on a     permanent    `limits.instance` for each alone, `limits.agent` for all
 *                             node: this file                    of them together
 *   agent                     the node              temporary    none: one that escalates stays down until it is resumed
 *
 * An attempt is never restarted here: whether its task is tried again is the task's own policy. An instance whose tasks pass the
 * intensity escalates at once, because another instance would be given the same tasks. The node never escalates, so one agent
 * takes no other with it.
 *
 * Invariant: an instance that crashes as soon as it starts escalates after a bounded time, because the delays of as many crashes
 * as are allowed fit into the window.
 */
import { Context } from "effect"
import type { SupervisionStrategy } from "../protocol/Agent.ts"
import { type Crashes, crashed, noCrashes, type RestartPolicy, recent } from "./RestartIntensity.ts"

export interface SupervisorPolicy {
  /** Crashes of one instance; also the delays before it starts again. */
  readonly instance: RestartPolicy
  /** Crashes of all instances of the agent on this node together; its delays are not used. */
  readonly agent: RestartPolicy
}

/** Restart intensity of instances and the delays between their starts. */
export const SupervisorLimits = Context.Reference<SupervisorPolicy>("datamcp/actors/SupervisorLimits", {
  defaultValue: () => ({
    // The ninth crash in a row comes after 16 s of delays: time enough for a server that is restarted.
    instance: { crashesMax: 8, windowMillis: 60_000, delayMillis: 100, delayMaxMillis: 5_000 },
    agent: { crashesMax: 24, windowMillis: 60_000, delayMillis: 100, delayMaxMillis: 5_000 }
  })
})

/** What a supervisor remembers of its instances. */
export interface Supervised {
  readonly instances: ReadonlyMap<number, Crashes>
  readonly agent: Crashes
}

export const nothingCrashed: Supervised = { instances: new Map(), agent: noCrashes }

export type Decision =
  | {
      readonly _tag: "Restart"
      readonly delayMillis: number
      /** The other instances of the agent start anew too. */
      readonly others: boolean
    }
  | {
      readonly _tag: "Escalate"
      /** Whose intensity was passed. */
      readonly level: "instance" | "agent"
      readonly crashes: number
      readonly windowMillis: number
    }

/** Moments are milliseconds of a clock that never goes back. After an escalation nothing is remembered: a resumed agent begins anew. */
export const instanceCrashed = (
  before: Supervised,
  crash: { readonly index: number; readonly atMillis: number; readonly strategy: SupervisionStrategy },
  policy: SupervisorPolicy
): { readonly after: Supervised; readonly decision: Decision } => {
  const { atMillis, index, strategy } = crash
  const own = crashed(before.instances.get(index) ?? noCrashes, atMillis, policy.instance)
  const all = crashed(before.agent, atMillis, policy.agent)
  if (own.escalate || all.escalate) {
    const level = own.escalate ? "instance" : "agent"
    const { windowMillis } = policy[level]
    const crashes = own.escalate ? own.crashes.at.length : all.crashes.at.length
    return { after: nothingCrashed, decision: { _tag: "Escalate", level, crashes, windowMillis } }
  }
  return {
    after: { instances: new Map(before.instances).set(index, own.crashes), agent: all.crashes },
    decision: { _tag: "Restart", delayMillis: own.delayMillis, others: strategy === "one_for_all" }
  }
}

/** Restarts of an instance that count now. */
export const recentOf = (supervised: Supervised, index: number, nowMillis: number, policy: SupervisorPolicy): number =>
  recent(supervised.instances.get(index) ?? noCrashes, nowMillis, policy.instance).length

/** Whether nothing that is remembered counts any more. */
export const isQuiet = (supervised: Supervised, nowMillis: number, policy: SupervisorPolicy): boolean =>
  recent(supervised.agent, nowMillis, policy.agent).length === 0 &&
  [...supervised.instances.values()].every((crashes) => recent(crashes, nowMillis, policy.instance).length === 0)
