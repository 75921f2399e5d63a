/**
 * The figures of the demonstration's report, computed another way: plain JavaScript over the same files, with a reader of
 * its own for CSV. It shares no code with the platform or with DuckDB.
 */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

export const read = (file: string) =>
  readFileSync(fileURLToPath(new URL(`../../node_modules/vega-datasets/data/${file}`, import.meta.url)), "utf8")

/** RFC 4180: quotes around fields, doubled inside. */
export const parseCsv = (text: string): ReadonlyArray<Readonly<Record<string, string>>> => {
  const lines = text.split(/\r?\n/u).filter((line) => line !== "")
  const fields = (line: string) => {
    const found: Array<string> = []
    let field = ""
    let quoted = false
    for (let index = 0; index < line.length; index++) {
      const character = line[index]
      if (quoted && character === '"' && line[index + 1] === '"') field += line[++index]
      else if (character === '"') quoted = !quoted
      else if (character === "," && !quoted) {
        found.push(field)
        field = ""
      } else field += character
    }
    return [...found, field]
  }
  const head = fields(lines[0] ?? "")
  return lines.slice(1).map((line) => {
    const values = fields(line)
    return Object.fromEntries(head.map((name, index) => [name, values[index] ?? ""]))
  })
}

interface Flight {
  readonly date: string
  readonly delay: number
  readonly distance: number
  readonly origin: string
  readonly destination: string
}

const mean = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length

const radians = (degrees: string) => (Number(degrees) * Math.PI) / 180

const byKey = <A>(entries: ReadonlyArray<A>, keyOf: (entry: A) => string): ReadonlyMap<string, ReadonlyArray<A>> =>
  Map.groupBy(entries, keyOf)

const delaysOf = (flights: ReadonlyArray<Flight>) => ({
  flights: flights.length,
  mean_delay_min: mean(flights.map(({ delay }) => delay)),
  late_percent: (100 * flights.filter(({ delay }) => delay >= 15).length) / flights.length
})

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

export const figures = () => {
  const flights: ReadonlyArray<Flight> = JSON.parse(read("flights-20k.json"))
  const airports = parseCsv(read("airports.csv"))
  const weather = parseCsv(read("seattle-weather.csv"))
  const normals = parseCsv(read("seattle-weather-hourly-normals.csv"))
  const airport = new Map(airports.map((one) => [one["iata"] ?? "", one]))
  const stateOf = (iata: string) => airport.get(iata)?.["state"] ?? "NA"

  const routes = [...byKey(flights, ({ destination, origin }) => `${origin} ${destination}`)]
    .map(([route, all]) => {
      const [origin = "", destination = ""] = route.split(" ")
      return {
        origin,
        origin_city: airport.get(origin)?.["city"],
        destination,
        destination_city: airport.get(destination)?.["city"],
        distance_miles: all[0]?.distance,
        ...delaysOf(all)
      }
    })
    .sort((a, b) => b.flights - a.flights || compare(a.origin, b.origin) || compare(a.destination, b.destination))
    .slice(0, 10)

  const states = [
    ...byKey(
      flights.filter(({ origin }) => stateOf(origin) !== "NA"),
      ({ origin }) => stateOf(origin)
    )
  ]
    .map(([state, all]) => ({ state, airports: new Set(all.map(({ origin }) => origin)).size, ...delaysOf(all) }))
    .sort((a, b) => b.flights - a.flights || compare(a.state, b.state))
    .slice(0, 10)

  const hours = [...byKey(flights, ({ date }) => date.slice(11, 13))]
    .map(([hour, all]) => ({ hour: Number(hour), ...delaysOf(all) }))
    .sort((a, b) => a.hour - b.hour)

  return {
    sources: [
      { source: "flights-20k.json", bytes: Buffer.byteLength(read("flights-20k.json")), rows: flights.length },
      { source: "airports.csv", bytes: Buffer.byteLength(read("airports.csv")), rows: airports.length },
      { source: "seattle-weather.csv", bytes: Buffer.byteLength(read("seattle-weather.csv")), rows: weather.length },
      {
        source: "seattle-weather-hourly-normals.csv",
        bytes: Buffer.byteLength(read("seattle-weather-hourly-normals.csv")),
        rows: normals.length
      }
    ],
    join: joinOf(flights, airport),
    routes,
    states,
    hours,
    remote: remoteOf(airports),
    climate: climateOf(weather, normals)
  }
}

type Row = Readonly<Record<string, string>>

/** By the spherical law of cosines on unit vectors rather than by haversines. */
const vectorOf = (one: Row | undefined) => {
  const latitude = radians(one?.["latitude"] ?? "")
  const longitude = radians(one?.["longitude"] ?? "")
  return [
    Math.cos(latitude) * Math.cos(longitude),
    Math.cos(latitude) * Math.sin(longitude),
    Math.sin(latitude)
  ] as const
}

const kilometres = (a: ReturnType<typeof vectorOf>, b: ReturnType<typeof vectorOf>) => {
  const chord = Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])
  return 2 * 6371.0088 * Math.asin(Math.min(1, chord / 2))
}

const joinOf = (flights: ReadonlyArray<Flight>, airport: ReadonlyMap<string, Row>) => {
  const differences = flights.map(({ destination, distance, origin }) => {
    const km = kilometres(vectorOf(airport.get(origin)), vectorOf(airport.get(destination)))
    return { km, off: Math.abs(distance * 1.609344 - km) }
  })
  return {
    flights: differences.length,
    off_by_2_percent: differences.filter(({ km, off }) => off > 0.02 * km).length,
    mean_difference_km: mean(differences.map(({ off }) => off))
  }
}

const remoteOf = (airports: ReadonlyArray<Row>) => {
  const vectors = airports.map(vectorOf)
  return airports
    .map((one, index) => {
      let nearest = -1
      // The nearest has the greatest dot product.
      let best = -2
      const [x, y, z] = vectors[index]!
      for (let other = 0; other < vectors.length; other++) {
        if (other === index) continue
        const [ox, oy, oz] = vectors[other]!
        const dot = x * ox + y * oy + z * oz
        if (dot > best) {
          best = dot
          nearest = other
        }
      }
      return {
        iata: one["iata"] ?? "",
        nearest: airports[nearest]?.["iata"],
        km: kilometres(vectors[index]!, vectors[nearest]!)
      }
    })
    .sort((a, b) => b.km - a.km || compare(a.iata, b.iata))
    .slice(0, 10)
}

const climateOf = (weather: ReadonlyArray<Row>, normals: ReadonlyArray<Row>) => {
  const normal = new Map(
    [...byKey(normals, (one) => (one["date"] ?? "").slice(5, 10))].map(([day, all]) => [
      day,
      mean(all.map((one) => Number(one["temperature"])))
    ])
  )
  const days = weather.flatMap((one) => {
    const date = one["date"] ?? ""
    const expected = normal.get(date.slice(5, 10))
    if (expected === undefined) return []
    const temperature = (Number(one["temp_max"]) + Number(one["temp_min"])) / 2
    return [{ month: Number(date.slice(5, 7)), temperature, expected, wet: Number(one["precipitation"]) > 0 }]
  })
  return [...byKey(days, ({ month }) => String(month))]
    .map(([month, all]) => {
      const mean_c = mean(all.map(({ temperature }) => temperature))
      const normal_c = mean(all.map(({ expected }) => expected))
      return {
        month: Number(month),
        days: all.length,
        mean_c,
        normal_c,
        warmer_by_c: mean_c - normal_c,
        wet_days: all.filter(({ wet }) => wet).length
      }
    })
    .sort((a, b) => a.month - b.month)
}
