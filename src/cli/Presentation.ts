/**
 * How the command line itself speaks: help, wrong usage and failures, each in its place and form.
 *
 * Help that was asked for goes to standard output. What went wrong goes to standard error in a line or two, without the
 * whole help and never with a stack; with `--json` standard output then has one line, also where it streams: the problem
 * (RFC 9457).
 */
import { Cause, Console, Effect } from "effect"
import { CliError, CliOutput } from "effect/cli"
import { CliFailure, fromError, usage } from "./CliFailure.ts"
import { printableLines } from "./Ink.ts"
import { Screen } from "./Screen.ts"

/** Shows wrong usage in short; help and version as ever. */
export const presenter = (json: boolean): CliOutput.Presenter => ({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.gen(function* () {
          const help = `${event.commandPath.join(" ")} --help`
          const message = event.errors.map(wordsOf).join("\n")
          if (json) yield* Console.log(JSON.stringify(usage(message).problem))
          yield* Console.error(`error: ${printableLines(message)}\nSee ${help}`)
        })
      : CliOutput.defaultPresenter.present(event)
})

const wordsOf = (error: CliError.NonShowHelpErrors) =>
  (CliError.getUserMessage(error) ?? error.message).replace("Expected: Schema validation failed: Expected", "Expected:")

/** Tells a failure to people, and with `--json` to programs; ends with the exit code that belongs to it. */
export const told = <A, R>(program: Effect.Effect<A, unknown, R>, json: boolean) =>
  Effect.catchCause(program, (cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
    const error = Cause.squash(cause)
    if (CliError.isCliError(error) && error._tag === "ShowHelp") {
      return error.errors.length === 0 ? Effect.void : Effect.fail(new CliFailure({ exitCode: 2, message: "usage" }))
    }
    const failure = fromError(error) ?? bug(error)
    return Effect.andThen(tell(failure, json), Effect.fail(failure))
  })

const tell = Effect.fnUntraced(function* (failure: CliFailure, json: boolean) {
  const screen = yield* Screen
  const { dim, red } = screen.errorInk
  if (json && failure.problem !== undefined) yield* screen.write(`${JSON.stringify(failure.problem)}\n`)
  const [first = "", ...more] = printableLines(failure.message).split("\n")
  const lines = [
    `${red("error:")} ${first}`,
    ...more.map((line) => `  ${line}`),
    ...(failure.hint === undefined ? [] : [dim(printableLines(failure.hint))])
  ]
  yield* screen.writeError(`${lines.join("\n")}\n`)
})

const bug = (error: unknown) => {
  const message = `This is a bug in datamcp: ${error instanceof Error ? error.message : String(error)}`
  return new CliFailure({
    exitCode: 1,
    message,
    hint: "Please report it with the command you gave.",
    problem: { type: "urn:datamcp:problem:bug", title: "A bug in the command line", detail: message }
  })
}
