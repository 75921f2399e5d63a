/**
 * The pipeline as data, in the words of the REST API: its agents, its schedule with the graph of each night, and the
 * webhook that tells of the end.
 *
 *   list --- fetch (map, 3 at a time) --- check (map, 3 at a time) --- report --- approve --- publish ~~~ webhook
 *
 * Results go from task to task by reference (`$result`), files as artifacts.
 */
const result = (task: string, path = "") => ({ $result: task, path })
const item = (path: string) => ({ $item: path })

/** Where the world outside of the platform is: see `Outside.ts`. */
export interface Places {
  readonly url: string
}

/** A private address is reached by an agent only when its settings name it. */
export const agents = ({ url }: Places) => ({
  "nightly-http": { type: "http", configuration: { settings: { allow_private: [new URL(url).host] } } },
  "nightly-sql": { type: "sql", configuration: { max_concurrent_tasks: 2, settings: { memory_mib: 512 } } },
  "nightly-approval": { type: "approval", configuration: {} }
})

/** Every night at half past two in Berlin, also when the clocks change; not while last night's waits for its approval. */
export const schedule = (places: Places) => ({
  description: "Fetches and checks the data sets, and publishes the report once somebody has approved it.",
  cron: "30 2 * * *",
  time_zone: "Europe/Berlin",
  catch_up: "one",
  overlap: "skip",
  graph: { name: "nightly", labels: { pipeline: "nightly" }, tasks: tasks(places) }
})

/** Told of publish tasks that ran, however they ended. One that was skipped is `TaskCancelled`: nobody is told. */
export const webhook = ({ url }: Places) => ({
  name: "nightly-published",
  url: `${url}/told`,
  filter: { events: ["TaskCompleted", "TaskFailed", "TaskTimedOut"], labels: { pipeline: "nightly", step: "publish" } },
  include_result: true
})

const tasks = ({ url }: Places) => ({
  list: { agent: "nightly-http", payload: { url: `${url}/files.json` } },
  fetch: {
    agent: "nightly-http",
    map: { over: result("list", "/body/files"), max_parallel: 3 },
    payload: { url: item("/url"), save_as: item("/name") },
    dependencies: ["list"]
  },
  check: {
    description: "Rows, and of each column its type and its nulls.",
    agent: "nightly-sql",
    map: { over: result("fetch"), max_parallel: 3 },
    payload: {
      inputs: {
        data: { artifact: item("/data/artifact/id") },
        about: { rows: [{ file: item("/data/artifact/name") }] }
      },
      profile: true,
      query: "select file from about"
    },
    dependencies: ["fetch"]
  },
  report: { agent: "nightly-sql", payload: report, dependencies: ["list", "check"] },
  approve: {
    description: "Eight hours, then it counts as rejected. It holds no slot while it waits.",
    agent: "nightly-approval",
    payload: {
      message: result("report", "/rows/0/summary"),
      roles: ["admin", "operator"],
      timeout_ms: 8 * 3_600_000,
      on_expiry: "reject"
    },
    dependencies: ["report"]
  },
  publish: {
    description: "Sent with the task's idempotency key, so that a second attempt publishes nothing twice.",
    agent: "nightly-http",
    labels: { step: "publish" },
    payload: {
      url: `${url}/published`,
      body: { approved_by: result("approve", "/decided_by"), report: result("report", "/report") }
    },
    // Not required: a report that nobody wants is skipped. It has not failed.
    dependencies: ["report", { task: "approve", required: false }]
  }
})

const columnsFound = `STRUCT("name" VARCHAR, "type" VARCHAR, nulls BIGINT)[]`

const report = {
  inputs: {
    // What has to be, and what was found: one row per file.
    files: {
      rows: result("list", "/body/files"),
      types: { rules: `STRUCT("name" VARCHAR, "type" VARCHAR, nulls_max BIGINT)[]` }
    },
    checked: {
      rows: result("check"),
      types: {
        data: `STRUCT("rows" STRUCT(file VARCHAR)[],
          checks STRUCT(data STRUCT("rows" BIGINT, bytes BIGINT, columns ${columnsFound})))`.replaceAll(/\s+/gu, " ")
      }
    }
  },
  statements: [
    `create view found as
      select data.rows[1].file as file, data.checks.data.rows as rows, data.checks.data.bytes as bytes, data.checks.data.columns as columns
      from checked`,
    `create view columns_found as
      select file, c.name, c.type, c.nulls from (select file, unnest(columns) as c from found)`,
    `create view rules as
      select file, r.name, r.type, r.nulls_max from (select name as file, unnest(rules) as r from files)`,
    `create view problems as
      select file, null as column_name, format('{} rows, at least {} are wanted', rows, rows_min) as problem
      from files join found on file = name where rows < rows_min
      union all
      select file, name, format('{} instead of {}', coalesce(c.type, 'missing'), r.type)
      from rules r left join columns_found c using (file, name) where c.type is distinct from r.type
      union all
      select file, name, format('{} nulls, at most {} are tolerated', nulls, nulls_max)
      from rules join columns_found using (file, name) where nulls > nulls_max`
  ],
  query: `select *, format('Publish the report of {} files with {} rows and {} problems?', files, rows, problems) as summary
    from (select count(*) as files, sum(rows)::bigint as rows, (select count(*) from problems) as problems from found)`,
  report: {
    title: "Data sets of the night",
    sections: [
      {
        heading: "Files",
        query: `select file, bytes, rows, len(columns) as columns, list_sum([c.nulls for c in columns])::bigint as nulls
          from found order by file`
      },
      { heading: "Problems", query: "from problems order by file, column_name nulls first, problem" }
    ]
  }
}
