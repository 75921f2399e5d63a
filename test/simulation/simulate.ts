/**
 * Simulates worlds from the command line: `npm run simulate -- --seeds 1000`, or one again: `--seed 28 --trace`.
 *
 * Prints what failed, with its seed, the commit, the options of its world and the end of its trace; exits 1 then.
 */
import { execFileSync } from "node:child_process"
import { parseArgs } from "node:util"
import { planted } from "./planted.ts"
import { run, type Settings, type Verdict } from "./Simulation.ts"

const usage = `npm run simulate -- [--seeds N] [--from S] [--seed S [--trace]] [--plant NAME]

  --seeds N     so many worlds (200)
  --from S      the first seed (1)
  --seed S      this one only
  --trace       with all that happened in it
  --plant NAME  with a mistake in it: ${planted.map(({ name }) => `"${name}"`).join(", ")}
`

const refuse = (message: string): never => {
  process.stderr.write(`${message}\n\n${usage}`)
  process.exit(2)
}

const whole = (name: string, text: string, least: number) => {
  const number = Number(text)
  return Number.isSafeInteger(number) && number >= least && number <= 0xffff_ffff
    ? number
    : refuse(`--${name} takes a whole number from ${least} to 4294967295`)
}

const read = () => {
  try {
    return parseArgs({
      options: {
        seeds: { type: "string" },
        from: { type: "string" },
        seed: { type: "string" },
        trace: { type: "boolean" },
        plant: { type: "string" },
        help: { type: "boolean" }
      }
    }).values
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const commit = () => {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8" }).trim()
  } catch {
    return "unknown"
  }
}

const print = (line: string) => process.stdout.write(`${line}\n`)

const report = ({ failure, figures, hash, options, seed, trace }: Verdict, settings: Settings) => {
  if (settings.wholeTrace !== true) for (const line of trace.slice(-80)) print(line)
  print(`seed ${seed}, commit ${commit()}, node ${process.version}, trace ${hash}`)
  print(`options ${JSON.stringify(options)}`)
  print(`figures ${JSON.stringify(figures)}`)
  print(failure === undefined ? "every promise was kept" : `FAILED: ${failure.message}`)
}

const values = read()
if (values.help === true) {
  print(usage)
  process.exit(0)
}
const mistake =
  values.plant === undefined
    ? undefined
    : (planted.find(({ name }) => name === values.plant) ?? refuse(`there is no mistake "${values.plant}"`))
const settings: Settings = {
  ...mistake?.settings,
  ...(values.trace === true && { wholeTrace: true, onLine: print })
}
if (values.trace === true && values.seed === undefined) refuse("--trace needs --seed")

const only = values.seed === undefined ? undefined : whole("seed", values.seed, 0)
const from = only ?? whole("from", values.from ?? "1", 0)
const count = only === undefined ? whole("seeds", values.seeds ?? "200", 1) : 1
const failed: Array<number> = []
let longest = 0
for (let seed = from; seed < from + count; seed++) {
  const verdict = run(seed, settings)
  longest = Math.max(longest, verdict.figures.quietAfterMillis)
  if (verdict.failure !== undefined) failed.push(seed)
  if (only !== undefined || verdict.failure !== undefined) report(verdict, settings)
}
if (only === undefined) {
  print(
    `${count} worlds from seed ${from}: ${failed.length === 0 ? "every promise was kept" : `FAILED ${failed.join(", ")}`}`
  )
  print(`longest time from the end of the faults until nothing was left to do: ${longest / 1_000} s of theirs`)
}
process.exit(failed.length > 0 ? 1 : 0)
