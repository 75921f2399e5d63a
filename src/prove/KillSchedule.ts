/**
 * When what is killed: decided by the seed alone, before anything runs. Pure.
 *
 * Moments are `kill_every_ms` apart on average, each gap between half and one and a half of it. Servers are killed more seldom than nodes:
 * whoever supervises them gives up when one dies too often (`SupervisedChild.ts`).
 */
import type { FaultKind, ProofPlan } from "../../protocol/Proof.ts"
import { fraction, seeded } from "./SeededNumbers.ts"

export interface Kill {
  /** Milliseconds from the begin of the work. */
  readonly atMillis: number
  readonly fault: FaultKind
  /** Which node; 0 for a server. */
  readonly victim: number
  /** How long a node stays down before it is started again. */
  readonly downMillis: number
}

/** Between two deaths of one server: 15 in five minutes, of the 20 that its supervisor bears. */
const serverPauseMillis = 20_000
/** Share of the faults that hit a server, when servers are to be killed and any may be. */
const serverShare = 0.3
const downMillis = { least: 200, most: 3_000 }

/** All kills of the first `millis` milliseconds, in their order. */
export const killSchedule = (
  plan: Pick<ProofPlan, "seed" | "nodes" | "kill" | "kill_every_ms">,
  millis: number
): ReadonlyArray<Kill> => {
  const { kill, kill_every_ms: every, nodes, seed } = plan
  const kills: Array<Kill> = []
  const lastOf = new Map<FaultKind, number>()
  let at = 0
  for (let index = 0; ; index++) {
    at += Math.round(every * (0.5 + fraction(seed, "gap", index)))
    if (at >= millis) return kills
    const rested = kill.filter(
      (fault) => fault !== "nodes" && at - (lastOf.get(fault) ?? Number.NEGATIVE_INFINITY) >= serverPauseMillis
    )
    const hitsServer = rested.length > 0 && (!kill.includes("nodes") || fraction(seed, "kind", index) < serverShare)
    const fault = hitsServer ? rested[seeded(seed, "server", index) % rested.length] : "nodes"
    if (fault === undefined || !kill.includes(fault)) continue
    lastOf.set(fault, at)
    kills.push({
      atMillis: at,
      fault,
      victim: fault === "nodes" ? seeded(seed, "victim", index) % nodes : 0,
      downMillis: Math.round(downMillis.least + (downMillis.most - downMillis.least) * fraction(seed, "down", index))
    })
  }
}
