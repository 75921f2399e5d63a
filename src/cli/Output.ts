/**
 * How answers are given: as text for people, or with `--json` as exactly one JSON document (`answer`), or one document
 * per line where it streams (`item`). Nothing else of the command line writes to standard output.
 */
import { Context, Effect, Layer } from "effect"
import { Json } from "./flags.ts"
import { type Ink, printableLines } from "./Ink.ts"
import { Screen } from "./Screen.ts"

export class Output extends Context.Service<
  Output,
  {
    readonly json: boolean
    /** Somebody watches, and wants text: what moves may be redrawn in place. */
    readonly animated: boolean
    readonly ink: Ink
    /** The command's one answer. `show` gives the text for people; what it takes from the server it must make printable. */
    readonly answer: <A>(value: A, show: (value: A, ink: Ink) => string) => Effect.Effect<void>
    /** One of many answers of a stream. */
    readonly item: <A>(value: A, show: (value: A, ink: Ink) => string) => Effect.Effect<void>
    /** A line of text for people; nothing with `--json`. */
    readonly line: (text: string) => Effect.Effect<void>
    /** A remark beside the answer, on standard error. */
    readonly note: (text: string) => Effect.Effect<void>
  }
>()("datamcp/cli/Output") {
  static readonly layer = Layer.effect(
    Output,
    Effect.gen(function* () {
      const json = yield* Json
      const screen = yield* Screen
      return Output.of({
        json,
        animated: screen.animated && !json,
        ink: screen.ink,
        answer: (value, show) =>
          screen.write(json ? `${JSON.stringify(value, null, 2)}\n` : withBreak(show(value, screen.ink))),
        item: (value, show) => screen.write(json ? `${JSON.stringify(value)}\n` : withBreak(show(value, screen.ink))),
        line: (text) => (json ? Effect.void : screen.write(withBreak(text))),
        note: (text) => screen.writeError(`${printableLines(text)}\n`)
      })
    })
  )
}

const withBreak = (text: string) => (text === "" || text.endsWith("\n") ? text : `${text}\n`)
