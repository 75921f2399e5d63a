/**
 * What limits cost: the same bulk, of 20 customers and four priorities, through an agent without a rule, with two rules that leave
 * room (a concurrency and a rate per customer), and with one that makes most tasks wait for their turn. Interleaved on one platform, so that all see the same machine.
 */
import type { Client } from "../Client.ts"
import { type Figures, median, percentiles, perSecond } from "../Figures.ts"
import { workOf } from "../Work.ts"
import { completed, makeAgent, onPlatform, type Scenario, untilCompleted } from "./Bench.ts"

const customers = 20
const tasks = 20_000
const rounds = 3
const priorities = ["critical", "high", "normal", "low"] as const

/** What is measured, and the agent that does it. */
export const kinds = [
  { name: "plain", agent: "rules-plain" },
  { name: "roomy", agent: "rules-roomy" },
  { name: "tight", agent: "rules-tight" }
] as const
export type Kind = (typeof kinds)[number]

/** Makes the agents and their limits. */
export const define = async (client: Client) => {
  for (const { agent } of kinds) await makeAgent(client, agent)
  const key = "labels.customer"
  const limit = (body: object) => client.request("POST", "/api/v1/limits", body)
  await limit({ name: "roomy-at-a-time", agent: "rules-roomy", key, concurrency: 5_000 })
  await limit({ name: "roomy-rate", agent: "rules-roomy", key, rate: { limit: 100_000, window_ms: 1_000 } })
  await limit({ name: "tight", agent: "rules-tight", key, concurrency: 25 })
}

/** The same for all. */
const taskOf = ({ agent }: Kind, n: number) => ({
  agent,
  type: "echo",
  payload: workOf(n),
  labels: { customer: `c${n % customers}` },
  priority: priorities[n % 4]
})

/** Completed tasks per second of one bulk, from the first submission to the last recorded end. */
export const bulk = async (client: Client, kind: Kind, count: number): Promise<number> => {
  const before = await completed(client, [kind.agent])
  const began = performance.now()
  let sent = 0
  const sender = async () => {
    while (sent < count) {
      const from = sent
      const size = Math.min(500, count - from)
      sent += size
      const accepted = await client.batchNats(Array.from({ length: size }, (_, n) => taskOf(kind, from + n)))
      if (accepted !== size) throw new Error(`only ${accepted} of a batch of ${size} were accepted`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, sender))
  await untilCompleted(client, [kind.agent], before + count)
  return perSecond(count, performance.now() - began)
}

/** Milliseconds from a submission to its end, one after the other. */
const oneByOne = async (client: Client, kind: Kind, count: number): Promise<ReadonlyArray<number>> => {
  const millis: Array<number> = []
  for (let n = 0; n < count; n++) {
    const began = performance.now()
    await client.waitNats(await client.submitNats(taskOf(kind, n)))
    millis.push(performance.now() - began)
  }
  return millis
}

export const rules: Scenario = {
  name: "rules",
  run: () =>
    onPlatform(async ({ client }) => {
      await define(client)
      for (const kind of kinds) await bulk(client, kind, tasks / 4)
      const rates = new Map<string, Array<number>>(kinds.map(({ name }) => [name, []]))
      for (let round = 0; round < rounds; round++) {
        for (const kind of kinds) rates.get(kind.name)?.push(await bulk(client, kind, tasks))
      }
      const figures: Record<string, number> = {}
      for (const kind of kinds) {
        figures[`${kind.name}_per_s`] = Math.round(median(rates.get(kind.name) ?? []))
        Object.assign(figures, percentiles(`${kind.name}_alone_`, await oneByOne(client, kind, 200)))
      }
      const plain = figures["plain_per_s"] ?? Number.NaN
      for (const name of ["roomy", "tight"]) {
        figures[`${name}_cost_percent`] = Math.round(100 * (1 - (figures[`${name}_per_s`] ?? Number.NaN) / plain))
      }
      return figures satisfies Figures
    })
}
