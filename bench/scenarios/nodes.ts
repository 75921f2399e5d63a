/**
 * What sharding costs: bulk work for eight agents on one, two and four nodes of one machine, which share its cores, one
 * Postgres and one nats-server. More nodes cannot be faster here; the loss is the price of coordination.
 */
import { makeClient } from "../Client.ts"
import { type Figures, perSecond } from "../Figures.ts"
import { type StartedPlatform, startNode } from "../Platform.ts"
import { memoryMegabytes } from "../ProcessTree.ts"
import { startNats } from "../servers/Nats.ts"
import { startPostgres } from "../servers/Postgres.ts"
import { makeAgent, pause, type Scenario, submitBatches, untilCompleted } from "./Bench.ts"

const agents = Array.from({ length: 8 }, (_, n) => `nodes-${n}`)

const measure = async (nodes: number, tasks: number): Promise<Figures> => {
  const postgres = await startPostgres()
  const nats = await startNats()
  const started: Array<StartedPlatform> = []
  try {
    for (let node = 0; node < nodes; node++)
      started.push(await startNode({ databaseUrl: postgres.url, natsUrl: nats.url }))
    const [first] = started
    if (first === undefined) throw new Error("no node")
    const client = await makeClient(first)
    try {
      for (const agent of agents) await makeAgent(client, agent, 250)
      // Placement settles, then everything is compiled on every node.
      await pause(5_000)
      let done = 0
      const bulk = async () => {
        const began = performance.now()
        await submitBatches(client, tasks, (batch) => agents[batch % agents.length] ?? "")
        done += tasks
        await untilCompleted(client, agents, done)
        return perSecond(tasks, performance.now() - began)
      }
      await bulk()
      return {
        [`nodes_${nodes}_done_per_s`]: await bulk(),
        [`nodes_${nodes}_rss_mb_each`]: Math.max(...started.map(({ pid }) => memoryMegabytes({ pid, tree: false })))
      }
    } finally {
      await client.close()
    }
  } finally {
    for (const node of started) await node.stop()
    await nats.stop()
    await postgres.stop()
  }
}

export const nodes: Scenario = {
  name: "nodes",
  run: async ({ tasks }) => ({
    ...(await measure(1, tasks)),
    ...(await measure(2, tasks)),
    ...(await measure(4, tasks))
  })
}
