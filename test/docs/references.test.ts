/** What the documents point to is there: files, links, headings, and the tests they call as witnesses. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { isThere } from "./Platform.ts"
import { root } from "./shellBlocks.ts"

const documents = [
  ...["README.md", "CHANGELOG.md", "examples/README.md"].filter(isThere),
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join("docs", name))
]

const text = (file: string) => readFileSync(join(root, file), "utf8")
const matches = (file: string, pattern: RegExp) => Array.from(text(file).matchAll(pattern), ([, first = ""]) => first)

/** As GitHub makes them. */
const anchors = (file: string) =>
  matches(file, /^#{1,6} (.+)$/gmu).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-")
  )

const sources = /`((?:protocol|actors|src|sql|test|docs|examples|deploy|bench|bin)\/[\w./-]+\.\w+)`/gu
const links = /\]\((?!https?:)([^)\s]+)\)/gu
/** `test/x.test.ts` ("name of a test", "name of another") */
const witnesses = /`(test\/[\w./-]+\.test\.ts)`\s\(((?:"[^"]+"(?:, )?)+)\)/gu

describe("docs/architecture.md", () => {
  it("says what each table holds", () => {
    const tables = readdirSync(join(root, "sql"))
      .filter((name) => /^\d+_.*\.sql$/u.test(name))
      .flatMap((name) => matches(join("sql", name), /^create table (\w+)/gmu))
    const page = text("docs/architecture.md")
    expect(tables.length).toBeGreaterThan(5)
    expect(tables.filter((table) => !page.includes(`\`${table}\``))).toEqual([])
  })
})

describe.each(documents)("%s", (file) => {
  it("names files that are there", () => {
    expect(matches(file, sources).filter((path) => !isThere(path))).toEqual([])
  })

  it("links to pages and headings that are there", () => {
    const broken = matches(file, links).filter((link) => {
      const [path = "", anchor] = link.split("#")
      const target = path === "" ? file : normalize(join(dirname(file), path))
      return !isThere(target) || (anchor !== undefined && !anchors(target).includes(anchor))
    })
    expect(broken).toEqual([])
  })

  it("calls tests that exist", () => {
    const missing = Array.from(text(file).matchAll(witnesses)).flatMap(([, test = "", names = ""]) => {
      const source = isThere(test) ? text(test) : ""
      return Array.from(names.matchAll(/"([^"]+)"/gu), ([, name = ""]) => name)
        .filter((name) => !source.includes(name))
        .map((name) => `${test}: ${name}`)
    })
    expect(missing).toEqual([])
  })
})
