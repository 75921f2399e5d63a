/** A real restate-server from npm for one round: all roles in one process, durable defaults, data in a folder of its own. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { freePort, type Server, startServer } from "./Child.ts"

export interface Restate extends Server {
  readonly ingressUrl: string
  readonly adminUrl: string
}

const program = fileURLToPath(
  new URL(
    `../peers/node_modules/@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`,
    import.meta.url
  )
)

/** Undefined when there is one. */
export const restateMissing = (): string | undefined =>
  existsSync(program) ? undefined : `npm has no restate-server for this machine (${process.platform}-${process.arch})`

export const startRestate = async (options: { readonly partitions?: number }): Promise<Restate> => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-restate-"))
  const [node, ingress, admin] = [await freePort(), await freePort(), await freePort()]
  const config = join(folder, "restate.toml")
  writeFileSync(
    config,
    `node-name = "bench"
bind-address = "127.0.0.1:${node}"
listen-mode = "tcp"
disable-telemetry = true
log-filter = "error"
${options.partitions === undefined ? "" : `default-num-partitions = ${options.partitions}`}
[ingress]
bind-address = "127.0.0.1:${ingress}"
[admin]
bind-address = "127.0.0.1:${admin}"
`
  )
  const adminUrl = `http://127.0.0.1:${admin}`
  const answers = (url: string) =>
    fetch(url).then(
      (response) => response.ok,
      () => false
    )
  const ingressUrl = `http://127.0.0.1:${ingress}`
  const child = await startServer({
    name: "restate-server",
    command: [program, ["--config-file", config, "--base-dir", join(folder, "data"), "--no-logo"]],
    stopSignal: "SIGTERM",
    ready: async () => (await answers(`${adminUrl}/health`)) && (await answers(`${ingressUrl}/restate/health`))
  })
  return {
    pid: child.pid,
    ingressUrl,
    adminUrl,
    stop: async () => {
      await child.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
