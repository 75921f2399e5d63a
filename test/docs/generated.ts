/**
 * The parts of the documents that are made from the program, so that they cannot drift from it.
 *
 * A part stands between `<!-- made: NAME -->` and `<!-- end -->`. Run as a program (`node test/docs/generated.ts`, then
 * `npm run format`) this file rewrites them all; the test beside it compares what they say, not how wide columns are.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import manifest from "../../package.json" with { type: "json" }
import * as Metrics from "../../protocol/Metrics.ts"
import { asyncApi } from "../../protocol/service/asyncApi.ts"
import { tables } from "../../src/config.ts"
import { httpTables } from "./httpTables.ts"
import { natsTables } from "./natsTables.ts"

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
  { file: "README.md", name: "limits", text: httpTables.limits },
  { file: "docs/http-api.md", name: "routes", text: httpTables.routes },
  { file: "docs/http-api.md", name: "problems of HTTP", text: httpTables.problems },
  { file: "docs/configuration.md", name: "variables of a node", text: tables.server },
  { file: "docs/configuration.md", name: "variables of the command line", text: tables.client },
  { file: "docs/observability.md", name: "metrics", text: metricsTable },
  { file: "docs/nats-protocol.md", name: "request headers", text: natsTables.requestHeaders },
  { file: "docs/nats-protocol.md", name: "answer headers", text: natsTables.answerHeaders },
  { file: "docs/nats-protocol.md", name: "endpoints", text: natsTables.endpoints },
  { file: "docs/nats-protocol.md", name: "problems", text: natsTables.problems }
]

/** Documents that are made as a whole. */
export const documents: ReadonlyArray<{ readonly file: string; readonly text: string }> = [
  { file: "docs/asyncapi.json", text: `${JSON.stringify(asyncApi(manifest.version), null, 2)}\n` }
]

const path = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url))
const begin = (name: string) => `<!-- made: ${name} -->\n\n`
const end = "\n\n<!-- end -->"

/** What stands in the document now; undefined when its markers are missing. */
export const present = ({ file, name }: Part): string | undefined => {
  const page = readFileSync(path(file), "utf8")
  const from = page.indexOf(begin(name))
  const to = page.indexOf(end, from)
  return from < 0 || to < 0 ? undefined : page.slice(from + begin(name).length, to)
}

/** A table without the blanks that the formatter aligns its columns with. */
export const plain = (text: string | undefined) =>
  text
    ?.split("\n")
    .map((line) => line.replace(/ *\| */gu, "|").replace(/-{3,}/gu, "---"))
    .join("\n")

const rewrite = (part: Part) => {
  const old = present(part)
  if (old === undefined) return console.error(`${part.file}: the markers of "${part.name}" are missing`)
  const page = readFileSync(path(part.file), "utf8")
  const head = page.indexOf(begin(part.name)) + begin(part.name).length
  writeFileSync(path(part.file), page.slice(0, head) + part.text + page.slice(head + old.length))
}

export const wholeText = (file: string) => readFileSync(path(file), "utf8")

if (import.meta.main) {
  parts.forEach(rewrite)
  for (const { file, text } of documents) writeFileSync(path(file), text)
}
