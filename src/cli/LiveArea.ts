/**
 * Lines at the bottom of the terminal that are redrawn in place while something is awaited.
 *
 * A frame is one write: the cursor goes up to the first line, each line is written over the old one and its rest
 * erased, what is left below is erased. Nothing is cleared first, so nothing flickers. Every line must be narrower than
 * the terminal; a line that a narrowed terminal has wrapped is counted with the rows it then takes.
 */
import { Effect, Ref, Semaphore, Stream } from "effect"
import { CliOutput } from "effect/cli"
import { Screen, type Size } from "./Screen.ts"

const hideCursor = "\u001B[?25l"
const showCursor = "\u001B[?25h"
const eraseRestOfLine = "\u001B[K"
const eraseBelow = "\u001B[J"
// Terminals that know synchronized updates show the frame at once; the others ignore it.
const beginFrame = "\u001B[?2026h"
const endFrame = "\u001B[?2026l"

export interface LiveArea {
  /** Replaces what is shown. */
  readonly draw: (render: (size: Size) => ReadonlyArray<string>) => Effect.Effect<void>
  /** Writes lines above the area; they stay. */
  readonly print: (text: string) => Effect.Effect<void>
}

/** Text of a frame that replaces `previous`, as seen by a terminal of `columns`. Pure. */
export const frame = (previous: ReadonlyArray<string>, next: ReadonlyArray<string>, columns: number): string => {
  const up = rowsOf(previous, columns)
  const start = up === 0 ? "\r" : `\r\u001B[${up}A`
  return beginFrame + start + next.map((line) => `${line}${eraseRestOfLine}\n`).join("") + eraseBelow + endFrame
}

const rowsOf = (lines: ReadonlyArray<string>, columns: number) =>
  lines.reduce((rows, line) => rows + Math.max(1, Math.ceil(CliOutput.displayWidth(line) / columns)), 0)

/** The area lives as long as the scope. At its end the last frame stays and the cursor is below it. */
export const make = Effect.gen(function* () {
  const screen = yield* Screen
  const shown = yield* Ref.make<{ lines: ReadonlyArray<string>; render: (size: Size) => ReadonlyArray<string> }>({
    lines: [],
    render: () => []
  })

  const oneFrameAtATime = yield* Semaphore.make(1)

  const redraw = Effect.fnUntraced(
    function* (size: Size, above = "") {
      const { lines, render } = yield* Ref.get(shown)
      const next = render(size)
      const text = above === "" ? next : [...above.split("\n"), ...next]
      yield* Ref.set(shown, { lines: next, render })
      yield* screen.write(frame(lines, text, size.columns))
    },
    oneFrameAtATime.withPermit,
    Effect.uninterruptible
  )

  yield* Effect.acquireRelease(screen.write(hideCursor), () => screen.write(showCursor))
  const sizes = yield* screen.sizes
  yield* Effect.forkScoped(Stream.runForEach(sizes, (size) => redraw(size)))

  return {
    draw: (render) =>
      Ref.update(shown, ({ lines }) => ({ lines, render })).pipe(
        Effect.andThen(screen.size),
        Effect.flatMap((size) => redraw(size))
      ),
    print: (text) => Effect.flatMap(screen.size, (size) => redraw(size, text))
  } satisfies LiveArea
})
