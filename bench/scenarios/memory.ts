/**
 * Whether memory grows: bulk work in rounds, ten times that of a bulk round in all, memory read after each. The slope is a least-squares
 * line through the second half, per 100,000 tasks, because caches and compilers fill in the first.
 */
import { hundredths } from "../Figures.ts"
import { makeAgent, memory as memoryOf, onPlatform, type Scenario, submitBatches, untilCompleted } from "./Bench.ts"

const agent = "memory"
const rounds = 20

/** Growth of y per unit of x. */
const slope = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [xs, ys] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))]
  const above = points.reduce((sum, [x, y]) => sum + (x - xs) * (y - ys), 0)
  return above / points.reduce((sum, [x]) => sum + (x - xs) ** 2, 0)
}

export const memory: Scenario = {
  name: "memory",
  once: true,
  run: ({ tasks }) =>
    onPlatform(async ({ client, costs }) => {
      await makeAgent(client, agent)
      const perRound = Math.ceil(tasks / 2)
      const points: Array<{ readonly tasks: number; readonly node: number; readonly nats: number }> = []
      for (let round = 1; round <= rounds; round++) {
        await submitBatches(client, perRound, () => agent)
        await untilCompleted(client, [agent], perRound * round)
        const now = memoryOf(costs)
        points.push({
          tasks: perRound * round,
          node: now["rss_node_mb"] ?? Number.NaN,
          nats: now["rss_nats_mb"] ?? Number.NaN
        })
        process.stderr.write(`memory: ${perRound * round} tasks, node ${points.at(-1)?.node} MB\n`)
      }
      const half = points.slice(points.length / 2)
      const of = (name: "node" | "nats") => half.map((point) => [point.tasks / 100_000, point[name]] as const)
      return {
        tasks: perRound * rounds,
        rss_node_mb_first: points[0]?.node ?? Number.NaN,
        rss_node_mb_half: half[0]?.node ?? Number.NaN,
        rss_node_mb_last: half.at(-1)?.node ?? Number.NaN,
        rss_node_mb_most: Math.max(...points.map(({ node }) => node)),
        node_mb_per_100000_tasks: hundredths(slope(of("node"))),
        nats_mb_per_100000_tasks: hundredths(slope(of("nats"))),
        ...memoryOf(costs)
      }
    })
}
