/**
 * Owns how text looks on a terminal: colours, bars, and cutting text to a width.
 *
 * Invariant: whatever came from a server passes `printable` before it reaches a terminal, so that the name of a task
 * or an error's text cannot move the cursor, change colours or forge a line. Pure: knows no stream and no environment.
 */
import { CliOutput } from "effect/cli"

/** Colours and signs; the plain one adds nothing and uses ASCII only. */
export interface Ink {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
  readonly cyan: (text: string) => string
  readonly full: string
  readonly empty: string
  readonly more: string
  readonly ok: string
  readonly bad: string
}

const sgr = (open: number, close: number) => (text: string) =>
  text === "" ? "" : `\u001B[${open}m${text}\u001B[${close}m`
const same = (text: string) => text

const colours = {
  bold: sgr(1, 22),
  dim: sgr(2, 22),
  red: sgr(31, 39),
  green: sgr(32, 39),
  yellow: sgr(33, 39),
  cyan: sgr(36, 39)
}
const noColours = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same }
const signs = { full: "█", empty: "░", more: "…", ok: "✓", bad: "✗" }
const asciiSigns = { full: "#", empty: "-", more: "~", ok: "+", bad: "x" }

export const ink = (options: { readonly colour: boolean; readonly unicode: boolean }): Ink => ({
  ...(options.colour ? colours : noColours),
  ...(options.unicode ? signs : asciiSigns)
})

/** No colours, ASCII only: for pipes and files. */
export const plainInk: Ink = ink({ colour: false, unicode: false })

// C0 and C1 controls, DEL, line and paragraph separators, and the marks that reorder what is shown (Unicode TR 36).
const unprintable = /[\p{Cc}\u2028\u2029\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu

/** The text on one line: line breaks and tabs become spaces, other control characters are shown as `\u{...}`. */
export const printable = (text: string): string =>
  text
    .replace(/\r\n|[\n\r\t]/gu, " ")
    .replace(unprintable, (found) => `\\u{${(found.codePointAt(0) ?? 0).toString(16)}}`)

/** As `printable`, but keeps line breaks: for texts of several lines such as a report. */
export const printableLines = (text: string): string =>
  text
    .split(/\r\n|\n|\r/u)
    .map(printable)
    .join("\n")

const segments = new Intl.Segmenter()

/** Exactly `width` cells: cut with a sign, or filled with spaces. The text must be printable and without colours. */
export const fit = (text: string, width: number, ink: Ink, align: "left" | "right" = "left"): string => {
  const cells = CliOutput.displayWidth(text)
  if (cells > width) return cut(text, width, ink)
  const filling = " ".repeat(width - cells)
  return align === "left" ? text + filling : filling + text
}

const cut = (text: string, width: number, ink: Ink): string => {
  if (width < 1) return ""
  let kept = ""
  let cells = 0
  for (const { segment } of segments.segment(text)) {
    const more = CliOutput.displayWidth(segment)
    if (cells + more > width - 1) break
    kept += segment
    cells += more
  }
  return kept + ink.more + " ".repeat(width - cells - 1)
}

/** A bar of `width` cells, filled to `percentage` (0 to 100). Full only when the percentage is 100. */
export const bar = (percentage: number, width: number, ink: Ink): string => {
  const share = Math.min(100, Math.max(0, percentage)) / 100
  const filled = share === 1 ? width : Math.min(width - 1, Math.round(share * width))
  return ink.full.repeat(Math.max(0, filled)) + ink.dim(ink.empty.repeat(Math.max(0, width - filled)))
}

/** `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`. */
export const duration = (millis: number): string => {
  if (millis < 1000) return `${Math.round(millis)} ms`
  if (millis < 10_000) return `${(millis / 1000).toFixed(1)} s`
  const seconds = Math.round(millis / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`
}

/** An RFC 3339 time in UTC as people read it: `2026-11-23 10:00:00Z`. Another form stays as it is. */
export const time = (timestamp: string): string =>
  timestamp.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z$/u, "$1 $2Z")

/** `812 B`, `1.4 KiB`, `20 MiB`. */
export const bytes = (count: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10))
  const amount = count / 1024 ** power
  return `${power === 0 || amount >= 10 ? Math.round(amount) : amount.toFixed(1)} ${units[power]}`
}

/** Columns side by side, widths from their cells; the last one is not filled. Cells may carry colours. */
export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>, ink: Ink): string => {
  const widths = head.map((title, column) =>
    Math.max(CliOutput.displayWidth(title), ...rows.map((row) => CliOutput.displayWidth(row[column] ?? "")))
  )
  const line = (cells: ReadonlyArray<string>) =>
    cells
      .map((cell, column) => cell + " ".repeat(Math.max(0, (widths[column] ?? 0) - CliOutput.displayWidth(cell))))
      .join("  ")
      .trimEnd()
  return [ink.dim(line(head)), ...rows.map(line)].join("\n")
}

/** Names and values below each other. Entries without a value are left out. */
export const facts = (entries: ReadonlyArray<readonly [string, string | undefined | null]>, ink: Ink): string => {
  const shown = entries.filter(([, value]) => value !== undefined && value !== null && value !== "")
  const width = Math.max(0, ...shown.map(([name]) => CliOutput.displayWidth(name)))
  return shown.map(([name, value]) => `${ink.dim(name.padEnd(width))}  ${value}`).join("\n")
}
