/**
 * The program of an engine process: runs the jobs that its node sends, one at a time, and dies with its node.
 *
 * DuckDB runs what strangers write, in native code: a query that brings it down, or all of the machine's memory, must cost
 * this process and not the node. It holds no secrets, and its node kills it to cancel.
 */
import { writeFileSync } from "node:fs"
import { constants, setPriority } from "node:os"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Answer, Job } from "./Job.ts"
import { runJob } from "./runJob.ts"

/** When memory is short this process goes first, and it never keeps the node from its heartbeats. */
const yieldToTheNode = Effect.sync(() => {
  Result.try(() => writeFileSync("/proc/self/oom_score_adj", "1000"))
  Result.try(() => setPriority(constants.priority.PRIORITY_BELOW_NORMAL))
})

const answer = (said: Answer) => {
  process.send?.(said)
}

const perform = (job: Job) =>
  Effect.matchEager(
    runJob(job, (step) => answer({ _tag: "Step", step })),
    {
      onFailure: answer,
      onSuccess: (result) => answer({ _tag: "Done", result, residentBytes: process.memoryUsage.rss() })
    }
  )

Effect.runSync(yieldToTheNode)
// A query may still be running in a thread: only a signal ends that at once.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"))
process.on("message", (job: Job) => void Effect.runFork(perform(job)))
