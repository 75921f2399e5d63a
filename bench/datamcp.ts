/**
 * datamcp as a system to measure: `datamcp up` on servers of its own, everything on (events, results, fences, metrics), and
 * one client process that speaks NATS and HTTP as its users do. The node itself runs the tasks.
 */
import manifest from "../package.json" with { type: "json" }
import { makeClient } from "./Client.ts"
import { type Platform, type StartedPlatform, startPlatform } from "./Platform.ts"
import { type Cost, findChild } from "./ProcessTree.ts"
import { startRemote } from "./Remote.ts"
import type { ClientMethods, Running, System } from "./System.ts"

/** Does the work. */
export const agent = "bench-echo"
const concurrency = 1_000

export const datamcp: System = {
  name: "datamcp",
  title: `datamcp ${manifest.version}`,
  fsync: "on (embedded Postgres 18, fsync=on, synchronous_commit=on)",
  settings: `defaults; the agent runs ${concurrency} tasks at a time; bulk: 8 batches of 500 in flight over NATS`,
  missing: () => Promise.resolve(undefined),
  start: async () => startOn(await startPlatform())
}

/** Makes the agent and starts a client process on a platform, which ends with it. */
export const startOn = async (platform: StartedPlatform): Promise<Running> => {
  try {
    await makeAgent(platform)
    const client = await startRemote<ClientMethods>(new URL("datamcpClient.ts", import.meta.url), [
      JSON.stringify(platform)
    ])
    return {
      client,
      doors: ["nats", "http"],
      costs: [{ name: "client", pid: client.pid, tree: false }, ...costsOf(platform)],
      stop: async () => {
        await client.end()
        await platform.stop()
      }
    }
  } catch (error) {
    await platform.stop()
    throw error
  }
}

/** The node and its servers. */
export const costsOf = ({ pid }: Pick<Platform, "pid">): ReadonlyArray<Cost> => {
  const servers = (["postgres", "nats-server"] as const).flatMap((name): ReadonlyArray<Cost> => {
    const child = findChild(pid, name)
    return child === undefined ? [] : [{ name: name === "nats-server" ? "nats" : name, pid: child, tree: true }]
  })
  return [{ name: "node", pid, tree: false }, ...servers]
}

const makeAgent = async (platform: Platform) => {
  const client = await makeClient(platform)
  try {
    await client.request("POST", "/api/v1/agents", {
      name: agent,
      type: "echo",
      configuration: { max_concurrent_tasks: concurrency }
    })
  } finally {
    await client.close()
  }
}
