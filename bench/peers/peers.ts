/**
 * The peers as systems to measure: each row of `list.ts` with a server, a client process and a worker process per round.
 * Their packages are installed here, in this folder, when they are first asked for.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { agrees } from "../../bin/lockfile.mjs"
import { startRemote } from "../Remote.ts"
import type { ClientMethods, Running, System, WorkerMethods } from "../System.ts"
import { postgresFsync, startPostgres } from "../servers/Postgres.ts"
import { redisMissing, redisVersion, startRedis } from "../servers/Redis.ts"
import { restateMissing, startRestate } from "../servers/Restate.ts"
import type { Connection } from "./Adapter.ts"
import { type Peer, peers } from "./list.ts"

const folder = fileURLToPath(new URL(".", import.meta.url))

/** Installs what the lockfile of this folder says, unless that is what is there. */
export const installPeers = () => {
  const packagesOf = (file: string) => (existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).packages : undefined)
  const wanted = packagesOf(`${folder}package-lock.json`)
  const installed = packagesOf(`${folder}node_modules/.package-lock.json`)
  const machine = { platform: process.platform, arch: process.arch, development: true }
  if (installed !== undefined && agrees(wanted, installed, machine)) return
  process.stderr.write("Installing the peers that bench/peers/package-lock.json names (once; about 60 MB) ...\n")
  const npm = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder, stdio: "inherit" })
  if (npm.status !== 0) throw new Error("the peers could not be installed: npm ci in bench/peers failed")
}

/** After `installPeers`. */
export const peerSystems = (): ReadonlyArray<System> => peers.map(systemOf)

const systemOf = (peer: Peer): System => ({
  name: peer.name,
  title: `${peer.packageName.replace("@restatedev/restate-server", "Restate")} ${versionOf(peer.packageName)}, ${peer.variant}`,
  fsync: fsyncOf(peer),
  settings: `${JSON.stringify(peer.settings)} (${peer.why})`,
  missing: () =>
    Promise.resolve(
      peer.server.kind === "redis" ? redisMissing() : peer.server.kind === "restate" ? restateMissing() : undefined
    ),
  start: () => start(peer)
})

const versionOf = (name: string): string =>
  JSON.parse(readFileSync(`${folder}node_modules/${name}/package.json`, "utf8")).version

const fsyncOf = ({ server }: Peer): string => {
  switch (server.kind) {
    case "redis":
      return server.appendfsync === "always"
        ? `on (${redisVersion()}, appendfsync always)`
        : `off (${redisVersion()}, appendfsync everysec: up to 1 s may be lost)`
    case "postgres":
      return postgresFsync
    case "restate":
      return "on (its log's WAL fsync, its default)"
  }
}

const startServerOf = async ({ server }: Peer) => {
  switch (server.kind) {
    case "redis":
      return startRedis(server.appendfsync)
    case "postgres":
      return startPostgres()
    case "restate":
      return startRestate(server)
  }
}

const start = async (peer: Peer): Promise<Running> => {
  const { pid, stop, ...connection } = await startServerOf(peer)
  const remote = <Methods>(role: "client" | "worker") =>
    startRemote<Methods>(
      new URL("process.ts", import.meta.url),
      [role, peer.adapter, JSON.stringify(connection satisfies Connection), JSON.stringify(peer.settings)],
      peer.environment
    )
  try {
    // The client first: it makes the schema. Restate has none, but must know the worker before it takes calls for it.
    const client = await remote<ClientMethods>("client")
    const worker = await remote<WorkerMethods>("worker")
    return {
      client,
      worker,
      doors: ["own"],
      costs: [
        { name: "client", pid: client.pid, tree: false },
        { name: "worker", pid: worker.pid, tree: false },
        { name: peer.server.kind, pid, tree: true }
      ],
      stop: async () => {
        await client.end()
        await worker.end()
        await stop()
      }
    }
  } catch (error) {
    await stop()
    throw error
  }
}
