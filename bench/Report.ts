/** Results as a file for programs and as a table for people, both from the same rows. Pure but for `writeReport`. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Figures, type Spread, spreads } from "./Figures.ts"
import { type Machine, quietPercent } from "./Machine.ts"

/** One scenario of one system over all rounds. */
export interface Row {
  readonly system: string
  readonly title: string
  readonly scenario: string
  readonly fsync: string
  readonly settings: string
  readonly rounds: number
  /** Rounds in which others took less than `quietPercent` of the machine; `figures` are of these if there are any. */
  readonly quiet_rounds: number
  readonly figures: Readonly<Record<string, Spread>>
  /** What each round measured, in their order. */
  readonly samples: ReadonlyArray<Figures>
}

/** A system or scenario without figures, and why. */
export interface Without {
  readonly name: string
  readonly state: "skipped" | "failed"
  readonly why: string
}

export interface Report {
  readonly at: string
  readonly machine: Machine
  readonly command: string
  readonly rows: ReadonlyArray<Row>
  readonly without: ReadonlyArray<Without>
}

export const rowOf = (row: Omit<Row, "rounds" | "quiet_rounds" | "figures">): Row => {
  const quiet = row.samples.filter((figures) => !((figures["others_percent"] ?? 0) >= quietPercent))
  return {
    ...row,
    rounds: row.samples.length,
    quiet_rounds: quiet.length,
    figures: spreads(quiet.length > 0 ? quiet : row.samples)
  }
}

/** Writes `<date>.json` and `<date>.md` below bench/results (numbered when taken); answers the path without its ending. */
export const writeReport = (report: Report): string => {
  const folder = fileURLToPath(new URL("results", import.meta.url))
  mkdirSync(folder, { recursive: true })
  const date = report.at.slice(0, 10)
  let path = `${folder}/${date}`
  for (let number = 2; existsSync(`${path}.json`); number++) path = `${folder}/${date}-${number}`
  writeFileSync(`${path}.json`, `${JSON.stringify(report, null, 1)}\n`)
  writeFileSync(`${path}.md`, markdown(report))
  return path
}

export const markdown = (report: Report): string =>
  [head(report), systemsTable(report), ...scenarioTables(report), missing(report), settings(report)]
    .filter((part) => part !== "")
    .join("\n\n")
    .concat("\n")

const head = ({ at, command, machine }: Report) =>
  [
    `# Measured ${at.slice(0, 16).replace("T", " ")} UTC`,
    "",
    `- ${machine.cpu}, ${machine.memory}, ${machine.system}, Node ${machine.node}; everything on this machine; commit ${machine.commit}`,
    `- load before: ${machine.load_before.toFixed(2)}`,
    `- disk: fdatasync of 8 KiB p50 ${machine.fdatasync_ms.p50} ms, p99 ${machine.fdatasync_ms.p99} ms, max ${machine.fdatasync_ms.max} ms`,
    `- \`${command}\``,
    `- Each figure is the median over the rounds, with the least and the most in brackets: over those in which other work took less than ${quietPercent} % of the machine, if there was one; \`~\` marks a figure without such a round, which is lower and noisier than the machine's own.`
  ].join("\n")

/** Scenarios that every system runs: a row per system. */
const shared = ["bulk", "single", "single-http", "latency-200", "latency-1000"]

const systemsTable = ({ rows }: Report): string => {
  const systems = [...new Map(rows.filter((row) => shared.includes(row.scenario)).map((row) => [row.system, row]))]
  if (systems.length === 0) return ""
  const lines = systems.map(([name, { fsync, rounds, title }]) => {
    const cell = (scenario: string, text: (figures: Row["figures"]) => string) => {
      const row = rows.find((each) => each.system === name && each.scenario === scenario)
      return row === undefined ? "-" : `${row.quiet_rounds > 0 ? "" : "~ "}${text(row.figures)}`
    }
    return [
      title,
      fsync.startsWith("on") ? "on" : "off",
      cell("bulk", (figures) => range(figures["done_per_s"])),
      cell("single", (figures) => range(figures["done_per_s"])),
      cell("single", (figures) => joined([figures["accept_p50_ms"], figures["accept_p99_ms"]])),
      cell("single-http", (figures) => range(figures["done_per_s"])),
      cell("latency-200", paced),
      cell("latency-1000", paced),
      cell("bulk", costs),
      cell("single", costs),
      String(rounds)
    ]
  })
  const titles = [
    "system",
    "fsync",
    "bulk done/s",
    "single, 64 in flight: done/s",
    "its accept p50 / p99 ms",
    "the same by HTTP: done/s",
    "200/s: done p50 / p95 / p99 ms",
    "1,000/s: done p50 / p95 / p99 ms",
    "CPU us per task: bulk",
    "single",
    "rounds"
  ]
  return table(titles, lines)
}

/** Scenarios of datamcp alone: a table each, a row per figure. */
const scenarioTables = ({ rows }: Report): ReadonlyArray<string> =>
  rows
    .filter((row) => !shared.includes(row.scenario))
    .map((row) =>
      [
        `## ${row.scenario} (${row.title}, ${row.rounds} round${row.rounds === 1 ? "" : "s"})`,
        "",
        table(
          ["figure", "median", "least", "most"],
          Object.entries(row.figures).map(([name, { max, median, min }]) => [
            name,
            number(median),
            number(min),
            number(max)
          ])
        )
      ].join("\n")
    )

const missing = ({ without }: Report): string =>
  without.length === 0
    ? ""
    : ["Without figures:", "", ...without.map(({ name, state, why }) => `- ${name}: **${state}**: ${why}`)].join("\n")

const settings = ({ rows }: Report): string => {
  const systems = [...new Map(rows.map((row) => [row.system, row])).values()]
  return [
    "Settings:",
    "",
    ...systems.map(({ fsync, settings: text, title }) => `- ${title}: fsync ${fsync}; ${text}`)
  ].join("\n")
}

const table = (titles: ReadonlyArray<string>, lines: ReadonlyArray<ReadonlyArray<string>>): string => {
  const row = (cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [row(titles), row(titles.map(() => "---")), ...lines.map(row)].join("\n")
}

/** A second behind the last submission means that the rate was not kept up with: quantiles then say nothing. */
const paced = (figures: Row["figures"]): string => {
  const text = joined([figures["p50_ms"], figures["p95_ms"], figures["p99_ms"]])
  const behind = figures["behind_ms"]?.median ?? 0
  return behind > 1_000 ? `does not keep up (${number(behind / 1_000)} s behind)` : text
}

const costs = (figures: Row["figures"]): string =>
  Object.entries(figures)
    .filter(([name]) => name.startsWith("cpu_us_"))
    .map(([name, { median }]) => `${name.slice("cpu_us_".length)} ${median}`)
    .join(", ")

const joined = (values: ReadonlyArray<Spread | undefined>): string =>
  values.some((value) => value === undefined) ? "-" : values.map((value) => number(value?.median ?? 0)).join(" / ")

const range = (spread: Spread | undefined): string =>
  spread === undefined ? "-" : `${number(spread.median)} (${number(spread.min)}-${number(spread.max)})`

const number = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en-US") : String(Math.round(value * 100) / 100)
