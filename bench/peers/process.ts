/**
 * The process of a peer's client or worker: `process.ts client|worker <adapter> <connection> <settings>`, the last two as
 * JSON. Started by `peers.ts` through `Remote`.
 */
import { serveRemote } from "../Remote.ts"
import { serveClient, type WorkerMethods } from "../System.ts"
import { monotonicMillis } from "../Work.ts"
import type { Adapter } from "./Adapter.ts"
import type { AdapterName } from "./list.ts"

const adapters = {
  bullmq: () => import("./bullmq.ts"),
  graphile: () => import("./graphile.ts"),
  pgboss: () => import("./pgboss.ts"),
  restate: () => import("./restate.ts")
} satisfies Record<AdapterName, () => Promise<Adapter>>

const [role, name, connectionJson = "{}", settingsJson = "{}"] = process.argv.slice(2)
const adapter = await adapters[name as AdapterName]()
const connection = JSON.parse(connectionJson)
const settings = JSON.parse(settingsJson)

if (role === "client") serveClient({ own: await adapter.client(connection, settings) })
else {
  let done = 0
  let latencies: Array<number> = []
  const worker = await adapter.worker(connection, settings, (task) => {
    done++
    if (task.at > 0) latencies.push(monotonicMillis() - task.at)
  })
  const methods: WorkerMethods = {
    done: () => Promise.resolve(done),
    latencies: () => {
      const told = latencies
      latencies = []
      return Promise.resolve(told)
    }
  }
  serveRemote({ ...methods }, worker.close)
}
