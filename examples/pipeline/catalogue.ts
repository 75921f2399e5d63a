/**
 * What the pipeline looks at each night: files of the npm package vega-datasets, and what each of them has to hold. The
 * rules are those of their users; not every file keeps them, which is what the report is for.
 */
export interface Rule {
  readonly name: string
  /** As DuckDB reads it. */
  readonly type: string
  /** Most nulls that are tolerated. */
  readonly nulls_max: number
}

export interface CatalogueEntry {
  readonly name: string
  readonly rows_min: number
  readonly rules: ReadonlyArray<Rule>
}

const column = (name: string, type: string, nulls_max = 0): Rule => ({ name, type, nulls_max })

export const catalogue: ReadonlyArray<CatalogueEntry> = [
  {
    name: "airports.csv",
    rows_min: 3_000,
    rules: [column("iata", "VARCHAR"), column("latitude", "DOUBLE"), column("longitude", "DOUBLE")]
  },
  {
    name: "birdstrikes.csv",
    rows_min: 10_000,
    rules: [
      column("Flight Date", "DATE"),
      column("Cost Total $", "BIGINT"),
      column("Speed IAS in knots", "BIGINT", 3_000)
    ]
  },
  {
    name: "cars.json",
    rows_min: 400,
    rules: [column("Name", "VARCHAR"), column("Miles_per_Gallon", "DOUBLE", 10), column("Horsepower", "BIGINT", 6)]
  },
  {
    name: "flights-20k.json",
    rows_min: 20_000,
    rules: [column("delay", "BIGINT"), column("origin", "VARCHAR"), column("destination", "VARCHAR")]
  },
  // One of its films has no title.
  {
    name: "movies.json",
    rows_min: 3_000,
    rules: [column("Title", "VARCHAR"), column("Release Date", "VARCHAR"), column("IMDB Rating", "DOUBLE", 300)]
  },
  { name: "penguins.json", rows_min: 344, rules: [column("Species", "VARCHAR"), column("Body Mass (g)", "BIGINT", 2)] },
  { name: "seattle-weather.csv", rows_min: 1_461, rules: [column("date", "DATE"), column("temp_max", "DOUBLE")] },
  // Its months are written as `Jan 1 2000`, and there are fewer rows than somebody counts on.
  { name: "stocks.csv", rows_min: 600, rules: [column("date", "DATE"), column("price", "DOUBLE")] }
]
