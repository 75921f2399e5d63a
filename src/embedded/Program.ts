/**
 * Runs a short-lived program to its end and gives back what it said and how it ended.
 *
 * The program gets a small environment of its own (never ours, which may hold secrets) unless asked for, its output is kept
 * up to a bound, and it is ended when the calling fiber is interrupted. Its exit code is a value, not a failure: the caller decides.
 */
import { Effect, Option, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { EmbeddedProblem } from "./EmbeddedProblem.ts"

/** Characters of output that are kept; what comes first is dropped, because errors come last. */
const outputCharactersMax = 64 * 1024

export interface ProgramResult {
  /** `none` when a signal ended the program. */
  readonly exitCode: Option.Option<number>
  readonly output: string
}

export interface ProgramOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Fails with `EmbeddedProblem` (`MissingProgram`) when there is no such program. */
export const runProgram = Effect.fn("runProgram")(
  function* (command: string, args: ReadonlyArray<string>, options: ProgramOptions = {}) {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const child = yield* spawner.spawn(
      ChildProcess.make(command, args, {
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        env: { ...childEnvironment(), ...options.env },
        stdin: "ignore",
        killSignal: "SIGTERM",
        forceKillAfter: "2 seconds"
      })
    )
    const output = yield* child.all.pipe(
      Stream.decodeText,
      Stream.runFold(
        () => "",
        (kept, chunk) => (kept + chunk).slice(-outputCharactersMax)
      )
    )
    const exitCode = yield* Effect.option(child.exitCode)
    return { exitCode, output } satisfies ProgramResult
  },
  Effect.scoped,
  (effect, command) =>
    Effect.catchTag(effect, "PlatformError", (cause) =>
      Effect.fail(
        new EmbeddedProblem({
          reason: "MissingProgram",
          what: `The program ${command} could not be run.`,
          remedy: `Check that ${command} is installed, is on the PATH and may be executed.`,
          cause
        })
      )
    )
)

/** True when the program ran and ended with 0. A program that does not exist counts as false. */
export const succeeds = (command: string, args: ReadonlyArray<string>) =>
  runProgram(command, args).pipe(
    Effect.map((result) => Option.exists(result.exitCode, (code) => code === 0)),
    Effect.catchTag("EmbeddedProblem", () => Effect.succeed(false))
  )

/** What a child may know of our environment: where programs are, the time zone, and how to write text. */
export const childEnvironment = (): Record<string, string> => {
  const passed = ["PATH", "TZ", "TMPDIR", "HOME"] as const
  const own = Object.fromEntries(passed.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
  return { LC_ALL: "C", ...own }
}
