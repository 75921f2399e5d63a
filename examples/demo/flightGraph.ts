/**
 * The demonstration's work: real public data sets, fetched, checked, joined, counted, and told in a report.
 *
 *   fetch_flights --- check_flights ---.                .--- check_join ---.
 *   fetch_airports -- check_airports --+--- join -------+--- routes -------+
 *           '------------------------ remote ----.      +--- states -------+--- report
 *   fetch_weather --- check_weather ---.          \     '--- hours --------+
 *   fetch_normals --- check_normals ---+--- climate ------------------------'
 *
 * Pure: a graph as anybody would write it in a file. Results go from task to task by reference (`$result`), large ones
 * as artifacts.
 */

const milesToKm = 1.609344
const earthRadiusKm = 6371.0088

/** Name in the graph, file of the package vega-datasets, and what it must hold. */
export const sources = {
  flights: {
    file: "flights-20k.json",
    types: { delay: "INTEGER", distance: "INTEGER" },
    expect: { rows_min: 20_000, not_null: ["date", "delay", "distance", "origin", "destination"] }
  },
  airports: {
    file: "airports.csv",
    csv: { null_values: ["NA"] },
    expect: { rows_min: 3_000, not_null: ["iata", "name", "latitude", "longitude"], unique: ["iata"] }
  },
  weather: {
    file: "seattle-weather.csv",
    types: { date: "DATE" },
    expect: { rows_min: 1_461, not_null: ["date", "temp_max", "temp_min", "precipitation"], unique: ["date"] }
  },
  normals: {
    file: "seattle-weather-hourly-normals.csv",
    types: { date: "TIMESTAMP" },
    expect: { rows_min: 8_000, not_null: ["date", "temperature"], unique: ["date"] }
  }
} as const

export type SourceName = keyof typeof sources
const names: ReadonlyArray<SourceName> = ["flights", "airports", "weather", "normals"]

const result = (task: string, path: string) => ({ $result: task, path })

/** A source as a table of a query: its artifact, and how it is read. */
const table = (name: SourceName) => {
  const { expect: _expect, file: _file, ...reading } = sources[name]
  return { artifact: result(`fetch_${name}`, "/artifact/id"), ...reading }
}

/** Another task's rows as a table of a query. */
const rowsOf = (task: string) => ({ rows: result(task, "/rows"), columns: result(task, "/columns") })

const late = "round(100.0 * count(*) filter (delay >= 15) / count(*), 1) as late_percent"
const delays = `count(*) as flights, round(avg(delay), 2) as mean_delay_min, ${late}`

/** Great-circle distance between the rows `x` and `y`, whose `la` and `lo` are in radians. */
const kilometres = `2 * ${earthRadiusKm} * asin(sqrt(
  pow(sin((y.la - x.la) / 2), 2) + cos(x.la) * cos(y.la) * pow(sin((y.lo - x.lo) / 2), 2)))`

const placed = "select *, radians(latitude) as la, radians(longitude) as lo from airports"

const queries = {
  join: `with places as (${placed})
    select strptime(f.date, '%Y/%m/%d %H:%M') as departed, f.delay, f.distance,
      f.origin, x.city as origin_city, x.state as origin_state,
      f.destination, y.city as destination_city, y.state as destination_state,
      ${kilometres} as great_circle_km
    from flights f join places x on x.iata = f.origin join places y on y.iata = f.destination`,
  check_join: `select count(*) as flights,
      count(*) filter (abs(distance * ${milesToKm} - great_circle_km) > 0.02 * great_circle_km) as off_by_2_percent,
      round(avg(abs(distance * ${milesToKm} - great_circle_km)), 2) as mean_difference_km
    from joined`,
  routes: `select origin, origin_city, destination, destination_city, any_value(distance) as distance_miles, ${delays}
    from joined group by all order by flights desc, origin, destination limit 10`,
  states: `select origin_state as state, count(distinct origin) as airports, ${delays}
    from joined where origin_state is not null group by all order by flights desc, state limit 10`,
  hours: `select hour(departed) as hour, ${delays} from joined group by all order by hour`,
  remote: `with places as (${placed}),
      pairs as (select x.iata, y.iata as nearest, ${kilometres} as km from places x join places y on x.iata <> y.iata),
      closest as (select iata, min(km) as km, arg_min(nearest, km) as nearest from pairs group by iata)
    select c.iata, a.name, a.state, c.nearest, b.name as nearest_name, round(c.km, 1) as km
    from closest c join airports a on a.iata = c.iata join airports b on b.iata = c.nearest
    order by c.km desc, c.iata limit 10`,
  climate: `with normal as (
        select month(date) as m, day(date) as d, avg(temperature) as temperature from normals group by all),
      days as (
        select month(w.date) as month, (w.temp_max + w.temp_min) / 2 as temperature, n.temperature as normal, w.precipitation
        from weather w join normal n on n.m = month(w.date) and n.d = day(w.date))
    select month, count(*) as days, round(avg(temperature), 2) as mean_c, round(avg(normal), 2) as normal_c,
      round(avg(temperature) - avg(normal), 2) as warmer_by_c, count(*) filter (precipitation > 0) as wet_days
    from days group by all order by month`
}

