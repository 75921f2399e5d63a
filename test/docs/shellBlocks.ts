/**
 * The shell commands of the documents, run as a reader pastes them: block after block into one shell, in a clone.
 *
 * Every block marked `sh` is run. What stands in comments right before it says otherwise: `<!-- not run: REASON -->`, and
 * `<!-- refused: TYPE, TYPE -->` for a block in which the platform refuses something, by the types of the problems.
 *
 * Blocks go into the shell by its standard input, so that a command that swallows what was pasted after it is noticed.
 */
import { spawn } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"

export const root = fileURLToPath(new URL("../..", import.meta.url))

export interface Block {
  /** Document and line. */
  readonly name: string
  readonly text: string
  /** Why it is not run. */
  readonly skipped: string | undefined
  /** Types of the problems that it shows, in alphabetical order. */
  readonly refused: ReadonlyArray<string>
}

export const shellBlocks = (file: string): ReadonlyArray<Block> => {
  const page = readFileSync(join(root, file), "utf8")
  const found = page.matchAll(
    /(?:<!-- not run: (?<skipped>[^\n]+) -->\n+)?(?:<!-- refused: (?<refused>[^\n]+) -->\n+)?```sh\n(?<text>[\s\S]*?)```/gu
  )
  return Array.from(found, ({ groups = {}, index }) => ({
    name: `${file}:${page.slice(0, index).split("\n").length}`,
    text: groups["text"] ?? "",
    skipped: groups["skipped"],
    refused: (groups["refused"] ?? "")
      .split(", ")
      .filter((type) => type !== "")
      .toSorted()
  }))
}

/** A clone as far as its reader can tell: what git has, nothing that a run leaves behind. */
export const makeClone = (folder: string) => {
  mkdirSync(folder)
  for (const name of readdirSync(root)) {
    if (name !== ".git" && name !== ".datamcp") symlinkSync(join(root, name), join(folder, name))
  }
}

/** Writes the files that a document tells its reader to make: `<!-- file: PATH -->` before a block. */
export const writeFiles = (document: string, folder: string) => {
  const page = readFileSync(join(root, document), "utf8")
  for (const { groups = {} } of page.matchAll(/<!-- file: (?<path>[\w./-]+) -->\n+```\w+\n(?<text>[\s\S]*?)```/gu)) {
    const file = join(folder, groups["path"] ?? "")
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, groups["text"] ?? "")
  }
}

/** What came of a block that was run. */
export interface Ran {
  readonly name: string
  /** False when the shell ended, or was ended, before. */
  readonly finished: boolean
  /** Commands that failed, as the shell names them. */
  readonly failed: ReadonlyArray<string>
  readonly refused: ReadonlyArray<string>
  readonly output: string
}

const mark = "@@docs"

/** Runs the blocks in one shell in `folder`, `url` in place of the documented address. The shell is ended after `patienceMillis`. */
export const runBlocks = (
  blocks: ReadonlyArray<Block>,
  options: { readonly folder: string; readonly url: string; readonly patienceMillis: number }
) =>
  Effect.callback<ReadonlyArray<Ran>>((resume) => {
    const shell = spawn("bash", ["--noprofile", "--norc", "-s"], {
      cwd: options.folder,
      detached: true,
      timeout: options.patienceMillis,
      killSignal: "SIGKILL",
      stdio: ["pipe", "pipe", "pipe"],
      env: {
        PATH: [shortcuts(options.folder), process.env["PATH"] ?? ""].join(delimiter),
        HOME: process.env["HOME"] ?? "/",
        LANG: "C.UTF-8",
        // The port is not the usual one here.
        DATAMCP_URL: options.url
      }
    })
    let output = ""
    for (const stream of [shell.stdout, shell.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text
      })
    }
    // The whole process group: what a block has put into the background as well.
    const end = () => {
      try {
        if (shell.pid !== undefined) process.kill(-shell.pid, "SIGKILL")
      } catch {
        // All of it has ended.
      }
    }
    shell.on("exit", end)
    shell.on("close", () => resume(Effect.succeed(ranOf(blocks, output))))
    shell.stdin.on("error", () => {})
    shell.stdin.end(scriptOf(blocks, options.url))
    return Effect.sync(end)
  })

/** `exec 2>&1`: what a block says comes before the mark of its end. */
const scriptOf = (blocks: ReadonlyArray<Block>, url: string) =>
  [
    `exec 2>&1; set -o errtrace; trap 'printf "\\n${mark} failed %s\\n" "$BASH_COMMAND"' ERR`,
    ...blocks.flatMap(({ text }) => [text.replaceAll("http://127.0.0.1:8002", url), `printf '\\n${mark} end\\n'`])
  ].join("\n")

const ranOf = (blocks: ReadonlyArray<Block>, output: string): ReadonlyArray<Ran> => {
  const parts = output.split(`\n${mark} end\n`)
  return blocks.map(({ name }, index) => {
    const own = parts[index] ?? ""
    return {
      name,
      finished: index < parts.length - 1,
      failed: Array.from(own.matchAll(new RegExp(`^${mark} failed (.*)$`, "gmu")), ([, command = ""]) => command),
      refused: [...new Set(own.match(/(?<=urn:datamcp:problem:)[a-z-]+/gu))].toSorted(),
      output: own
    }
  })
}

/**
 * A folder for the `PATH` with an `npx` that does what npm's does with this package, without the half second it takes. Npm's
 * own is tried by the test once.
 */
const shortcuts = (folder: string) => {
  const bin = join(folder, ".shortcuts")
  mkdirSync(bin, { recursive: true })
  writeFileSync(
    join(bin, "npx"),
    '#!/bin/sh\n[ "$1" = datamcp ] || exit 127\nshift\nexec node bin/datamcp.mjs "$@"\n',
    {
      mode: 0o755
    }
  )
  return bin
}
