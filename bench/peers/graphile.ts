/**
 * graphile-worker 0.18. The record is that no job is left in the table, since completed ones are deleted. `job:complete`, by which
 * latency is measured, comes when the completion has been handed to its writer, not when it is written: its latencies
 * leave out that last commit.
 */
import { EventEmitter } from "node:events"
import { Logger, makeWorkerUtils, run, type WorkerEvents } from "graphile-worker"
import pg from "pg"
import { type Adapter, inChunks } from "./Adapter.ts"

/** Warnings and errors only. */
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message)
})

export const client: Adapter["client"] = async (connection, settings) => {
  const pool = new pg.Pool({ connectionString: connection.url, max: 20 })
  const utils = await makeWorkerUtils({ pgPool: pool, logger })
  await utils.migrate()
  return {
    submitMany: (tasks) =>
      inChunks(tasks, settings.bulk, (chunk) =>
        utils.addJobs(chunk.map((payload) => ({ identifier: "noop", payload })))
      ),
    submit: (task) => utils.addJob("noop", task),
    remaining: async () => {
      const { rows } = await pool.query("select count(*)::int as open from graphile_worker._private_jobs")
      return rows[0].open
    },
    close: async () => {
      await utils.release()
      await pool.end()
    }
  }
}

export const worker: Adapter["worker"] = async (connection, settings, done) => {
  const events: WorkerEvents = new EventEmitter()
  events.on("job:complete", ({ error, job }) => {
    if (error === null || error === undefined) done((job as any).payload)
  })
  const runner = await run({
    events,
    taskList: { noop: async () => undefined },
    noHandleSignals: true,
    preset: { worker: { connectionString: connection.url ?? "", logger, ...settings.worker } }
  } as any)
  return { close: () => runner.stop() }
}
