/** What figures depend on beside the program: hardware, versions, and how busy and how noisy the machine was. */
import { spawnSync } from "node:child_process"
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { arch, cpus, loadavg, platform, release, tmpdir, totalmem } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { quantile } from "./Figures.ts"
import { machineMicros } from "./ProcessTree.ts"

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

/** Of all CPU time, the share (percent) that others may take while a figure counts as the system's own. */
export const quietPercent = 10

/**
 * Waits until the machine has nothing else to do: 3 s in which less than `quietPercent` of its CPU time was used. Answers how
 * many milliseconds it waited, at most about `millisMax`; then it may not be quiet, which every result tells for itself.
 */
export const awaitQuiet = async (millisMax: number): Promise<number> => {
  const began = performance.now()
  while (performance.now() - began < millisMax) {
    const [at, used] = [performance.now(), machineMicros()]
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const share = (machineMicros() - used) / ((performance.now() - at) * 1_000 * cpus().length)
    // Not a number where the system does not tell: there is nothing to wait for then.
    if (!(share * 100 >= quietPercent)) break
  }
  return performance.now() - began
}
