/**
 * A node goes while tasks are submitted at a steady rate: by SIGKILL, and in order by SIGTERM. What is told is how long the tasks of its instances
 * took from submission to end, and those of the others.
 */
import { type Figures, percentiles, quantile } from "../Figures.ts"
import { pause } from "../scenarios/Bench.ts"
import { query } from "../servers/query.ts"
import { type Cluster, onCluster, type Stored, storedTasks, untilEnded } from "./Cluster.ts"
import { failuresOf, type Submission, steadyLoad } from "./SteadyLoad.ts"

const agent = "recovery"
const sleepMillis = 40
/** The first of it warms up: everything is compiled, on every node. */
const beforeMillis = 8_000
const afterMillis = 12_000
/** Beyond the 99th percentile of the usual: delayed by the event. */
const delayedMillis = 100

/** Submitted, accepted and stored: milliseconds from the submission to the recorded end. */
interface Task extends Stored {
  readonly sentAt: number
  readonly waited: number
}

export const joined = (submissions: ReadonlyArray<Submission>, stored: ReadonlyArray<Stored>): ReadonlyArray<Task> => {
  const byId = new Map(stored.map((task) => [task.id, task]))
  return submissions.flatMap(({ id, sentAt }) => {
    const task = id === undefined ? undefined : byId.get(id)
    return task === undefined || task.ended_at === null ? [] : [{ ...task, sentAt, waited: task.ended_at - sentAt }]
  })
}

/** SIGKILL of the last of `nodes`; it is not started again. */
export const nodeKilled = (nodes: number, perSecond: number): Promise<Figures> =>
  onCluster({ nodes, agent }, async (cluster) => {
    const load = steadyLoad({ urls: urlsOf(cluster), key: cluster.key, perSecond, agent, sleepMillis })
    await pause(beforeMillis)
    const killedAt = Date.now()
    await victimOf(cluster).end("SIGKILL")
    await pause(afterMillis)
    const submissions = await load.stop()
    await untilEnded(cluster)
    const tasks = joined(submissions, await storedTasks(cluster))
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
      [`${name}_taken_over_after_ms`]: (await lastTakenAt(cluster)) - killedAt,
      [`${name}_requests_in_flight_there`]: failuresOf(submissions),
      [`${name}_lost`]: lost(submissions, tasks)
    }
  })

/** SIGTERM of the last of two nodes, which takes requests too. */
export const nodeStopped = (perSecond: number): Promise<Figures> =>
  onCluster({ nodes: 2, agent }, async (cluster) => {
    const load = steadyLoad({ urls: urlsOf(cluster), key: cluster.key, perSecond, agent, sleepMillis })
    await pause(beforeMillis)
    const toldAt = Date.now()
    await victimOf(cluster).end("SIGTERM")
    const goneAfter = Date.now() - toldAt
    await pause(afterMillis - 4_000)
    const submissions = await load.stop()
    await untilEnded(cluster)
    const tasks = joined(submissions, await storedTasks(cluster))
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
  })

/** Waits of the two seconds that ended a second before the event: nothing was wrong then. */
export const usualOf = (tasks: ReadonlyArray<Task>, eventAt: number): ReadonlyArray<number> =>
  tasks.filter(({ sentAt }) => sentAt >= eventAt - 3_000 && sentAt < eventAt - 1_000).map(({ waited }) => waited)

/** 0: the rate was too much for this machine at this moment, and the other figures tell of a backlog rather than of the event. */
export const keptUp = (usual: ReadonlyArray<number>): number => (quantile(usual, 0.5) < 1_000 ? 1 : 0)

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

/** All of them: tasks like to run where they were accepted. */
const urlsOf = ({ nodes }: Cluster) => nodes.map(({ url }) => url)

const victimOf = ({ nodes }: Cluster) => {
  const victim = nodes.at(-1)
  if (victim === undefined) throw new Error("no node to end")
  return victim
}

const lastTakenAt = async ({ postgres }: Cluster): Promise<number> => {
  const [row] = await query<{ readonly at: number }>(
    postgres.url,
    `select (extract(epoch from max(i.taken_at)) * 1000)::float8 as at from agent_instances i join agents a on a.id = i.agent_id where a.name = '${agent}'`
  )
  return row?.at ?? 0
}

/** Answered by 2xx and not found afterwards. */
const lost = (submissions: ReadonlyArray<Submission>, tasks: ReadonlyArray<Task>): number =>
  submissions.filter(({ id }) => id !== undefined).length - tasks.length
