/**
 * pg-boss 12. It completes a batch after its handler has returned and says nothing then, so the record counts: jobs of the
 * queue by state, and for latency each job's own `completed_on`, the start of the transaction that wrote it.
 */
import pg from "pg"
import { PgBoss } from "pg-boss"
import { monotonicMillis, type Work } from "../Work.ts"
import { type Adapter, inChunks } from "./Adapter.ts"

const queue = "bench"

export const client: Adapter["client"] = async (connection, settings) => {
  const { queue: queueOptions, ...options } = settings.client ?? {}
  const boss = new PgBoss({ connectionString: connection.url ?? "", ...options })
  boss.on("error", (error) => console.error(error))
  await boss.start()
  await boss.createQueue(queue, queueOptions ?? {})
  const pool = new pg.Pool({ connectionString: connection.url, max: 2 })
  return {
    submitMany: (tasks) =>
      inChunks(tasks, settings.bulk, (chunk) =>
        boss.insert(
          queue,
          chunk.map((data) => ({ data }))
        )
      ),
    submit: (task) => boss.send(queue, task),
    remaining: async (submitted) => {
      const { rows } = await pool.query(
        "select count(*)::int as completed from pgboss.job where name = $1 and state = 'completed'",
        [queue]
      )
      return submitted - rows[0].completed
    },
    close: async () => {
      await boss.stop({ graceful: false })
      await pool.end()
    }
  }
}

export const worker: Adapter["worker"] = async (connection, settings, done) => {
  const { boss: bossOptions, ...options } = settings.worker ?? {}
  const boss = new PgBoss({ connectionString: connection.url ?? "", ...(bossOptions as object | undefined) })
  boss.on("error", (error) => console.error(error))
  await boss.start()
  const pool = new pg.Pool({ connectionString: connection.url, max: 1 })
  const timed = new Map<string, Work>()
  await boss.work<Work>(queue, options, async (jobs) => {
    for (const { data, id } of jobs) {
      if (data.at === 0) done(data)
      else timed.set(id, data)
    }
  })
  // Both clocks at one moment, to tell Postgres's times on ours.
  const { rows } = await pool.query("select extract(epoch from clock_timestamp())::float8 * 1000 as now")
  const offset = monotonicMillis() - rows[0].now
  const look = async () => {
    if (timed.size === 0) return
    const ended = await pool.query(
      `select id, extract(epoch from completed_on)::float8 * 1000 as at from pgboss.job
       where name = $1 and id = any ($2::uuid[]) and state = 'completed'`,
      [queue, [...timed.keys()]]
    )
    for (const { at, id } of ended.rows) {
      const task = timed.get(id)
      timed.delete(id)
      // Moved by how long ago it ended, so that the difference to now is its latency.
      if (task !== undefined) done({ ...task, at: task.at + (monotonicMillis() - (at + offset)) })
    }
  }
  let looking = Promise.resolve()
  const timer = setInterval(() => {
    looking = looking.then(look).catch((error: unknown) => console.error(error))
  }, 500)
  return {
    close: async () => {
      clearInterval(timer)
      await boss.stop({ graceful: false })
      await pool.end()
    }
  }
}
