/**
 * The parts of the documents that are made from the program, so that they cannot drift from it.
 *
 * A part stands between `<!-- made: NAME -->` and `<!-- end -->`. Run as a program (`node test/docs/generated.ts`) this
 * file rewrites them all; the test beside it only compares.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Metrics from "../../protocol/Metrics.ts"
import { tables } from "../../src/config.ts"

export interface Part {
  /** Path from the repository's root. */
  readonly file: string
  readonly name: string
  readonly text: string
}

const metricsTable = [
  "| name | type | unit | labels | what it says |",
  "|---|---|---|---|---|",
  ...Metrics.catalogue.map(
    ({ help, labels, name, type, unit }) =>
      `| \`${name}\` | ${type} | ${unit} | ${labels.map((label) => `\`${label}\``).join(", ")} | ${help} |`
  )
].join("\n")

export const parts: ReadonlyArray<Part> = [
  { file: "docs/configuration.md", name: "variables of a node", text: tables.server },
  { file: "docs/configuration.md", name: "variables of the command line", text: tables.client },
  { file: "docs/observability.md", name: "metrics", text: metricsTable }
]

const path = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))
const begin = (name: string) => `<!-- made: ${name} -->\n`
const end = "\n<!-- end -->"

/** What stands in the document now; undefined when its markers are missing. */
export const present = ({ file, name }: Part): string | undefined => {
  const page = readFileSync(path(file), "utf8")
  const from = page.indexOf(begin(name))
  const to = page.indexOf(end, from)
  return from < 0 || to < 0 ? undefined : page.slice(from + begin(name).length, to)
}

const rewrite = (part: Part) => {
  const old = present(part)
  if (old === undefined) return console.error(`${part.file}: the markers of "${part.name}" are missing`)
  const page = readFileSync(path(part.file), "utf8")
  const head = page.indexOf(begin(part.name)) + begin(part.name).length
  writeFileSync(path(part.file), page.slice(0, head) + part.text + page.slice(head + old.length))
}

if (import.meta.main) parts.forEach(rewrite)
