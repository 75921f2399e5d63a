/**
 * `npm run bench`: measures datamcp, alone or beside its peers, on servers that it starts itself.
 *
 *   npm run bench                           bulk, single and latency of datamcp
 *   npm run bench -- --only backlog,reads   scenarios by name, `--list` tells them; `recovery` stands for
 *                                           all of its parts, `all` for every one
 *   npm run bench -- --peers [--only a,b]   bulk, single and latency of datamcp and its peers, round by round in one run
 *
 * Standard output has one JSON line per result; what is for people goes to standard error and, with `--peers` or `--save`, into
 * bench/results. Ends with 1 when anything that was asked for failed; what cannot run here is told as skipped.
 */
import { parseArgs } from "node:util"
import { datamcp } from "./datamcp.ts"
import { describeMachine } from "./Machine.ts"
import { markdown, type Report, type Row, rowOf, type Without, writeReport } from "./Report.ts"
import { type Plan, runRounds } from "./rounds.ts"
import { scenarioNames, scenarios } from "./scenarios/all.ts"

const { values } = parseArgs({
  options: {
    peers: { type: "boolean", default: false },
    only: { type: "string" },
    list: { type: "boolean", default: false },
    save: { type: "boolean", default: false },
    rounds: { type: "string", default: "3" },
    /** Most tasks of a bulk round; a slow system gets what it does in `seconds`. */
    tasks: { type: "string", default: "30000" },
    /** Length of a paced round. */
    seconds: { type: "string", default: "10" },
    /** Length of a warm-up, per path. */
    warm: { type: "string", default: "4" },
    /** Queued tasks of the scenario `backlog`. */
    backlog: { type: "string", default: "100000" },
    /** Tasks that pass through in the scenario `bloat`. */
    through: { type: "string", default: "200000" },
    /** Tasks per second of the scenarios `recovery-*`. */
    rate: { type: "string", default: "500" },
    /** Minutes to wait in all, between measurements, for a machine with nothing else to do. */
    quiet: { type: "string", default: "0" }
  }
})

const number = (
  name: "rounds" | "tasks" | "seconds" | "warm" | "backlog" | "through" | "rate" | "quiet",
  least: number
): number => {
  const value = Number(values[name])
  if (Number.isFinite(value) && value >= least) return value
  console.error(`--${name}: ${values[name]} is not a number of at least ${least}`)
  return process.exit(2)
}
const options = {
  rounds: number("rounds", 1),
  tasks: number("tasks", 500),
  seconds: number("seconds", 1),
  warm: number("warm", 0),
  backlog: number("backlog", 1_000),
  through: number("through", 10_000),
  rate: number("rate", 1),
  quiet: number("quiet", 0)
}

const sameWorkNames = ["bulk", "single", "single-http", "latency-200", "latency-1000"]
const wanted = values.only?.split(",").map((name) => name.trim())

const refuse = (what: string): never => {
  console.error(what)
  return process.exit(2)
}

const main = async (): Promise<number> => {
  const known = values.peers ? await peers() : undefined
  const systems = known === undefined ? [datamcp] : [datamcp, ...known.peerSystems()]
  if (values.list) {
    const names = known === undefined ? [...sameWorkNames, ...scenarioNames] : systems.map(({ name }) => name)
    console.log(names.join("\n"))
    return 0
  }
  const plan = planOf(systems, known !== undefined)
  const machine = describeMachine()
  const at = new Date().toISOString()
  const rows: Array<Row> = []
  const without: Array<Without> = []
  const outcome = await runRounds(plan, options)
  rows.push(...outcome.rows)
  without.push(...outcome.without)
  for (const scenario of scenarios.filter(({ name }) => plan.scenarios.has(name))) {
    try {
      const samples = []
      for (let round = 0; round < (scenario.once ? 1 : options.rounds); round++) {
        const figures = await scenario.run(options)
        process.stderr.write(`${scenario.name}, round ${round + 1}: ${JSON.stringify(figures)}\n`)
        samples.push(figures)
      }
      const { fsync, name, settings, title } = datamcp
      rows.push(rowOf({ system: name, title, scenario: scenario.name, fsync, settings, samples }))
    } catch (error) {
      without.push({ name: scenario.name, state: "failed", why: String(error) })
    }
  }
  const command = ["npm run bench", ...(process.argv.length > 2 ? ["--", ...process.argv.slice(2)] : [])].join(" ")
  const report: Report = { at, machine, command, rows, without }
  for (const { samples: _, ...row } of rows)
    console.log(JSON.stringify({ ...row, node: machine.node, machine: `${machine.cpu}, ${machine.memory}` }))
  for (const { name, state, why } of without) console.log(JSON.stringify({ system: name, [state]: why }))
  process.stderr.write(`\n${markdown(report)}`)
  if (values.peers || values.save) process.stderr.write(`\nWritten to ${writeReport(report)}.{json,md}\n`)
  return without.some(({ state }) => state === "failed") ? 1 : 0
}

/** Loaded, and installed, only when asked for. */
const peers = async () => {
  const module = await import("./peers/peers.ts")
  module.installPeers()
  return module
}

const planOf = (systems: Plan["systems"], withPeers: boolean): Plan => {
  if (withPeers) {
    const chosen =
      wanted === undefined ? systems : systems.filter(({ name }) => wanted.some((prefix) => name.startsWith(prefix)))
    if (chosen.length === 0)
      refuse(`--only: there is no such system; there are ${systems.map(({ name }) => name).join(", ")}`)
    return { systems: chosen, scenarios: new Set(sameWorkNames) }
  }
  const all = [...sameWorkNames, ...scenarioNames]
  const names = wanted === undefined ? sameWorkNames : wanted.includes("all") ? all : withParts(wanted, all)
  const unknown = names.filter((name) => !all.includes(name))
  if (unknown.length > 0) refuse(`--only: there is no scenario ${unknown.join(", ")}; there are ${all.join(", ")}`)
  return { systems: names.some((name) => sameWorkNames.includes(name)) ? systems : [], scenarios: new Set(names) }
}

/** `recovery` stands for `recovery-node`, `recovery-nats` and so on. */
function withParts(names: ReadonlyArray<string>, all: ReadonlyArray<string>): ReadonlyArray<string> {
  return names.flatMap((name) => {
    const parts = all.filter((one) => one.startsWith(`${name}-`))
    return all.includes(name) || parts.length === 0 ? [name] : parts
  })
}

process.exitCode = await main()
