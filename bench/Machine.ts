/** What figures depend on beside the program: hardware, versions, and how busy and how noisy the machine was. */
import { spawnSync } from "node:child_process"
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { arch, cpus, loadavg, platform, release, tmpdir, totalmem } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { quantile } from "./Figures.ts"

export interface Machine {
  readonly cpu: string
  readonly memory: string
  readonly system: string
  readonly node: string
  readonly commit: string
  /** Processes that wanted to run during the minute before; ours not among them. */
  readonly load_before: number
  /** Milliseconds of an 8 KiB write with fdatasync, in the folder for temporary files, 300 in a row. */
  readonly fdatasync_ms: { readonly p50: number; readonly p99: number; readonly max: number }
}

export const describeMachine = (): Machine => ({
  cpu: `${cpus().length} x ${cpus()[0]?.model ?? arch()}`,
  memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
  system: `${platform()} ${release()} ${arch()}`,
  node: process.version,
  commit: commit(),
  load_before: loadavg()[0] ?? Number.NaN,
  fdatasync_ms: fdatasyncMillis()
})

const commit = (): string => {
  const cwd = fileURLToPath(new URL("..", import.meta.url))
  const git = (...args: ReadonlyArray<string>) => spawnSync("git", args, { cwd, encoding: "utf8" }).stdout?.trim() ?? ""
  const changed = git("status", "--porcelain", "--untracked-files=no") === "" ? "" : " and changes"
  return `${git("rev-parse", "--short", "HEAD") || "unknown"}${changed}`
}

const fdatasyncMillis = (): Machine["fdatasync_ms"] => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-disk-"))
  const file = openSync(join(folder, "probe"), "w")
  const block = Buffer.alloc(8192, 1)
  const millis = Array.from({ length: 300 }, (_, index) => {
    const began = performance.now()
    writeSync(file, block, 0, block.length, index * block.length)
    fdatasyncSync(file)
    return performance.now() - began
  })
  closeSync(file)
  rmSync(folder, { recursive: true })
  return { p50: quantile(millis, 0.5), p99: quantile(millis, 0.99), max: quantile(millis, 1) }
}

/**
 * Waits for a quiet machine: a load of less than `below` over the last minute. Gives up after `minutesMax` and answers
 * false; whoever measures then says so.
 */
export const untilQuiet = async (below: number, minutesMax: number): Promise<boolean> => {
  const end = performance.now() + minutesMax * 60_000
  while ((loadavg()[0] ?? 0) >= below) {
    if (performance.now() > end) return false
    await new Promise((resolve) => setTimeout(resolve, 5_000))
  }
  return true
}
