/**
 * Carries out a schedule of kills: at its moments, whatever the platform is doing then. Who is down already at its moment is left alone.
 */
import { Clock, Effect } from "effect"
import type { FaultKind } from "../../protocol/Proof.ts"
import type { Kill } from "./KillSchedule.ts"
import type { ProofNodes } from "./ProofNodes.ts"
import type { ProofServers } from "./ProofServers.ts"
import type { DoneKill } from "./RecoveryTimes.ts"

export interface Faults {
  /** Kills until the schedule is through; interrupted when the work is done. */
  readonly run: Effect.Effect<void>
  readonly done: ReadonlyArray<DoneKill>
  readonly counts: () => Record<FaultKind, number>
}

export const make = (options: {
  readonly schedule: ReadonlyArray<Kill>
  readonly nodes: ProofNodes
  readonly servers: ProofServers
  /** Milliseconds that Postgres's clock is ahead of ours. */
  readonly clockAhead: number
  readonly told: (line: string) => void
}): Faults => {
  const { clockAhead, nodes, schedule, servers, told } = options
  const done: Array<DoneKill> = []
  const counts = { nodes: 0, nats: 0, postgres: 0 }

  const strike = Effect.fnUntraced(function* ({ downMillis, fault, victim }: Kill) {
    const node = nodes.all[victim]
    const name = fault === "nodes" ? (node?.name ?? "") : fault
    const at = (yield* Clock.currentTimeMillis) + clockAhead
    const killed = fault !== "nodes" ? yield* servers.kill(fault) : node !== undefined && (yield* node.kill(downMillis))
    if (!killed) return told(`${name} was to be killed, and is down already`)
    counts[fault]++
    done.push({ fault, victim: name, at })
    told(fault === "nodes" ? `killed ${name}; starts again in ${downMillis} ms` : `killed ${name}`)
  })

  const run = Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    for (const kill of schedule) {
      yield* Effect.sleep(Math.max(0, began + kill.atMillis - (yield* Clock.currentTimeMillis)))
      yield* strike(kill)
    }
  })

  return { run, done, counts: () => ({ ...counts }) }
}
