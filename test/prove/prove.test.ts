/** `datamcp prove` as a user runs it: real nodes and servers that die under work, on whatever machine this is. */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCli } from "../cli/runCli.ts"
import { ownFolder } from "../support/Servers.ts"

/** Processes that know the folder: by their command, as servers do, or their environment, as nodes do. Linux only. */
const livingIn = (folder: string): ReadonlyArray<string> =>
  existsSync("/proc/self/environ")
    ? readdirSync("/proc")
        .filter((pid) => /^\d+$/u.test(pid) && knows(pid, folder))
        .map((pid) => textOf(`/proc/${pid}/cmdline`).replaceAll("\0", " "))
    : []

const knows = (pid: string, folder: string) =>
  textOf(`/proc/${pid}/cmdline`).includes(folder) || textOf(`/proc/${pid}/environ`).includes(`${folder}/`)

const textOf = (file: string) => {
  try {
    return readFileSync(file, "latin1")
  } catch {
    return ""
  }
}

const prove = (folder: string, ...args: ReadonlyArray<string>) =>
  runCli(["prove", ...args], { env: { TMPDIR: folder, DATAMCP_DATA: `${folder}-none` }, millisMax: 60_000 })

describe("a proof", () => {
  it.live(
    "on servers of its own shows that nothing is lost while nodes and nats-server die, and leaves nothing behind",
    () =>
      Effect.gen(function* () {
        const folder = ownFolder("prove-")
        const args = ["--tasks", "600", "--nodes", "2", "--rate", "120", "--kill-every", "1200ms", "--seed", "3"]
        const { code, stderr, stdout } = yield* prove(folder, ...args, "--kill", "nodes,nats", "--json")
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
        const report = JSON.parse(stdout)
        expect(report).toMatchObject({
          verdict: "holds",
          seed: 3,
          submitted: 600,
          accepted: 600,
          lost: 0,
          effects: { recorded_twice: 0 },
          verification: { ok: true, tasks: 600 },
          folder: null
        })
        const { cancelled, completed, failed, timeout } = report.ended
        expect(completed + failed + cancelled + timeout).toBe(600)
        expect(report.effects.recorded).toBe(completed)
        expect(report.effects.calls - report.effects.repeated).toBeGreaterThanOrEqual(completed + failed)
        expect(report.kills.nodes).toBeGreaterThan(0)
        expect(report.resubmitted).toBeGreaterThan(0)
        expect(readdirSync(folder)).toEqual([])
        expect(livingIn(folder)).toEqual([])
      }),
    60_000
  )

  it.live(
    "ends all that it has started when it is interrupted",
    () =>
      Effect.gen(function* () {
        const folder = ownFolder("prove-")
        let interrupted = false
        let living: ReadonlyArray<string> = []
        const { code } = yield* runCli(["prove", "--nodes", "2", "--rate", "50", "--kill-every", "500ms"], {
          env: { TMPDIR: folder },
          millisMax: 60_000,
          onOutput: (soFar, kill) => {
            if (interrupted || !soFar.includes("killed prove-")) return
            interrupted = true
            living = livingIn(folder)
            kill("SIGINT")
          }
        })
        expect(interrupted).toBe(true)
        expect(code).toBe(130)
        if (process.platform === "linux") expect(living.length).toBeGreaterThan(1)
        expect(livingIn(folder)).toEqual([])
        expect(readdirSync(folder)).toEqual([])
      }),
    60_000
  )

  it.live("is refused before anything starts when it is out of bounds, by flag and limit", () =>
    Effect.gen(function* () {
      const folder = ownFolder("prove-")
      const refused = (...args: ReadonlyArray<string>) =>
        Effect.map(prove(folder, ...args), ({ code, stderr }) => {
          expect(code).toBe(2)
          expect(readdirSync(folder)).toEqual([])
          return stderr
        })
      const all = yield* refused("--tasks", "2000000", "--nodes", "17", "--kill-every", "100ms")
      for (const text of ["--tasks: must be a value between 1 and 1000000", "--nodes", "16", "--kill-every", "500"]) {
        expect(all).toContain(text)
      }
      expect(yield* refused("--kill", "redis")).toContain("--kill")
      expect(yield* refused("--kill", "postgres", "--servers", "named")).toContain("cannot be killed")
    })
  )
})
