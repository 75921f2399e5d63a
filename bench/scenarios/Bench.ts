/** What the scenarios of datamcp alone share: a platform of their own, a client in this process, and the way to an end. */
import { type Client, makeClient } from "../Client.ts"
import { costsOf } from "../datamcp.ts"
import type { Figures } from "../Figures.ts"
import { type PlatformOptions, type StartedPlatform, startPlatform } from "../Platform.ts"
import { type Cost, memoryMegabytes } from "../ProcessTree.ts"
import type { RoundOptions } from "../rounds.ts"
import { workOf } from "../Work.ts"

export interface ScenarioOptions extends RoundOptions {
  /** Queued tasks of the scenario `backlog`. */
  readonly backlog: number
  /** Tasks of the scenario `bloat`. */
  readonly through: number
  /** Tasks per second of the scenarios `recovery-*`. */
  readonly rate: number
}

export interface Scenario {
  readonly name: string
  /** Long ones run once, whatever the rounds. */
  readonly once?: boolean
  readonly run: (options: ScenarioOptions) => Promise<Figures>
}

export interface Bench {
  readonly platform: StartedPlatform
  readonly client: Client
  /** The node and its servers. */
  readonly costs: ReadonlyArray<Cost>
}

export const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** Runs a scenario on a platform that is started for it and ended with it. */
export const onPlatform = async (
  run: (bench: Bench) => Promise<Figures>,
  options?: PlatformOptions
): Promise<Figures> => {
  const platform = await startPlatform(options)
  try {
    const client = await makeClient(platform)
    try {
      return await run({ platform, client, costs: costsOf(platform) })
    } finally {
      await client.close()
    }
  } finally {
    await platform.stop()
  }
}

export const makeAgent = (client: Client, name: string, concurrency = 1_000) =>
  client.request("POST", "/api/v1/agents", {
    name,
    type: "echo",
    configuration: { max_concurrent_tasks: concurrency }
  })

/** A no-op task of 200 bytes for an agent. */
export const taskFor = (agent: string, n = 0) => ({ agent, type: "echo", payload: workOf(n) })

/** Submits `count` tasks over NATS, 8 batches of 500 in flight; `agentOf` says whose the n-th batch is. */
export const submitBatches = async (client: Client, count: number, agentOf: (batch: number) => string) => {
  let sent = 0
  let batches = 0
  const sender = async () => {
    while (sent < count) {
      const size = Math.min(500, count - sent)
      sent += size
      const task = taskFor(agentOf(batches++))
      const accepted = await client.batchNats(Array.from({ length: size }, () => task))
      if (accepted !== size) throw new Error(`only ${accepted} of a batch of ${size} were accepted`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, sender))
}

export const completed = async (client: Client, agents: ReadonlyArray<string>): Promise<number> => {
  const figures = await Promise.all(agents.map((agent) => client.request("GET", `/api/v1/agents/${agent}/metrics`)))
  return figures.reduce((sum, figure) => sum + figure.completed, 0)
}

/** Waits until these agents have completed `target` tasks in all, at most `minutes`. */
export const untilCompleted = async (
  client: Client,
  agents: ReadonlyArray<string>,
  target: number,
  minutes = 10
): Promise<void> => {
  const end = performance.now() + minutes * 60_000
  for (;;) {
    const left = target - (await completed(client, agents))
    if (left <= 0) return
    if (performance.now() > end)
      throw new Error(`${left} of ${target} tasks had not completed after ${minutes} minutes`)
    await pause(Math.min(200, Math.max(10, left / 50)))
  }
}

/** Memory of each process in MB, as `rss_<name>_mb`; of Postgres the shared memory counts once. */
export const memory = (costs: ReadonlyArray<Cost>): Figures =>
  Object.fromEntries(costs.map((cost) => [`rss_${cost.name}_mb`, memoryMegabytes(cost)]))
