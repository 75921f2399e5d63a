/**
 * Rounds: in each, every system in turn is started on nothing, warmed up, measured and stopped, so that what disturbs the
 * machine for a while disturbs them alike and no two run at a time.
 */
import { awaitQuiet } from "./Machine.ts"
import { type Row, rowOf, type Without } from "./Report.ts"
import type { Running, System } from "./System.ts"
import { type Measured, sameWork } from "./sameWork.ts"

export interface Plan {
  readonly systems: ReadonlyArray<System>
  /** Names of scenarios to run. */
  readonly scenarios: ReadonlySet<string>
}

export interface RoundOptions {
  readonly rounds: number
  readonly tasks: number
  readonly seconds: number
  readonly warm: number
  /** Minutes that may be spent in all on waiting for a quiet machine before systems start. */
  readonly quiet: number
}

/** Rates of the paced scenarios, tasks per second. */
const rates = [200, 1_000]

export const runRounds = async (
  { scenarios, systems }: Plan,
  options: RoundOptions
): Promise<{ readonly rows: ReadonlyArray<Row>; readonly without: ReadonlyArray<Without> }> => {
  const samples = new Map<System, Array<Measured>>()
  const skipped = new Map<System, Without>()
  const failed = new Map<System, Without>()
  for (const system of systems) {
    const why = await system.missing()
    if (why !== undefined) skipped.set(system, { name: system.name, state: "skipped", why })
  }
  let patience = options.quiet * 60_000
  for (let round = 1; round <= options.rounds; round++) {
    for (const system of systems) {
      if (skipped.has(system)) continue
      if (patience > 0) patience -= await awaitQuiet(patience)
      const measured = samples.get(system) ?? []
      samples.set(system, measured)
      try {
        await oneRound(system, scenarios, options, (result) => {
          process.stderr.write(`round ${round}: ${system.name} ${result.scenario} ${JSON.stringify(result.figures)}\n`)
          measured.push(result)
        })
      } catch (error) {
        // What it measured before stays in the table, and it tries again in the next round.
        const [why = ""] = (error instanceof Error ? error.message : String(error)).split("\n    at ")
        failed.set(system, { name: system.name, state: "failed", why: `round ${round}: ${why}` })
        process.stderr.write(`round ${round}: ${system.name} failed: ${String(error)}\n`)
      }
    }
  }
  return {
    rows: systems.flatMap((system) => rowsOf(system, samples.get(system) ?? [])),
    without: [...skipped.values(), ...failed.values()]
  }
}

const rowsOf = (system: System, measured: ReadonlyArray<Measured>): ReadonlyArray<Row> =>
  [...Map.groupBy(measured, ({ scenario }) => scenario)].map(([scenario, results]) =>
    rowOf({
      system: system.name,
      title: system.title,
      scenario,
      fsync: system.fsync,
      settings: system.settings,
      samples: results.map(({ figures }) => figures)
    })
  )

const oneRound = async (
  system: System,
  scenarios: Plan["scenarios"],
  options: RoundOptions,
  tell: (result: Measured) => void
) => {
  const running: Running = await system.start()
  try {
    const work = sameWork(running)
    const warm = await work.warmUp(options.warm)
    const sized = (rate: number, most: number) =>
      Math.min(most, Math.max(500, Math.ceil((rate * options.seconds) / 500) * 500))
    if (scenarios.has("bulk")) tell(await work.bulk(sized(warm.bulk, options.tasks)))
    for (const door of running.doors)
      if (scenarios.has(door === "http" ? "single-http" : "single"))
        tell(await work.single(door, sized(warm.single, options.tasks / 2)))
    for (const rate of rates) if (scenarios.has(`latency-${rate}`)) tell(await work.latency(rate, options.seconds))
  } finally {
    await running.stop()
  }
}
