/**
 * Renders a report of query results as Markdown (GitHub's flavour: tables). Cells cannot break out of their table, and
 * no text of the data becomes HTML.
 */
import type { Schema } from "effect"
import type { Rows } from "./Job.ts"

export interface Section extends Rows {
  readonly heading: string
  readonly text: string | undefined
}

export const markdown = (title: string, sections: ReadonlyArray<Section>): string =>
  [`# ${inline(title)}`, ...sections.flatMap(sectionOf)].join("\n\n").concat("\n")

const sectionOf = (section: Section): ReadonlyArray<string> => [
  `## ${inline(section.heading)}`,
  ...(section.text === undefined ? [] : [section.text.trim()]),
  section.rows.length === 0 ? "No rows." : table(section)
]

const table = ({ columns, rows }: Rows): string =>
  [
    line(columns.map(({ name }) => inline(name))),
    line(columns.map(({ type }) => (isNumeric(type) ? "---:" : "---"))),
    ...rows.map((row) => line(columns.map(({ name }) => cell(row[name] ?? null))))
  ].join("\n")

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`

const isNumeric = (type: string) => /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE|REAL)$/u.test(type)

const cell = (value: Schema.Json): string =>
  value === null ? "" : inline(typeof value === "object" ? JSON.stringify(value) : String(value))

/** One line of text that means itself. */
const inline = (text: string) =>
  text
    .replace(/[\\`*_[\]|~]/gu, "\\$&")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replace(/\s+/gu, " ")
    .trim()
