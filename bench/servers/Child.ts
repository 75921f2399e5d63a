/**
 * A server that the bench starts and ends: a child process with its data in a temporary folder, ended by its pid and gone, with its
 * data, when `stop` returns. Where the system can do so it dies with the bench, however that dies.
 */
import { spawn, spawnSync } from "node:child_process"
import { createServer } from "node:net"

export interface Server {
  readonly pid: number
  readonly stop: () => Promise<void>
}

/** How a server is ended when it is to be started again. */
export type EndSignal = "SIGKILL" | "SIGTERM" | "SIGINT"

/** A server that can be ended as a scenario likes, and started again on the same data and port. */
export interface Restartable {
  /** Returns once the process is gone. */
  readonly end: (signal: EndSignal) => Promise<void>
  /** Returns once it answers. */
  readonly again: () => Promise<void>
}

export interface StartedServer extends Server {
  /** Sends a signal and returns once the process is gone. */
  readonly end: (signal: EndSignal) => Promise<void>
  /** The last 4,000 characters that it wrote. */
  readonly output: () => string
}

export interface ServerOptions {
  readonly name: string
  readonly command: readonly [program: string, args: ReadonlyArray<string>]
  readonly stopSignal: "SIGINT" | "SIGTERM"
  readonly folder?: string
  readonly environment?: Readonly<Record<string, string>>
  /** True once the server answers; asked every 25 ms with what it has written so far. */
  readonly ready: (output: string) => Promise<boolean>
}

const dieWithParent =
  process.platform === "linux" && spawnSync("setpriv", ["--pdeathsig=keep", "--", "true"]).status === 0

/** Starts it and returns when it is ready, within 60 s. */
export const startServer = async (options: ServerOptions): Promise<StartedServer> => {
  const [program, args] = options.command
  const wrapped: readonly [string, ReadonlyArray<string>] =
    dieWithParent && program !== "setpriv"
      ? ["setpriv", [`--pdeathsig=${options.stopSignal.slice(3)}`, "--", program, ...args]]
      : [program, args]
  const child = spawn(wrapped[0], wrapped[1], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.environment },
    ...(options.folder !== undefined && { cwd: options.folder })
  })
  let output = ""
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-4_000)
    })
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const timer = setTimeout(() => child.kill("SIGKILL"), 15_000)
    child.kill(options.stopSignal)
    await gone
    clearTimeout(timer)
  }
  const end = async (signal: EndSignal) => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await gone
  }
  child.on("error", (error) => {
    output += error.message
  })
  for (let attempt = 0; attempt < 2_400; attempt++) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined)
      throw new Error(`${options.name} ended at its start:\n${output}`)
    if (await options.ready(output)) return { pid: child.pid, stop, end, output: () => output }
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  await stop()
  throw new Error(`${options.name} did not answer within 60 s:\n${output}`)
}

export const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      const port = address !== null && typeof address === "object" ? address.port : 0
      server.close(() => resolve(port))
    })
  })
