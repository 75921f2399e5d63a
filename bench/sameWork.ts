/**
 * The scenarios that every system runs, on one that has been started: bulk, single, latency. All durations are the bench's
 * own; an end counts when the system's own record says so.
 */
import { cpus } from "node:os"
import { type Figures, percentiles, perSecond, quantile } from "./Figures.ts"
import { cpuMicros, machineMicros } from "./ProcessTree.ts"
import type { Door, Running } from "./System.ts"

export interface Measured {
  readonly scenario: string
  readonly figures: Figures
}

/** Longest wait for the end of what was submitted. */
const endWithinMillis = 300_000

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

/** One started system and how many tasks it has been given. */
export const sameWork = ({ client, costs, doors, worker }: Running) => {
  let submitted = 0

  /** Waits until the worker has done all, where there is one, then until the record says so. */
  const untilEnded = async () => {
    const end = performance.now() + endWithinMillis
    const inTime = () => {
      if (performance.now() > end) throw new Error(`not all of ${submitted} tasks ended within ${endWithinMillis} ms`)
    }
    // The record of a queue is not free to read: asked only when the worker believes to be through.
    while (worker !== undefined && (await worker.call.done()) < submitted) {
      inTime()
      await pause(10)
    }
    for (;;) {
      const left = await client.call.remaining(submitted)
      if (left <= 0) return
      inTime()
      await pause(Math.min(100, Math.max(5, left / 50)))
    }
  }

  /**
   * CPU per task of every process over a piece of work, by name; and what share of the machine went to anything but the
   * measured system, its client and this process: more than a few percent, and the figures are not the system's own.
   */
  const costing = async (count: number, work: () => Promise<Figures>): Promise<Figures> => {
    const before = cpuMicros(costs)
    const beganAt = performance.now()
    const [ownBefore, allBefore] = [process.cpuUsage(), machineMicros()]
    const figures = await work()
    const own = process.cpuUsage(ownBefore)
    const all = machineMicros() - allBefore
    const elapsedMicros = (performance.now() - beganAt) * 1_000
    const after = cpuMicros(costs)
    const used = Object.entries(after).map(([name, micros]) => [
      `cpu_us_${name}`,
      Math.round((micros - (before[name] ?? 0)) / count)
    ])
    const ours = Object.entries(after).reduce((sum, [name, micros]) => sum + micros - (before[name] ?? 0), 0)
    const others = (all - ours - own.user - own.system) / (elapsedMicros * cpus().length)
    return { ...figures, ...Object.fromEntries(used), others_percent: Math.max(0, Math.round(others * 100)) }
  }

  const bulk = async (count: number): Promise<Measured> => {
    const figures = await costing(count, async () => {
      const began = performance.now()
      await client.call.submitMany(count)
      const acceptedAt = performance.now()
      submitted += count
      await untilEnded()
      return {
        tasks: count,
        done_per_s: perSecond(count, performance.now() - began),
        accepted_per_s: perSecond(count, acceptedAt - began)
      }
    })
    return { scenario: "bulk", figures }
  }

  const single = async (door: Door, count: number): Promise<Measured> => {
    const figures = await costing(count, async () => {
      const began = performance.now()
      const answered = await client.call.submitEach(door, { count, inFlight: 64 })
      const acceptedAt = performance.now()
      submitted += count
      await untilEnded()
      return {
        tasks: count,
        done_per_s: perSecond(count, performance.now() - began),
        accepted_per_s: perSecond(count, acceptedAt - began),
        ...percentiles("accept_", answered)
      }
    })
    return { scenario: door === "http" ? "single-http" : "single", figures }
  }

  const latency = async (rate: number, seconds: number): Promise<Measured> => {
    const count = Math.round(rate * seconds)
    const figures = await costing(count, async () => {
      await worker?.call.latencies()
      const began = performance.now()
      const { accepted, ended, late } = await client.call.submitPaced({ perSecond: rate, seconds })
      submitted += count
      await untilEnded()
      const tookMillis = performance.now() - began
      const latencies = worker === undefined ? ended : await worker.call.latencies()
      return {
        tasks: count,
        ...percentiles("", latencies),
        ...percentiles("accept_", accepted),
        late_p99_ms: quantile(late, 0.99),
        /** How long after the last submission was due everything had ended: a second or more means that it could not keep up. */
        behind_ms: Math.max(0, Math.round(tookMillis - seconds * 1_000))
      }
    })
    return { scenario: `latency-${rate}`, figures }
  }

  /** Runs every path for a while, uncounted: compilers, pools, caches. Says what it reached, to size the rounds. */
  const warmUp = async (seconds: number): Promise<{ readonly bulk: number; readonly single: number }> => {
    const rateOf = async (work: (count: number) => Promise<Measured>, first: number) => {
      const began = performance.now()
      let rate = (await work(first)).figures["done_per_s"] ?? 1
      while (performance.now() - began < seconds * 1_000) {
        const left = seconds - (performance.now() - began) / 1_000
        rate = (await work(Math.max(first, Math.min(20_000, Math.round(rate * left))))).figures["done_per_s"] ?? rate
      }
      return rate
    }
    const bulkRate = await rateOf(bulk, 500)
    const [door = "own", ...others] = doors
    const singleRate = await rateOf((count) => single(door, count), 200)
    for (const other of others) await rateOf((count) => single(other, count), 200)
    return { bulk: bulkRate, single: singleRate }
  }

  return { bulk, single, latency, warmUp }
}
