/**
 * A platform to measure: datamcp as a child process with a data folder and port of its own, started on nothing and ended by
 * its pid. What it writes last is shown when it does not start.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type EndSignal, freePort, startServer } from "./servers/Child.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

export interface Platform {
  readonly url: string
  readonly key: string
  readonly nats: { readonly url: string; readonly user?: string; readonly password?: string }
  readonly pid: number
}

export interface StartedPlatform extends Platform {
  readonly output: () => string
  /** Sends the node a signal and returns once it is gone; what it leaves is removed by `stop`. */
  readonly end: (signal: EndSignal) => Promise<void>
  readonly stop: () => Promise<void>
}

export interface PlatformOptions {
  /** Over this process's own environment. */
  readonly environment?: Readonly<Record<string, string>>
  /** Options of Node itself. */
  readonly node?: ReadonlyArray<string>
}

const start = async (command: "up" | "serve", folder: string, options: PlatformOptions) => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const child = await startServer({
    name: `datamcp ${command}`,
    command: [
      process.execPath,
      ["--disable-warning=ExperimentalWarning", ...(options.node ?? []), "src/cli.ts", command]
    ],
    folder: root,
    stopSignal: "SIGTERM",
    environment: {
      PORT: String(port),
      DATAMCP_DATA: folder,
      DATABASE_URL: "",
      NATS_URL: "",
      LOG_LEVEL: "warn",
      ...options.environment
    },
    ready: () =>
      fetch(`${url}/health/ready`).then(
        (response) => response.ok,
        () => false
      )
  })
  return { ...child, url }
}

const newFolder = () => mkdtemp(join(tmpdir(), "datamcp-bench-"))

/** `datamcp up` on servers of its own for those that `environment` does not name. */
export const startPlatform = async (options: PlatformOptions = {}): Promise<StartedPlatform> => {
  const folder = await newFolder()
  const child = await start("up", folder, options)
  const connection = JSON.parse(await readFile(join(folder, "connection.json"), "utf8"))
  return {
    url: child.url,
    key: (await readFile(join(folder, "admin.key"), "utf8")).trim(),
    nats: connection.nats ?? { url: options.environment?.["NATS_URL"] ?? "" },
    pid: child.pid,
    output: child.output,
    end: child.end,
    stop: async () => {
      await child.stop()
      await rm(folder, { recursive: true, force: true })
    }
  }
}

/** `datamcp serve`, a node on servers that run already. The first one of a database tells the admin key, the others have ''. */
export const startNode = async (servers: {
  readonly databaseUrl: string
  readonly natsUrl: string
  /** Its name in leases and events; one of its own making when not given. */
  readonly name?: string
}): Promise<StartedPlatform> => {
  const folder = await newFolder()
  const child = await start("serve", folder, {
    environment: {
      DATABASE_URL: servers.databaseUrl,
      NATS_URL: servers.natsUrl,
      ...(servers.name !== undefined && { DATAMCP_NODE_NAME: servers.name })
    }
  })
  return {
    url: child.url,
    key: /dma_[\w-]+/.exec(child.output())?.[0] ?? "",
    nats: { url: servers.natsUrl },
    pid: child.pid,
    output: child.output,
    end: child.end,
    stop: async () => {
      await child.stop()
      await rm(folder, { recursive: true, force: true })
    }
  }
}
