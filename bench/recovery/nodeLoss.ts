/**
 * A node goes while tasks are submitted at a steady rate: by SIGKILL, and in order by SIGTERM. What is told is how long the tasks of its instances
 * took from submission to end, and those of the others.
 */
import { type Figures, percentiles, quantile } from "../Figures.ts"
import type { Cluster } from "./Cluster.ts"
import { failuresOf, type Submission } from "./SteadyLoad.ts"
import { keptUp, type Task, underLoad, usualOf } from "./UnderLoad.ts"

/** The first of it warms up: everything is compiled, on every node. */
const beforeMillis = 8_000
const afterMillis = 12_000
/** Beyond the 99th percentile of the usual: delayed by the event. */
const delayedMillis = 100

/** SIGKILL of the last of `nodes`; it is not started again. */
export const nodeKilled = async (nodes: number, perSecond: number): Promise<Figures> => {
  const {
    event: killedAt,
    submissions,
    takenAt,
    tasks
  } = await underLoad({ nodes, perSecond, beforeMillis, afterMillis }, async (cluster) => {
    const at = Date.now()
    await victimOf(cluster).end("SIGKILL")
    return at
  })
  const usual = usualOf(tasks, killedAt)
  const { affected, others } = around(tasks, usual, killedAt)
  const name = `kill_${nodes}`
  return {
    [`${name}_kept_up`]: keptUp(usual),
    [`${name}_usual_p50_ms`]: quantile(usual, 0.5),
    [`${name}_usual_p99_ms`]: quantile(usual, 0.99),
    [`${name}_affected`]: affected.length,
    [`${name}_cut_short`]: tasks.filter(({ attempt }) => attempt > 1).length,
    ...percentiles(`${name}_affected_`, affected),
    [`${name}_others`]: others.length,
    [`${name}_others_p99_ms`]: quantile(others, 0.99),
    [`${name}_taken_over_after_ms`]: takenAt - killedAt,
    [`${name}_requests_in_flight_there`]: failuresOf(submissions),
    [`${name}_lost`]: lost(submissions, tasks)
  }
}

/** SIGTERM of the last of two nodes, which takes requests too. */
export const nodeStopped = async (perSecond: number): Promise<Figures> => {
  const { event, submissions, tasks } = await underLoad(
    { nodes: 2, perSecond, beforeMillis, afterMillis: afterMillis - 4_000 },
    async (cluster) => {
      const toldAt = Date.now()
      await victimOf(cluster).end("SIGTERM")
      return { toldAt, goneAfter: Date.now() - toldAt }
    }
  )
  const { goneAfter, toldAt } = event
  const usual = usualOf(tasks, toldAt)
  const { affected, others } = around(tasks, usual, toldAt)
  return {
    term_kept_up: keptUp(usual),
    term_usual_p50_ms: quantile(usual, 0.5),
    term_usual_p99_ms: quantile(usual, 0.99),
    term_affected: affected.length,
    ...percentiles("term_around_", [...affected, ...others]),
    term_extra_attempts: tasks.reduce((sum, { attempt }) => sum + attempt - 1, 0),
    term_failed_requests: failuresOf(submissions),
    term_refused_connections: submissions.filter(({ refused }) => refused > 0).length,
    term_gone_after_ms: goneAfter,
    term_lost: lost(submissions, tasks)
  }
}

/** Of the tasks that were open at the event or sent within five seconds after it: those that it delayed or cut short, and the others. */
const around = (tasks: ReadonlyArray<Task>, usual: ReadonlyArray<number>, eventAt: number) => {
  const bound = quantile(usual, 0.99) + delayedMillis
  const those = tasks.filter(({ ended_at, sentAt }) => (ended_at ?? 0) >= eventAt && sentAt <= eventAt + 5_000)
  const isAffected = ({ attempt, waited }: Task) => attempt > 1 || waited > bound
  return {
    affected: those.filter(isAffected).map(({ waited }) => waited),
    others: those.filter((task) => !isAffected(task)).map(({ waited }) => waited)
  }
}

const victimOf = ({ nodes }: Cluster) => {
  const victim = nodes.at(-1)
  if (victim === undefined) throw new Error("no node to end")
  return victim
}

/** Answered by 2xx and not found afterwards. */
const lost = (submissions: ReadonlyArray<Submission>, tasks: ReadonlyArray<Task>): number =>
  submissions.filter(({ id }) => id !== undefined).length - tasks.length
