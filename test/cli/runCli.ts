/**
 * Runs the real command line as a child process, as a shell would, and gives back what it printed and how it ended.
 *
 * The child gets an environment of its own, so that no key, URL or colour setting of the machine decides a test.
 */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"

const program = fileURLToPath(new URL("../../src/cli.ts", import.meta.url))

/** As `bin/` sets it: without it most of a run is compiling. */
const compileCache = fileURLToPath(new URL("../../node_modules/.cache/compile", import.meta.url))

export interface CliRun {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Another version of the program. */
  readonly program?: string
  readonly stdin?: string | Uint8Array
  /** Longest run; 20 s unless told. */
  readonly millisMax?: number
  /** Called with all of standard output and error so far, and with a way to send a signal. */
  readonly onOutput?: (soFar: string, kill: (signal: NodeJS.Signals) => void) => void
}

/** Longest run of a command in a test. */
const runMillisMax = 40_000

export const runCli = (args: ReadonlyArray<string>, options: CliOptions = {}) =>
  Effect.callback<CliRun>((resume) => {
    const child = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", options.program ?? program, ...args],
      {
        cwd: options.cwd ?? "/",
        env: { PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8", NODE_COMPILE_CACHE: compileCache, ...options.env },
        stdio: "pipe",
        timeout: options.millisMax ?? runMillisMax,
        killSignal: "SIGKILL"
      }
    )
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      options.onOutput?.(stdout + stderr, (signal) => child.kill(signal))
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
      options.onOutput?.(stdout + stderr, (signal) => child.kill(signal))
    })
    child.stdin.on("error", () => {})
    child.stdin.end(options.stdin ?? "")
    child.on("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })
