/** A real nats-server with JetStream for several nodes: the program and configuration of the embedded one, data in a folder of its own. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect } from "effect"
import { natsProgram } from "../../src/embedded/NatsProgram.ts"
import { awaitAnswering, writeConfig } from "../../src/embedded/NatsServer.ts"
import { freePort, type Restartable, type Server, startServer } from "./Child.ts"

export interface Nats extends Server, Restartable {
  readonly url: string
  /** Its monitoring page. */
  readonly monitorUrl: string
  /** Removes all streams and consumers; only while it is down. */
  readonly wipe: () => void
}

const tools = fileURLToPath(new URL("../../.datamcp/tools", import.meta.url))

const run = <A, E>(effect: Effect.Effect<A, E, NodeServices.NodeServices>) =>
  Effect.runPromise(Effect.provide(effect, NodeServices.layer))

export const startNats = async (): Promise<Nats> => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-nats-"))
  const port = await freePort()
  const monitorPort = await freePort()
  const storeFolder = join(folder, "jetstream")
  const configFile = join(folder, "nats.conf")
  await run(writeConfig({ configFile, storeFolder, port, monitorPort, users: [] }))
  const program = await run(natsProgram(tools))
  const start = () =>
    startServer({
      name: "nats-server",
      command: [program, ["-c", configFile]],
      stopSignal: "SIGTERM",
      ready: () =>
        run(awaitAnswering(port, undefined, 1)).then(
          () => true,
          () => false
        )
    })
  let child = await start()
  return {
    pid: child.pid,
    url: `nats://127.0.0.1:${port}`,
    monitorUrl: `http://127.0.0.1:${monitorPort}`,
    end: (signal) => child.end(signal),
    again: async () => {
      child = await start()
    },
    wipe: () => rmSync(storeFolder, { recursive: true, force: true }),
    stop: async () => {
      await child.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
