/**
 * `npm run faults`: breaks a platform in the ways of the catalogue, on servers that it starts itself, and checks what became of
 * every task.
 *
 *   npm run faults                                  all of them, about half an hour
 *   npm run faults -- --only F01,F08 --seconds 300  some, for longer
 *   npm run faults -- --seed 7                      the same schedule of faults as any run with that seed
 *   npm run faults -- --json FILE --list
 *
 * Prints a line per injection and a table. Ends with 1 when a promise was broken, a figure missed, or a run showed nothing.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Option } from "effect"
import { natsProgram } from "../../src/embedded/NatsProgram.ts"
import { userFor } from "../../src/embedded/OsUser.ts"
import { postgresPrograms } from "../../src/embedded/PostgresPrograms.ts"
import type { TestMachine } from "../support/TestMachine.ts"
import { faults, notRun } from "./catalogue.ts"
import { type FaultReport, runFault } from "./Fault.ts"

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    seed: { type: "string", default: "1" },
    /** How long each fault lasts; its own time when absent. */
    seconds: { type: "string" },
    json: { type: "string" },
    /** Folder for the clients' histories, as lines of JSON. */
    histories: { type: "string" },
    list: { type: "boolean", default: false }
  }
})

const refuse = (what: string): never => {
  console.error(what)
  return process.exit(2)
}
const numberOf = (name: "seed" | "seconds", text: string): number => {
  const value = Number(text)
  return Number.isFinite(value) && value >= (name === "seconds" ? 1 : 0)
    ? value
    : refuse(`--${name}: ${text} is no number`)
}
const seed = numberOf("seed", values.seed)
const length = values.seconds === undefined ? undefined : numberOf("seconds", values.seconds)
const wanted = values.only?.split(",").map((id) => id.trim().toUpperCase())
for (const id of wanted ?? []) {
  if (!faults.some((fault) => fault.id === id))
    refuse(`--only: ${id} is none of ${faults.map((fault) => fault.id).join(", ")}`)
}

const machineIn = (folder: string): Promise<TestMachine> =>
  Effect.gen(function* () {
    const user = yield* userFor(folder)
    const nats = yield* natsProgram(fileURLToPath(new URL("../../.datamcp/tools", import.meta.url)))
    const postgres = yield* postgresPrograms(user, "/var/lib/datamcp")
    return { folder, nats, postgres, user: Option.getOrNull(user) }
  }).pipe(Effect.provide(NodeServices.layer), Effect.runPromise)

const tellReport = ({ figures, id, outcome, verdict }: FaultReport) => {
  console.log(`${id}  ${outcome}`)
  for (const { name, ok, unit, value } of figures) console.log(`${id}    ${ok ? " " : "!"} ${name}: ${value} ${unit}`)
  for (const { broken, example, id: check, outcome: held, promise } of verdict.checks) {
    if (held !== "broken") continue
    console.log(`${id}    ! ${check}, ${broken} times: ${promise}`)
    console.log(`${id}      ${example?.found}`)
    for (const record of example?.records.slice(0, 12) ?? []) console.log(`${id}      ${JSON.stringify(record)}`)
  }
}

/** With no failure in n trials, the true rate is below 3/n with 95 % confidence. */
const bound = (count: number) => (count === 0 ? "-" : `${((3 / count) * 100).toPrecision(2)} %`)

const table = (reports: ReadonlyArray<FaultReport>) => {
  const rows = reports.map(({ id, injections, outcome, seconds, title, verdict }) => {
    const { acknowledged, effectsRepeated, tasks, unknown } = verdict.figures
    const holds = outcome === "pass" || outcome === "figure missed"
    return [
      id,
      outcome,
      injections,
      tasks,
      acknowledged,
      unknown,
      effectsRepeated,
      holds ? bound(tasks) : "-",
      seconds,
      title
    ]
  })
  const heads = ["id", "outcome", "faults", "tasks", "acked", "unknown", "repeats", "95 % bound", "s", "what"]
  const all = [heads, ...rows].map((row) => row.map(String))
  const widths = heads.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}

const main = async (): Promise<number> => {
  if (values.list) {
    for (const { id, pass, title } of faults) console.log(`${id}  ${title}: ${pass}`)
    for (const { id, reason, title } of notRun) console.log(`${id}  not run: ${title}: ${reason}`)
    return 0
  }
  const folder = mkdtempSync(join(tmpdir(), "datamcp-faults-"))
  // Postgres's own user, when root runs this, must be able to enter.
  chmodSync(folder, 0o755)
  const reports: Array<FaultReport> = []
  const skipped: Array<{ readonly id: string; readonly reason: string }> = []
  let failed = false
  try {
    const machine = await machineIn(folder)
    for (const fault of faults) {
      if (wanted !== undefined && !wanted.includes(fault.id)) continue
      const reason = fault.unable?.()
      if (reason !== undefined) {
        console.log(`${fault.id}  skipped: ${reason}`)
        skipped.push({ id: fault.id, reason })
        continue
      }
      console.log(`${fault.id}  ${fault.title} (seed ${seed})`)
      try {
        const report = await runFault(fault, {
          ...{ machine, seed, seconds: length, tell: (line: string) => console.log(line) },
          ...(values.histories !== undefined && { historyFile: join(values.histories, `${fault.id}-${seed}.ndjson`) })
        })
        reports.push(report)
        tellReport(report)
        failed ||= report.outcome !== "pass"
      } catch (error) {
        failed = true
        console.error(`${fault.id}  could not be run: ${error instanceof Error ? error.stack : String(error)}`)
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  console.log(`\n${table(reports)}`)
  for (const { id, reason } of [...skipped, ...(wanted === undefined ? notRun : [])]) {
    console.log(`${id}  skipped: ${reason}`)
  }
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify({ seed, reports, skipped, notRun }, undefined, 2)}\n`)
  }
  return failed ? 1 : 0
}

// What it started ends with it, also when it is told to end.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(130))

process.exit(await main())
