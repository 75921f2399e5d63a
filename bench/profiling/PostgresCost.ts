/**
 * What a piece of work costs Postgres: CPU by kind of process, statements with their time and log volume (pg_stat_statements,
 * statements inside functions too), bytes of write-ahead log, and how tables were changed.
 */
import { cpuMicros } from "../ProcessTree.ts"
import { query } from "../servers/query.ts"

/** Loaded by a server that shall be asked. */
export const statisticsSettings = {
  shared_preload_libraries: "pg_stat_statements",
  "pg_stat_statements.track": "all",
  compute_query_id: "on",
  track_io_timing: "on",
  track_wal_io_timing: "on"
}

/** After so long every connection has told its counts, also one that fell idle. */
const statisticsDelayMillis = 11_000

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

export interface PostgresCost {
  /** Ends the measurement and tells it, per task. */
  readonly text: (tasks: number) => Promise<string>
}

interface Statement {
  readonly query: string
  readonly toplevel: boolean
  readonly calls: number
  readonly rows: number
  readonly millis: number
  readonly wal: number
  readonly hits: number
  readonly reads: number
}

interface Table {
  readonly name: string
  readonly inserts: number
  readonly updates: number
  readonly hot: number
  readonly deletes: number
  readonly seq: number
  readonly index: number
}

export const beginPostgresCost = async (url: string): Promise<PostgresCost> => {
  await query(url, "create extension if not exists pg_stat_statements")
  const lsn = async () =>
    Number(
      (await query<{ readonly at: string }>(url, "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::text as at"))[0]?.at
    )
  const tables = () =>
    query<Table>(
      url,
      `select relname as name, n_tup_ins::float8 as inserts, n_tup_upd::float8 as updates, n_tup_hot_upd::float8 as hot,
         n_tup_del::float8 as deletes, seq_tup_read::float8 as seq, coalesce(idx_tup_fetch, 0)::float8 as index
       from pg_stat_user_tables`
    )
  const wal = () =>
    query<{ readonly records: number; readonly images: number; readonly syncs: number; readonly syncMillis: number }>(
      url,
      `select w.wal_records::float8 as records, w.wal_fpi::float8 as images,
         (select sum(fsyncs)::float8 from pg_stat_io where object = 'wal') as syncs,
         (select sum(fsync_time)::float8 from pg_stat_io where object = 'wal') as "syncMillis"
       from pg_stat_wal w`
    )
  await pause(statisticsDelayMillis)
  await query(url, "select pg_stat_statements_reset()")
  const before = { lsn: await lsn(), tables: await tables(), wal: await wal(), cpu: await processes(url) }
  return {
    text: async (tasks) => {
      const cpu = await processes(url)
      const bytes = (await lsn()) - before.lsn
      await pause(statisticsDelayMillis)
      const log = await wal()
      const statements = await query<Statement>(
        url,
        `select query, toplevel, calls::float8 as calls, rows::float8 as rows, total_exec_time as millis,
           wal_bytes::float8 as wal, shared_blks_hit::float8 as hits, shared_blks_read::float8 as reads
         from pg_stat_statements order by total_exec_time desc limit 30`
      )
      const syncs = (log[0]?.syncs ?? 0) - (before.wal[0]?.syncs ?? 0)
      const syncMillis = (log[0]?.syncMillis ?? 0) - (before.wal[0]?.syncMillis ?? 0)
      return [
        `Postgres CPU, us per task: ${perKind(before.cpu, cpu, tasks)}`,
        `WAL: ${Math.round(bytes / tasks)} bytes per task, ${per((log[0]?.records ?? 0) - (before.wal[0]?.records ?? 0), tasks)} records, ` +
          `${per((log[0]?.images ?? 0) - (before.wal[0]?.images ?? 0), tasks)} full pages; ` +
          `${syncs} fsyncs (${(tasks / syncs).toFixed(1)} tasks each, ${(syncMillis / syncs).toFixed(2)} ms each)`,
        "rows per task by table (inserted / updated, of these HOT / deleted; rows read by scan, by index):",
        ...changes(before.tables, await tables(), tasks),
        "statements, us of elapsed time per task (calls per 1,000 tasks, rows per call, WAL bytes and pages touched per task; (in) = inside a function):",
        ...statements
          .filter(({ millis }) => (millis * 1_000) / tasks >= 0.1)
          .map((statement) => statementLine(statement, tasks))
      ].join("\n")
    }
  }
}

const per = (count: number, tasks: number) => (count / tasks).toFixed(2)

const statementLine = (statement: Statement, tasks: number) => {
  const text = statement.query.replace(/\s+/g, " ").trim().slice(0, 150)
  const figures =
    `${((statement.calls * 1_000) / tasks).toFixed(1)} calls, ${(statement.rows / statement.calls).toFixed(1)} rows, ` +
    `${Math.round(statement.wal / tasks)} B, ${((statement.hits + statement.reads) / tasks).toFixed(1)} pages`
  return `  ${((statement.millis * 1_000) / tasks).toFixed(2).padStart(8)}  ${statement.toplevel ? "" : "(in) "}${text}  [${figures}]`
}

const changes = (before: ReadonlyArray<Table>, after: ReadonlyArray<Table>, tasks: number): ReadonlyArray<string> =>
  after.flatMap((table) => {
    const old = before.find(({ name }) => name === table.name)
    const grown = (field: Exclude<keyof Table, "name">) => table[field] - (old?.[field] ?? 0)
    const touched = grown("inserts") + grown("updates") + grown("deletes") + grown("seq") + grown("index")
    if (touched / tasks < 0.01) return []
    const written = `${per(grown("inserts"), tasks)} / ${per(grown("updates"), tasks)}, ${per(grown("hot"), tasks)} / ${per(grown("deletes"), tasks)}`
    return [`  ${table.name}: ${written}; ${per(grown("seq"), tasks)}, ${per(grown("index"), tasks)}`]
  })

/** CPU of each live process of the server by its kind; connections that end in between are lost. */
const processes = async (url: string): Promise<ReadonlyMap<string, number>> => {
  const rows = await query<{ readonly pid: number; readonly kind: string; readonly name: string }>(
    url,
    "select pid, backend_type as kind, application_name as name from pg_stat_activity where pid <> pg_backend_pid()"
  )
  const kinds = new Map<string, number>()
  for (const { kind, name, pid } of rows) {
    const used = cpuMicros([{ name: "it", pid, tree: false }])["it"] ?? 0
    const key = kind === "client backend" ? `connections of ${name.split(" ")[0] || "others"}` : kind
    kinds.set(key, (kinds.get(key) ?? 0) + used)
  }
  return kinds
}

const perKind = (before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, tasks: number) =>
  [...after]
    .map(([kind, micros]) => [kind, Math.round((micros - (before.get(kind) ?? 0)) / tasks)] as const)
    .filter(([, micros]) => micros > 0)
    .sort(([, left], [, right]) => right - left)
    .map(([kind, micros]) => `${kind} ${micros}`)
    .join(", ")
