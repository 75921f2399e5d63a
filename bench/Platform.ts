/**
 * A platform to measure: `datamcp up` as a child process with a data folder and port of its own, started on nothing and
 * ended by its pid. What it writes last is shown when it does not start.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

export interface Platform {
  readonly url: string
  readonly key: string
  readonly nats: { readonly url: string; readonly user?: string; readonly password?: string }
  readonly pid: number
  readonly stop: () => Promise<void>
}

/** Starts it and waits until it is ready, at most 60 s. `environment` goes over this process's own. */
export const startPlatform = async (environment: Record<string, string> = {}): Promise<Platform> => {
  const folder = await mkdtemp(join(tmpdir(), "datamcp-bench-"))
  const port = await freePort()
  const child = spawn(process.execPath, ["src/cli.ts", "up"], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      PORT: String(port),
      DATAMCP_DATA: folder,
      DATABASE_URL: "",
      NATS_URL: "",
      LOG_LEVEL: "warn",
      ...environment
    }
  })
  let output = ""
  const keep = (bytes: Buffer) => {
    output = (output + bytes.toString()).slice(-4_000)
  }
  child.stdout.on("data", keep)
  child.stderr.on("data", keep)
  const url = `http://127.0.0.1:${port}`
  await untilReady(url, child, () => output)
  const connection = JSON.parse(await readFile(join(folder, "connection.json"), "utf8"))
  return {
    url,
    key: (await readFile(join(folder, "admin.key"), "utf8")).trim(),
    nats: connection.nats,
    pid: child.pid ?? 0,
    stop: async () => {
      const gone = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGTERM")
      await gone
      await rm(folder, { recursive: true, force: true })
    }
  }
}

const untilReady = async (url: string, child: ChildProcess, output: () => string) => {
  for (let attempt = 0; attempt < 600; attempt++) {
    if (child.exitCode !== null) throw new Error(`the platform ended with ${child.exitCode}:\n${output()}`)
    const ready = await fetch(`${url}/health/ready`).then(
      (response) => response.ok,
      () => false
    )
    if (ready) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  child.kill("SIGTERM")
  throw new Error(`the platform was not ready within 60 s:\n${output()}`)
}

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      const port = address !== null && typeof address === "object" ? address.port : 0
      server.close(() => resolve(port))
    })
  })
