/**
 * BullMQ 6, on Redis or on its Postgres backend. A task is done when the worker's `completed` event comes, which follows
 * the write; the record is that nothing is left waiting, active, delayed or failed.
 */
import { createPostgresBackend, Queue, runMigrations, Worker } from "bullmq"
import pg from "pg"
import type { Work } from "../Work.ts"
import { type Adapter, type Connection, inChunks } from "./Adapter.ts"

const name = "bench"

const connectionOf = (connection: Connection, pool: unknown): any =>
  connection.port === undefined
    ? { connectionString: connection.url, max: pool ?? 10 }
    : { host: "127.0.0.1", port: connection.port, maxRetriesPerRequest: null }

const backendOf = (connection: Connection): ReadonlyArray<any> =>
  connection.port === undefined ? [createPostgresBackend] : []

const migrate = async (url: string) => {
  const pool = new pg.Pool({ connectionString: url })
  const client = await pool.connect()
  try {
    await runMigrations(client)
  } finally {
    client.release()
    await pool.end()
  }
}

export const client: Adapter["client"] = async (connection, settings) => {
  if (connection.url !== undefined) await migrate(connection.url)
  const { pool, ...options } = settings.client ?? {}
  const queue = new (Queue as any)(
    name,
    { connection: connectionOf(connection, pool), ...options },
    ...backendOf(connection)
  ) as Queue<Work>
  await queue.waitUntilReady()
  return {
    submitMany: (tasks) =>
      inChunks(tasks, settings.bulk, (chunk) => queue.addBulk(chunk.map((data) => ({ name: "noop", data })))),
    submit: (data) => queue.add("noop", data),
    remaining: async () => {
      const counts = await queue.getJobCounts("waiting", "active", "delayed", "prioritized", "failed")
      return Object.values(counts).reduce((sum, count) => sum + count, 0)
    },
    close: () => queue.close()
  }
}

export const worker: Adapter["worker"] = async (connection, settings, done) => {
  const { pool, ...options } = settings.worker ?? {}
  const running = new (Worker as any)(
    name,
    async () => undefined,
    { connection: connectionOf(connection, pool), ...options },
    ...backendOf(connection)
  ) as Worker<Work>
  running.on("completed", (job) => done(job.data))
  running.on("error", (error) => console.error(error))
  await running.waitUntilReady()
  return { close: () => running.close() }
}
