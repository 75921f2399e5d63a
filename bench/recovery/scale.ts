/**
 * Four nodes against one, on the cores of one machine: rates and latency, and what a node that has nothing to do costs Postgres and NATS.
 */
import { agent } from "../datamcp.ts"
import { type Figures, hundredths, percentiles, perSecond } from "../Figures.ts"
import { cpuMicros } from "../ProcessTree.ts"
import { statisticsSettings } from "../profiling/PostgresCost.ts"
import { startRemote } from "../Remote.ts"
import type { RoundOptions } from "../rounds.ts"
import type { ClientMethods } from "../System.ts"
import { pause } from "../scenarios/Bench.ts"
import { query } from "../servers/query.ts"
import { type Cluster, onCluster, untilEnded } from "./Cluster.ts"

const inFlight = 64
const pacedPerSecond = 200
const idleMillis = 10_000

/** Figures of one and of four nodes, and what one more node costs at rest. */
export const scaled = async (options: RoundOptions): Promise<Figures> => {
  const [one, four] = [await measured(1, options), await measured(4, options)]
  const more = (name: string) =>
    hundredths(((four[`nodes_4_idle_${name}`] ?? 0) - (one[`nodes_1_idle_${name}`] ?? 0)) / 3)
  return {
    ...one,
    ...four,
    further_node_statements_per_s: more("statements_per_s"),
    further_node_transactions_per_s: more("transactions_per_s"),
    further_node_nats_messages_per_s: more("nats_messages_per_s")
  }
}

const measured = (nodes: number, options: RoundOptions): Promise<Figures> =>
  onCluster({ nodes, agent, concurrency: 250, postgres: statisticsSettings }, async (cluster) => {
    const name = `nodes_${nodes}`
    await query(cluster.postgres.url, "create extension if not exists pg_stat_statements")
    const { key, nats, url } = cluster.nodes[0] ?? { key: "", nats: { url: "" }, url: "" }
    const client = await startRemote<ClientMethods>(new URL("../datamcpClient.ts", import.meta.url), [
      JSON.stringify({ key, nats, url })
    ])
    try {
      const bulk = async (tasks: number) => {
        const began = performance.now()
        await client.call.submitMany(tasks)
        await untilEnded(cluster, 300)
        return perSecond(tasks, performance.now() - began)
      }
      const single = async (tasks: number) => {
        const began = performance.now()
        await client.call.submitEach("nats", { count: tasks, inFlight })
        await untilEnded(cluster, 300)
        return perSecond(tasks, performance.now() - began)
      }
      await bulk(Math.ceil(options.tasks / 4))
      await single(Math.ceil(options.tasks / 8))
      const figures = {
        [`${name}_bulk_done_per_s`]: await bulk(options.tasks),
        [`${name}_single_done_per_s`]: await single(Math.ceil(options.tasks / 2)),
        ...percentiles(
          `${name}_200_`,
          (await client.call.submitPaced({ perSecond: pacedPerSecond, seconds: options.seconds })).ended
        )
      }
      return { ...figures, ...(await idle(cluster, name)) }
    } finally {
      await client.end()
    }
  })

const idle = async (cluster: Cluster, name: string): Promise<Figures> => {
  // What was worked on is folded and forgotten first.
  await pause(12_000)
  const costs = cluster.nodes.map(({ pid }, node) => ({ name: String(node), pid, tree: false }))
  const [before, cpuBefore] = [await counted(cluster), cpuMicros(costs)]
  const began = performance.now()
  await pause(idleMillis)
  const [after, cpuAfter] = [await counted(cluster), cpuMicros(costs)]
  const seconds = (performance.now() - began) / 1_000
  const rate = (of: keyof typeof after) => hundredths((after[of] - before[of]) / seconds)
  const cpu = Object.entries(cpuAfter).reduce((sum, [node, micros]) => sum + micros - (cpuBefore[node] ?? 0), 0)
  return {
    [`${name}_idle_statements_per_s`]: rate("statements"),
    [`${name}_idle_transactions_per_s`]: rate("transactions"),
    [`${name}_idle_nats_messages_per_s`]: rate("messages"),
    [`${name}_idle_cpu_percent_of_a_node`]: hundredths(cpu / seconds / 1e4 / cluster.nodes.length)
  }
}

/** Since the servers started. The questions themselves are left out, as far as they are told apart. */
const counted = async ({ nats, postgres }: Cluster) => {
  const [row] = await query<{ readonly statements: number; readonly transactions: number }>(
    postgres.url,
    `select (select sum(calls) from pg_stat_statements where toplevel and query not like '%pg_stat_statements%')::float8 as statements,
      (select sum(xact_commit + xact_rollback) from pg_stat_database)::float8 as transactions`
  )
  const varz = JSON.parse(await (await fetch(`${nats.monitorUrl}/varz`)).text())
  return {
    statements: row?.statements ?? Number.NaN,
    transactions: row?.transactions ?? Number.NaN,
    messages: Number(varz.in_msgs) + Number(varz.out_msgs)
  }
}
