/**
 * What tables and indexes weigh after many tasks while retention takes away the ended ones: N tasks pass through in ten parts, with
 * rules that delete everything a few seconds after its end. Rates, sizes and dead rows of the first and the last part tell whether the
 * past shows; at the end it is waited until nothing is left to delete.
 */
import { type Figures, hundredths, perSecond } from "../Figures.ts"
import { startPostgres } from "../servers/Postgres.ts"
import { query } from "../servers/query.ts"
import {
  completed,
  makeAgent,
  memory as memoryOf,
  onPlatform,
  pause,
  type Scenario,
  submitBatches,
  untilCompleted
} from "./Bench.ts"

const agent = "bloat"
const parts = 10
const deleteAfterMillis = 5_000

interface Weight {
  readonly table_mb: number
  readonly index_mb: number
  readonly live: number
  readonly dead: number
}

/** Of `tasks` and of `events`, as Postgres counts them: rows are estimates of its statistics. */
const weights = async (url: string): Promise<Readonly<Record<string, Weight>>> => {
  const rows = await query<Weight & { readonly name: string }>(
    url,
    `select relname as name, pg_table_size(relid)::float8 / 1048576 as table_mb, pg_indexes_size(relid)::float8 / 1048576 as index_mb,
       n_live_tup::float8 as live, n_dead_tup::float8 as dead
     from pg_stat_user_tables where relname in ('tasks', 'events')`
  )
  return Object.fromEntries(rows.map(({ name, ...weight }) => [name, weight]))
}

const named = (suffix: string, of: Readonly<Record<string, Weight>>): Figures =>
  Object.fromEntries(
    Object.entries(of).flatMap(([table, weight]) =>
      Object.entries(weight).map(([figure, value]) => [`${table}_${figure}_${suffix}`, hundredths(value)])
    )
  )

const remaining = async (url: string) =>
  (await query<{ readonly count: number }>(url, "select count(*)::float8 as count from tasks"))[0]?.count ?? 0

export const bloat: Scenario = {
  name: "bloat",
  once: true,
  run: async ({ through }) => {
    const postgres = await startPostgres()
    try {
      return await onPlatform(
        async ({ client, costs }) => {
          await makeAgent(client, agent)
          await client.request("PUT", "/api/v1/retention", { rules: [{ delete_after_ms: deleteAfterMillis }] })
          const part = Math.ceil(through / parts)
          const rates: Array<number> = []
          const sizes: Array<Readonly<Record<string, Weight>>> = []
          for (let done = part; done <= part * parts; done += part) {
            const began = performance.now()
            await submitBatches(client, part, () => agent)
            await untilCompleted(client, [agent], done)
            rates.push(perSecond(part, performance.now() - began))
            sizes.push(await weights(postgres.url))
            const { events, tasks } = sizes.at(-1) ?? {}
            process.stderr.write(
              `bloat: ${done} tasks, ${rates.at(-1)}/s; tasks ${Math.round(tasks?.table_mb ?? 0)} + ${Math.round(tasks?.index_mb ?? 0)} MB, ` +
                `${tasks?.live} live, ${tasks?.dead} dead; events ${Math.round(events?.table_mb ?? 0)} + ${Math.round(events?.index_mb ?? 0)} MB\n`
            )
          }
          const began = performance.now()
          const left = await remaining(postgres.url)
          while ((await remaining(postgres.url)) > 0) {
            if (performance.now() - began > 1_800_000)
              throw new Error("retention did not come to its end in half an hour")
            await pause(1_000)
          }
          return {
            tasks: part * parts,
            done_per_s_first_part: rates[0] ?? Number.NaN,
            done_per_s_last_part: rates.at(-1) ?? Number.NaN,
            done_per_s: Math.round(parts / rates.reduce((sum, rate) => sum + 1 / rate, 0)),
            left_to_delete: left,
            deleted_after_s: Math.round((performance.now() - began) / 1_000),
            completed: await completed(client, [agent]),
            ...named("first_part", sizes[0] ?? {}),
            ...named("last_part", sizes.at(-1) ?? {}),
            ...named("after", await weights(postgres.url)),
            ...memoryOf(costs)
          }
        },
        { environment: { DATABASE_URL: postgres.url } }
      )
    } finally {
      await postgres.stop()
    }
  }
}
