/**
 * How long work stands still when something dies, and what more nodes cost: a node by SIGKILL and by SIGTERM, nats-server with and without its
 * store, Postgres fast and by SIGKILL (`bench/recovery`), each on a cluster of its own.
 */
import { natsKilled } from "../recovery/natsLoss.ts"
import { nodeKilled, nodeStopped } from "../recovery/nodeLoss.ts"
import { postgresRestarted } from "../recovery/postgresLoss.ts"
import { scaled } from "../recovery/scale.ts"
import type { Scenario } from "./Bench.ts"

const losses = {
  "recovery-node": async () => ({ ...(await nodeKilled(2)), ...(await nodeKilled(3)), ...(await nodeStopped()) }),
  "recovery-nats": async () => ({ ...(await natsKilled("kept")), ...(await natsKilled("wiped")) }),
  "recovery-postgres": async () => ({ ...(await postgresRestarted("fast")), ...(await postgresRestarted("kill")) })
}

export const recovery: ReadonlyArray<Scenario> = [
  ...Object.entries(losses).map(([name, run]) => ({ name, run })),
  { name: "recovery-scale", run: scaled }
]
