/**
 * The work that is measured: N no-op tasks with 200 bytes of payload, durably submitted by one client process, run by one
 * node, their completion durably recorded (`echo` agent, all features on).
 *
 *   bulk     submitted in batches of 500 as fast as taken; rate until all are done
 *   single   one task per call, 64 calls in flight, over NATS and over HTTP; rate until all are done, and of accepts
 *   latency  submit -> done at a steady rate over NATS, without waiting for the one before (open loop)
 */
import type { Client } from "./Client.ts"

export interface Result {
  readonly scenario: string
  readonly unit: string
  /** Figures by name. */
  readonly figures: Record<string, number>
}

const agent = "bench-echo"
const task = { agent, type: "echo", payload: { text: "x".repeat(180), n: 1 } }

/** The agent that does the work; made once. */
export const prepare = (client: Client) =>
  client.request("POST", "/api/v1/agents", {
    name: agent,
    type: "echo",
    configuration: { max_concurrent_tasks: 1_000 }
  })

const completed = async (client: Client): Promise<number> =>
  (await client.request("GET", `/api/v1/agents/${agent}/metrics`)).completed

/** Waits until `target` tasks have completed since the beginning, at most 300 s. */
const untilCompleted = async (client: Client, target: number) => {
  const end = performance.now() + 300_000
  while (performance.now() < end) {
    const done = await completed(client)
    if (done >= target) return
    await new Promise((resolve) => setTimeout(resolve, target - done > 5_000 ? 50 : 10))
  }
  throw new Error(`not all of ${target} tasks completed within 300 s`)
}

const rate = (count: number, millis: number) => Math.round((count / millis) * 1_000)

export const bulk = async (client: Client, count: number): Promise<Result> => {
  const before = await completed(client)
  const began = performance.now()
  const batch = Array.from({ length: 500 }, () => task)
  let sent = 0
  const sender = async () => {
    while (sent < count) {
      sent += batch.length
      const accepted = await client.batchNats(batch)
      if (accepted !== batch.length) throw new Error(`only ${accepted} of a batch were accepted`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, sender))
  const acceptedAt = performance.now()
  await untilCompleted(client, before + sent)
  return {
    scenario: "bulk",
    unit: "tasks/s",
    figures: { done: rate(sent, performance.now() - began), accepted: rate(sent, acceptedAt - began) }
  }
}

export const single = async (client: Client, door: "nats" | "http", count: number): Promise<Result> => {
  const submit = door === "nats" ? client.submitNats : client.submitHttp
  const before = await completed(client)
  const latencies: Array<number> = []
  const began = performance.now()
  let sent = 0
  const sender = async () => {
    while (sent < count) {
      sent++
      const at = performance.now()
      await submit(task)
      latencies.push(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: 64 }, sender))
  const acceptedAt = performance.now()
  await untilCompleted(client, before + sent)
  return {
    scenario: `single-${door}`,
    unit: "tasks/s",
    figures: {
      done: rate(sent, performance.now() - began),
      accepted: rate(sent, acceptedAt - began),
      accept_p50_ms: quantile(latencies, 0.5),
      accept_p95_ms: quantile(latencies, 0.95),
      accept_p99_ms: quantile(latencies, 0.99)
    }
  }
}

export const latency = async (client: Client, perSecond: number, seconds: number): Promise<Result> => {
  const latencies: Array<number> = []
  const pending: Array<Promise<void>> = []
  const one = async (due: number) => {
    const id = await client.submitNats(task)
    const status = await client.waitNats(id)
    if (status !== "completed") throw new Error(`a task ended as ${status}`)
    // From when it was due, so that a stall is not hidden by sending less.
    latencies.push(performance.now() - due)
  }
  const began = performance.now()
  for (let index = 0; index < perSecond * seconds; index++) {
    const due = began + (index * 1_000) / perSecond
    const wait = due - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    pending.push(one(Math.max(due, performance.now() - 2)))
  }
  await Promise.all(pending)
  return {
    scenario: `latency-${perSecond}`,
    unit: "ms",
    figures: {
      p50: quantile(latencies, 0.5),
      p95: quantile(latencies, 0.95),
      p99: quantile(latencies, 0.99),
      max: quantile(latencies, 1)
    }
  }
}

/** A quantile of the samples, rounded to a hundredth. */
export const quantile = (samples: ReadonlyArray<number>, at: number): number => {
  const sorted = [...samples].sort((left, right) => left - right)
  const value = sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))] ?? Number.NaN
  return Math.round(value * 100) / 100
}
