/** A real redis-server (or valkey-server) from the PATH for one round, with an append-only file in a folder of its own. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { freePort, type Server, startServer } from "./Child.ts"

export interface Redis extends Server {
  readonly port: number
}

const program = ["redis-server", "valkey-server"].find((name) => spawnSync(name, ["--version"]).status === 0)

/** Undefined when there is one. */
export const redisMissing = (): string | undefined =>
  program === undefined
    ? "there is no redis-server on the PATH (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)"
    : undefined

export const redisVersion = (): string =>
  program === undefined
    ? "none"
    : `${program} ${/v=([\d.]+)/.exec(spawnSync(program, ["--version"], { encoding: "utf8" }).stdout)?.[1] ?? "?"}`

export const startRedis = async (appendfsync: "everysec" | "always"): Promise<Redis> => {
  if (program === undefined) throw new Error(redisMissing())
  const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-redis-"))
  const port = await freePort()
  const settings = {
    bind: "127.0.0.1",
    port: String(port),
    dir: folder,
    daemonize: "no",
    appendonly: "yes",
    appendfsync,
    // Snapshots beside the append-only file would be paid for twice; BullMQ demands that nothing is evicted.
    save: "",
    "maxmemory-policy": "noeviction"
  }
  const child = await startServer({
    name: "redis-server",
    command: [program, Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])],
    stopSignal: "SIGTERM",
    ready: () => answersPing(port)
  })
  return {
    pid: child.pid,
    port,
    stop: async () => {
      await child.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}

const answersPing = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1")
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once("connect", () => socket.write("PING\r\n"))
    socket.once("data", (bytes) => end(bytes.toString().startsWith("+PONG")))
    socket.once("error", () => end(false))
  })
