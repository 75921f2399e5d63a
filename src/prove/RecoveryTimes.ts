/**
 * How long work stood still after each fault, from the moments of the kills and what the database says of the tasks. Pure.
 *
 * A lost attempt belongs to the last kill of its node before the loss was recorded. Times are milliseconds of Postgres's clock.
 */
import type { FaultKind, Recovery } from "../../protocol/Proof.ts"
import type { TaskEvidence } from "./Evidence.ts"

export interface DoneKill {
  readonly fault: FaultKind
  /** Name of the node; that of the server otherwise. */
  readonly victim: string
  readonly at: number
}

export const recoveryTimes = (
  kills: ReadonlyArray<DoneKill>,
  tasks: ReadonlyArray<TaskEvidence>
): ReadonlyArray<Recovery> => {
  const faults = [...new Set(kills.map(({ fault }) => fault))]
  const firstEnd = firstEndAfter(tasks)
  return faults.map((fault) => {
    const ofFault = kills.filter((kill) => kill.fault === fault)
    const affected = fault === "nodes" ? affectedBy(ofFault, tasks) : []
    return {
      fault,
      kills: ofFault.length,
      service: quantiles(ofFault.flatMap(({ at }) => waited(at, firstEnd(at)))),
      resumed: quantiles(affected.flatMap(({ at, resumedAt }) => waited(at, resumedAt))),
      ended: quantiles(affected.flatMap(({ at, endedAt }) => waited(at, endedAt)))
    }
  })
}

const affectedBy = (kills: ReadonlyArray<DoneKill>, tasks: ReadonlyArray<TaskEvidence>) =>
  tasks.flatMap(({ cut, endedAt }) =>
    cut.flatMap(({ lostAt, node, resumedAt }) => {
      const kill = kills.findLast(({ at, victim }) => victim === node && at <= lostAt)
      return kill === undefined ? [] : [{ at: kill.at, resumedAt, endedAt }]
    })
  )

const waited = (from: number, to: number | null): ReadonlyArray<number> => (to === null ? [] : [Math.max(0, to - from)])

/** When the first of the tasks that were accepted after a moment ended; null when none did. */
const firstEndAfter = (tasks: ReadonlyArray<TaskEvidence>) => {
  const ended = tasks
    .flatMap(({ createdAt, endedAt }) => (endedAt === null ? [] : [{ createdAt, endedAt }]))
    .sort((left, right) => left.createdAt - right.createdAt)
  const least: Array<number> = []
  ended.reduceRight((soonest, { endedAt }, index) => {
    least[index] = Math.min(soonest, endedAt)
    return Math.min(soonest, endedAt)
  }, Number.POSITIVE_INFINITY)
  return (moment: number): number | null => {
    let [low, high] = [0, ended.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((ended[middle]?.createdAt ?? 0) > moment) high = middle
      else low = middle + 1
    }
    return least[low] ?? null
  }
}

/** Nearest rank; null without samples. */
export const quantiles = (samples: ReadonlyArray<number>): Recovery["service"] => {
  const sorted = [...samples].sort((left, right) => left - right)
  const at = (share: number) => Math.round(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN)
  return sorted.length === 0 ? null : { count: sorted.length, p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1) }
}