const joined = { joined: { artifact: result("join", "/artifact/id") } }

/** The graph for data sets that are served below `files`, done by the agents of these names. */
export const flightGraph = (given: {
  readonly files: string
  readonly agents: { readonly http: string; readonly sql: string }
}) => {
  const fetching = { type: "http.fetch", agent: given.agents.http, configuration: { timeout_ms: 30_000 } }
  const querying = { type: "sql.query", agent: given.agents.sql, configuration: { timeout_ms: 120_000 } }

  const fetches = names.map((name) => {
    const { file } = sources[name]
    return [`fetch_${name}`, { ...fetching, payload: { url: `${given.files}/${file}`, save_as: file } }] as const
  })
  const checks = names.map((name) => {
    const payload = { inputs: { [name]: { ...table(name), expect: sources[name].expect } }, profile: true }
    return [`check_${name}`, { ...querying, payload, dependencies: [`fetch_${name}`] }] as const
  })
  const query = (name: keyof typeof queries, from: ReadonlyArray<SourceName>) => ({
    ...querying,
    payload: { inputs: Object.fromEntries(from.map((source) => [source, table(source)])), query: queries[name] },
    dependencies: from.flatMap((source) => [`fetch_${source}`, `check_${source}`])
  })
  const ofJoin = (name: keyof typeof queries) => ({
    ...querying,
    payload: { inputs: joined, query: queries[name] },
    dependencies: ["join"]
  })
  const join = query("join", ["flights", "airports"])

  return {
    name: "flights and weather",
    tasks: {
      ...Object.fromEntries(fetches),
      ...Object.fromEntries(checks),
      join: { ...join, payload: { ...join.payload, save_as: "flights-joined.parquet" } },
      check_join: ofJoin("check_join"),
      routes: ofJoin("routes"),
      states: ofJoin("states"),
      hours: ofJoin("hours"),
      remote: query("remote", ["airports"]),
      climate: query("climate", ["weather", "normals"]),
      report: { ...querying, ...report }
    }
  }
}

const parts = ["check_join", "routes", "states", "hours", "remote", "climate"]

const sourceRows = names.map((name) => ({
  source: sources[name].file,
  bytes: result(`fetch_${name}`, "/size_bytes"),
  rows: result(`check_${name}`, `/checks/${name}/rows`),
  columns: result(`check_${name}`, `/checks/${name}/columns`)
}))

const report = {
  payload: {
    inputs: {
      sources: {
        rows: sourceRows,
        types: { columns: "STRUCT(name VARCHAR, type VARCHAR, nulls BIGINT)[]" }
      },
      ...Object.fromEntries(parts.map((part) => [part, rowsOf(part)]))
    },
    report: {
      title: "Flights of early 2001, airports, and the weather of Seattle",
      sections: [
        {
          heading: "What was read",
          text: "Every column was counted for nulls; what must not be null, or must be unique, was checked.",
          query: `select source, bytes, rows, len(columns) as columns,
              list_sum(list_transform(columns, lambda c: c.nulls)) as nulls,
              list_aggregate(list_transform(list_filter(columns, lambda c: c.nulls > 0),
                lambda c: c.name || ' (' || c.nulls || ')'), 'string_agg', ', ') as columns_with_nulls
            from sources`
        },
        {
          heading: "Does the join hold",
          text: "Each flight was joined with its two airports; its stated distance is compared with the great circle between them.",
          query: "from check_join"
        },
        { heading: "Busiest routes", text: "Late means 15 minutes or more.", query: "from routes" },
        { heading: "Busiest states of departure", query: "from states" },
        { heading: "Delay by hour of departure", query: "from hours order by hour" },
        {
          heading: "Most remote airports",
          text: "By the distance to the nearest other airport of the list. Prachinburi is its only one in Thailand.",
          query: "from remote order by km desc, iata"
        },
        {
          heading: "Seattle, 2012 to 2015, against its normals",
          query: "from climate order by month"
        }
      ]
    }
  },
  dependencies: [...parts, ...names.flatMap((name) => [`fetch_${name}`, `check_${name}`])]
}
