/**
 * nats-server is killed with SIGKILL under a steady rate of tasks and started again 3 s later: with its store, and with an empty one. Tasks are
 * accepted and run all the while; what is told is from when on they run at once again.
 */
import { type Figures, percentiles, quantile } from "../Figures.ts"
import { pause } from "../scenarios/Bench.ts"
import { failuresOf } from "./SteadyLoad.ts"
import { keptUp, underLoad, usualOf } from "./UnderLoad.ts"

const beforeMillis = 8_000
const downMillis = 3_000
const afterMillis = 14_000
/** A second in which this share of the tasks took no longer than `atOnceMillis` beyond what is usual counts as usual. */
const usualShare = 0.95
const atOnceMillis = 250

export const natsKilled = async (store: "kept" | "wiped", perSecond: number): Promise<Figures> => {
  const { event, submissions, tasks } = await underLoad(
    { nodes: 2, perSecond, beforeMillis, afterMillis },
    async ({ nats }) => {
      const killedAt = Date.now()
      await nats.end("SIGKILL")
      if (store === "wiped") nats.wipe()
      await pause(downMillis)
      await nats.again()
      return { killedAt, startedAt: Date.now() }
    }
  )
  const { killedAt, startedAt } = event
  const usual = quantile(
    tasks.filter(({ sentAt }) => sentAt < killedAt - 1_000).map(({ waited }) => waited),
    usualShare
  )
  const isUsual = (from: number) => {
    const waits = tasks.filter(({ sentAt }) => sentAt >= from && sentAt < from + 1_000).map(({ waited }) => waited)
    return quantile(waits, usualShare) <= usual + atOnceMillis
  }
  // The last second that was not as usual, looked at in steps.
  const last = startedAt + afterMillis - 1_500
  const unusual = Array.from(
    { length: Math.floor((last - startedAt) / 250) },
    (_, step) => startedAt + step * 250
  ).filter((from) => !isUsual(from))
  const resumedAt = (unusual.at(-1) ?? startedAt - 250) + 250
  const name = store === "wiped" ? "nats_wiped" : "nats_kill"
  const between = (from: number, to: number) =>
    tasks.filter(({ sentAt }) => sentAt >= from && sentAt < to).map(({ waited }) => waited)
  return {
    [`${name}_kept_up`]: keptUp(usualOf(tasks, killedAt)),
    [`${name}_usual_p95_ms`]: usual,
    ...percentiles(`${name}_while_away_`, between(killedAt, startedAt)),
    ...percentiles(`${name}_first_3s_after_`, between(startedAt, startedAt + 3_000)),
    [`${name}_as_usual_after_ms`]: resumedAt - startedAt,
    [`${name}_extra_attempts`]: tasks.reduce((sum, { attempt }) => sum + attempt - 1, 0),
    [`${name}_failed_requests`]: failuresOf(submissions),
    [`${name}_lost`]: submissions.filter(({ id }) => id !== undefined).length - tasks.length
  }
}
