/**
 * What processes cost, read from /proc: CPU time and memory of a process with all its descendants. On systems without
 * /proc there are no such figures.
 */
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

interface Stat {
  readonly pid: number
  readonly name: string
  readonly parent: number
  /** CPU time in ticks, that of children which have ended and were waited for included. */
  readonly ticks: number
}

const ticksPerSecond =
  process.platform === "linux" ? Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" })) : Number.NaN

const statOf = (pid: number): Stat | undefined => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8")
    const end = text.lastIndexOf(")")
    const fields = text.slice(end + 2).split(" ")
    const ticks = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0)
    return { pid, name: text.slice(text.indexOf("(") + 1, end), parent: Number(fields[1]), ticks }
  } catch {
    return undefined
  }
}

const allStats = (): ReadonlyArray<Stat> => {
  if (process.platform !== "linux") return []
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat !== undefined)
}

const descendants = (root: number, stats: ReadonlyArray<Stat>): ReadonlyArray<Stat> => {
  const found = stats.filter(({ pid }) => pid === root)
  for (const { pid } of found) found.push(...stats.filter(({ parent }) => parent === pid))
  return found
}

/** The nearest descendant of `root` that runs the program `name`. */
export const findChild = (root: number, name: string): number | undefined =>
  descendants(root, allStats()).find((stat) => stat.name === name)?.pid

/** CPU time so far of each named process, in microseconds: alone, or with its descendants (`tree`). Undefined for those that are gone. */
export interface Cost {
  readonly name: string
  readonly pid: number
  readonly tree: boolean
}

export const cpuMicros = (costs: ReadonlyArray<Cost>): Readonly<Record<string, number>> => {
  const stats = allStats()
  const micros = (ticks: number) => (ticks / ticksPerSecond) * 1e6
  return Object.fromEntries(
    costs.flatMap(({ name, pid, tree }) => {
      const own = tree ? descendants(pid, stats) : stats.filter((stat) => stat.pid === pid)
      return own.length === 0 ? [] : [[name, micros(own.reduce((sum, { ticks }) => sum + ticks, 0))]]
    })
  )
}

/**
 * Memory in MB. Of one process what it holds in RAM (RSS); of a tree the sum of proportional shares (PSS), so that the memory
 * Postgres's processes share counts once. NaN where /proc does not say.
 */
export const memoryMegabytes = ({ pid, tree }: Omit<Cost, "name">): number => {
  const kilobytes = (file: string, field: string) => {
    try {
      return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(file, "utf8"))?.[1] ?? Number.NaN)
    } catch {
      return Number.NaN
    }
  }
  const sum = tree
    ? descendants(pid, allStats())
        .map((stat) => kilobytes(`/proc/${stat.pid}/smaps_rollup`, "Pss"))
        .filter((value) => !Number.isNaN(value))
        .reduce((total, value) => total + value, 0)
    : kilobytes(`/proc/${pid}/status`, "VmRSS")
  return Math.round(sum / 102.4) / 10
}

/** CPU time that the whole machine has used so far, in microseconds; NaN where /proc does not say. */
export const machineMicros = (): number => {
  try {
    const [user = 0, nice = 0, system = 0, , , interrupts = 0, softInterrupts = 0] = (
      readFileSync("/proc/stat", "utf8").split("\n")[0] ?? ""
    )
      .split(/\s+/)
      .slice(1)
      .map(Number)
    return ((user + nice + system + interrupts + softInterrupts) / ticksPerSecond) * 1e6
  } catch {
    return Number.NaN
  }
}
