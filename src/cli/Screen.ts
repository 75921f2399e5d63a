/**
 * The terminal, or the pipe, that answers go to. The only file of the command line that touches the process's streams
 * and asks the environment what they can show.
 *
 * Invariant: standard output carries answers only; hints and errors go to standard error. A reader that goes away
 * (`| head`) ends the program quietly.
 */
import { Context, Effect, Layer, type Scope, Stream, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { type Ink, ink } from "./Ink.ts"

export interface Size {
  readonly columns: number
  readonly rows: number
}

export class Screen extends Context.Service<
  Screen,
  {
    /** Somebody watches standard output: what moves may be redrawn in place. */
    readonly animated: boolean
    /** Colours and signs for standard output. */
    readonly ink: Ink
    /** Colours and signs for standard error. */
    readonly errorInk: Ink
    readonly size: Effect.Effect<Size>
    /** A new size each time the terminal changes it. */
    readonly sizes: Effect.Effect<Stream.Stream<Size>, never, Scope.Scope>
    /** To standard output, as it is, in one write. */
    readonly write: (text: string | Uint8Array) => Effect.Effect<void>
    /** To standard error, as it is, in one write. */
    readonly writeError: (text: string) => Effect.Effect<void>
  }
>()("datamcp/cli/Screen") {
  static readonly layer = Layer.effect(
    Screen,
    Effect.gen(function* () {
      const terminal = yield* Terminal.Terminal
      const capabilities = yield* TerminalCapabilities.TerminalCapabilities
      const unicode = showsUnicode(process.env)
      const errorColour = process.stderr.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb"
      yield* Effect.sync(() => leaveQuietlyWhenNobodyReads(process.stdout))
      yield* Effect.sync(() => leaveQuietlyWhenNobodyReads(process.stderr))
      return Screen.of({
        animated: capabilities.canAnimate,
        ink: ink({ colour: capabilities.canColor, unicode: unicode && capabilities.canAnimate }),
        errorInk: ink({ colour: errorColour, unicode: unicode && process.stderr.isTTY === true }),
        size: Effect.all({ columns: terminal.columns, rows: terminal.rows }).pipe(Effect.map(known)),
        sizes: Effect.map(terminal.size, (sizes) => Stream.fromQueue(sizes).pipe(Stream.map(known))),
        write: (text) => toStream(process.stdout, text),
        writeError: (text) => toStream(process.stderr, text)
      })
    })
  )
}

/** A terminal that does not tell its size says 0. */
const known = (size: Size): Size => ({ columns: size.columns || 80, rows: size.rows || 24 })

const showsUnicode = (environment: NodeJS.ProcessEnv) =>
  /utf-?8/iu.test(environment["LC_ALL"] || environment["LC_CTYPE"] || environment["LANG"] || "")

const toStream = (stream: NodeJS.WriteStream, text: string | Uint8Array) =>
  Effect.callback<void>((resume) => {
    stream.write(text, () => resume(Effect.void))
  })

const leaveQuietlyWhenNobodyReads = (stream: NodeJS.WriteStream) => {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? 0 : 1)
  })
}
