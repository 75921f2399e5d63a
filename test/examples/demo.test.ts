/**
 * The demonstration as a user runs it, on a platform of its own: its report's figures against the same figures computed in
 * plain JavaScript, and its event log after the platform was killed in the middle.
 */
import { spawn } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { ownFolder } from "../support/Servers.ts"
import { figures } from "./figures.ts"

const program = fileURLToPath(new URL("../../examples/demo/demo.ts", import.meta.url))

interface Answer {
  readonly tasks: ReadonlyArray<{ readonly graph_key: string; readonly status: string; readonly attempt: number }>
  readonly report: {
    readonly sections: ReadonlyArray<{ readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>> }>
  }
  readonly files: { readonly markdown: string; readonly json: string }
  readonly evidence?: ReadonlyArray<{
    readonly task: string
    readonly starts: number
    readonly ends: number
    readonly gapless: boolean
  }>
}

/** One where nobody listens at the noted place: a platform that happens to run on the usual port is not ours to use. */
const emptyFolder = () => {
  const made = ownFolder("demo-")
  writeFileSync(join(made, "connection.json"), JSON.stringify({ url: "http://127.0.0.1:9" }))
  return made
}

/** Both tests share it: the second start of the platform is fast. */
let folder: string | undefined

const runDemo = (...args: ReadonlyArray<string>) =>
  Effect.callback<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>((resume) => {
    folder ??= emptyFolder()
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program, "--json", ...args], {
      env: { PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8", DATAMCP_DATA: folder, DATAMCP_URL: "", PORT: "0" },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    child.on("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
    // In order: the demonstration ends the platform that it has started.
    return Effect.sync(() => child.kill("SIGTERM"))
  })

const demo = (...args: ReadonlyArray<string>) =>
  Effect.map(runDemo(...args), ({ code, stderr, stdout }) => {
    expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" })
    const answer: Answer = JSON.parse(stdout)
    return answer
  })

/** A figure of the report is rounded to this many digits; texts and counts are exact. */
const digits: Readonly<Record<string, number>> = {
  mean_delay_min: 2,
  late_percent: 1,
  mean_difference_km: 2,
  km: 1,
  mean_c: 2,
  normal_c: 2,
  warmer_by_c: 2
}

const expectRows = (
  found: ReadonlyArray<Readonly<Record<string, unknown>>> | undefined,
  expected: ReadonlyArray<object>
) => {
  expect(found).toHaveLength(expected.length)
  for (const [index, row] of expected.entries()) {
    for (const [name, value] of Object.entries(row)) {
      const shown = found?.[index]?.[name]
      const rounded = digits[name]
      if (rounded === undefined) expect({ index, [name]: shown }).toEqual({ index, [name]: value })
      else expect(Math.abs(Number(shown) - value), `${name} of row ${index}`).toBeLessThan(0.5 * 10 ** -rounded + 1e-6)
    }
  }
}

describe("the demonstration", () => {
  it.live(
    "reports the figures that plain JavaScript finds in the same files",
    () =>
      Effect.gen(function* () {
        const { files, report, tasks } = yield* demo()
        const expected = figures()
        expect(tasks).toHaveLength(16)
        expect(tasks.every(({ status }) => status === "completed")).toBe(true)
        const [read, join_, routes, states, hours, remote, climate] = report.sections
        expectRows(read?.rows, expected.sources)
        expect(read?.rows.map((row) => row["columns_with_nulls"])).toEqual([null, "city (12), state (12)", null, null])
        expectRows(join_?.rows, [expected.join])
        expectRows(routes?.rows, expected.routes)
        expectRows(states?.rows, expected.states)
        expectRows(hours?.rows, expected.hours)
        expectRows(remote?.rows, expected.remote)
        expectRows(climate?.rows, expected.climate)
        expect(files.markdown).toBe(join(folder ?? "", "demo", "report.md"))
        expect(readFileSync(files.markdown, "utf8")).toContain(
          "| LAX | Los Angeles | PHX | Phoenix | 370 | 59 | 9.17 | 23.7 |"
        )
        expect(JSON.parse(readFileSync(files.json, "utf8"))).toMatchObject({ sections: report.sections })
      }),
    120_000
  )

  it.live(
    "shows each step recorded once, and the same figures, after the platform was killed in its middle",
    () =>
      Effect.gen(function* () {
        const { evidence, report } = yield* demo("--kill")
        expect(evidence).toHaveLength(16)
        expect(evidence?.filter(({ ends, gapless }) => ends !== 1 || !gapless)).toEqual([])
        expect(evidence?.some(({ starts }) => starts > 1)).toBe(true)
        expectRows(report.sections[5]?.rows, figures().remote)
      }),
    120_000
  )
})
