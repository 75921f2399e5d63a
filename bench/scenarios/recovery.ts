/**
 * How long work stands still when something dies, and what more nodes cost: a node by SIGKILL and by SIGTERM, nats-server with and without its
 * store, Postgres fast and by SIGKILL (`bench/recovery`), each on a cluster of its own.
 */
import { natsKilled } from "../recovery/natsLoss.ts"
import { nodeKilled, nodeStopped } from "../recovery/nodeLoss.ts"
import { postgresRestarted } from "../recovery/postgresLoss.ts"
import { scaled } from "../recovery/scale.ts"
import type { Scenario } from "./Bench.ts"

/** Every accept of Postgres's outage is a request that waits: less of them than a node takes at most. */
const postgresRateMost = 200

export const recovery: ReadonlyArray<Scenario> = [
  {
    name: "recovery-node",
    run: async ({ rate }) => ({
      ...(await nodeKilled(2, rate)),
      ...(await nodeKilled(3, rate)),
      ...(await nodeStopped(rate))
    })
  },
  {
    name: "recovery-nats",
    run: async ({ rate }) => ({ ...(await natsKilled("kept", rate)), ...(await natsKilled("wiped", rate)) })
  },
  {
    name: "recovery-postgres",
    run: async ({ rate }) => {
      const least = Math.min(rate, postgresRateMost)
      return { ...(await postgresRestarted("fast", least)), ...(await postgresRestarted("kill", least)) }
    }
  },
  { name: "recovery-scale", run: scaled }
]
