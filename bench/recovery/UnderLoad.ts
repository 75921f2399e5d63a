/** What the recovery scenarios share: a cluster under a steady rate of tasks, something that happens to it, and what became of each task. */
import { quantile } from "../Figures.ts"
import { pause } from "../scenarios/Bench.ts"
import { query } from "../servers/query.ts"
import { type Cluster, onCluster, type Stored, storedTasks, untilEnded } from "./Cluster.ts"
import { type Submission, steadyLoad } from "./SteadyLoad.ts"

const agent = "recovery"
/** How long each task runs. */
const sleepMillis = 40

/** Submitted, accepted and stored: milliseconds from the submission to the recorded end. */
export interface Task extends Stored {
  readonly sentAt: number
  readonly waited: number
}

export interface Outcome<A> {
  /** What the event told of itself. */
  readonly event: A
  readonly submissions: ReadonlyArray<Submission>
  /** As the database has them at the end, when all have ended. */
  readonly stored: ReadonlyArray<Stored>
  /** Those of the submissions that were accepted and are stored. */
  readonly tasks: ReadonlyArray<Task>
  /** When an instance was taken over last. */
  readonly takenAt: number
}

/** Load for `beforeMillis`, then the event, then load for `afterMillis` more. The first seconds warm every node up. */
export const underLoad = <A>(
  options: {
    readonly nodes: number
    readonly perSecond: number
    readonly beforeMillis: number
    readonly afterMillis: number
  },
  happen: (cluster: Cluster) => Promise<A>
): Promise<Outcome<A>> =>
  onCluster({ nodes: options.nodes, agent }, async (cluster) => {
    const urls = cluster.nodes.map(({ url }) => url)
    const load = steadyLoad({ urls, key: cluster.key, perSecond: options.perSecond, agent, sleepMillis })
    await pause(options.beforeMillis)
    const event = await happen(cluster)
    await pause(options.afterMillis)
    const submissions = await load.stop()
    await untilEnded(cluster)
    const stored = await storedTasks(cluster)
    return { event, submissions, stored, tasks: joined(submissions, stored), takenAt: await lastTakenAt(cluster) }
  })

const joined = (submissions: ReadonlyArray<Submission>, stored: ReadonlyArray<Stored>): ReadonlyArray<Task> => {
  const byId = new Map(stored.map((task) => [task.id, task]))
  return submissions.flatMap(({ id, sentAt }) => {
    const task = id === undefined ? undefined : byId.get(id)
    return task === undefined || task.ended_at === null ? [] : [{ ...task, sentAt, waited: task.ended_at - sentAt }]
  })
}

/** Waits of the two seconds that ended a second before the event: nothing was wrong then. */
export const usualOf = (tasks: ReadonlyArray<Task>, eventAt: number): ReadonlyArray<number> =>
  tasks.filter(({ sentAt }) => sentAt >= eventAt - 3_000 && sentAt < eventAt - 1_000).map(({ waited }) => waited)

/** 0: the rate was too much for this machine at this moment, and the other figures tell of a backlog rather than of the event. */
export const keptUp = (usual: ReadonlyArray<number>): number => (quantile(usual, 0.5) < 1_000 ? 1 : 0)

const lastTakenAt = async ({ postgres }: Cluster): Promise<number> => {
  const [row] = await query<{ readonly at: number }>(
    postgres.url,
    `select (extract(epoch from max(i.taken_at)) * 1000)::float8 as at from agent_instances i join agents a on a.id = i.agent_id where a.name = '${agent}'`
  )
  return row?.at ?? 0
}
