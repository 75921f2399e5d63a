/**
 * Child processes that a fault run owns: each is the leader of a process group of its own and is treated by its own pid. What it
 * wrote last is told when it does not start. All that are left end with the run.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

export interface OwnProcess {
  readonly pid: () => number
  readonly isUp: () => boolean
  /** The last 16,000 characters that it wrote. */
  readonly output: () => string
  readonly signal: (signal: NodeJS.Signals) => void
  /** SIGKILL, and gone when it returns. */
  readonly kill: () => Promise<void>
  /** SIGTERM, SIGKILL after 20 s; how long it took and how it ended. */
  readonly stop: () => Promise<{ readonly millis: number; readonly code: number | null }>
  /** Resolves once it is gone, however it went. */
  readonly gone: Promise<void>
}

const left = new Set<ChildProcess>()
process.once("exit", () => {
  for (const child of left) child.kill("SIGKILL")
})

/** Starts it and returns once `ready` says so, within 60 s. */
export const startProcess = async (options: {
  readonly name: string
  readonly command: ReadonlyArray<string>
  readonly environment?: Readonly<Record<string, string>>
  readonly folder?: string
  readonly ready: (output: string) => Promise<boolean> | boolean
  /** It may end before it is ready: a node that crashes at its first commit. */
  readonly mayEndEarly?: boolean
}): Promise<OwnProcess> => {
  const [program = "", ...args] = options.command
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    env: { ...process.env, ...options.environment },
    ...(options.folder !== undefined && { cwd: options.folder })
  })
  left.add(child)
  let output = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-16_000)
    })
  }
  const gone = new Promise<void>((resolve) => {
    const ended = () => {
      left.delete(child)
      resolve()
    }
    child.once("exit", ended)
    child.once("error", (error) => {
      output += error.message
      ended()
    })
  })
  const isUp = () => left.has(child)
  const kill = async () => {
    if (isUp()) child.kill("SIGKILL")
    await gone
  }
  const own: OwnProcess = {
    pid: () => child.pid ?? 0,
    isUp,
    output: () => output,
    signal: (signal) => {
      if (isUp()) child.kill(signal)
    },
    kill,
    stop: async () => {
      const began = performance.now()
      const late = setTimeout(() => child.kill("SIGKILL"), 20_000)
      if (isUp()) {
        child.kill("SIGCONT")
        child.kill("SIGTERM")
      }
      await gone
      clearTimeout(late)
      return { millis: performance.now() - began, code: child.exitCode }
    },
    gone
  }
  for (let attempt = 0; attempt < 2_400; attempt++) {
    if (!isUp()) {
      if (options.mayEndEarly === true) return own
      throw new Error(`${options.name} ended at its start:\n${output}`)
    }
    if (await options.ready(output)) return own
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  await kill()
  throw new Error(`${options.name} was not ready within 60 s:\n${output}`)
}

/** A process and all that descend from it, as /proc tells: Postgres gives each of its processes a group of its own. */
export const treeOf = (pid: number): ReadonlyArray<number> => {
  const children = new Map<number, Array<number>>()
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8")
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])
      children.set(parent, [...(children.get(parent) ?? []), Number(name)])
    } catch {
      // It has ended since.
    }
  }
  const tree = [pid]
  for (const each of tree) tree.push(...(children.get(each) ?? []))
  return tree
}

/** Signals a whole tree, its root first. */
export const signalTree = (pid: number, signal: NodeJS.Signals) => {
  if (pid <= 1) return
  for (const each of treeOf(pid)) {
    try {
      process.kill(each, signal)
    } catch {
      // It has ended since.
    }
  }
}
