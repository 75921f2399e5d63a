/** A real nats-server with JetStream for several nodes: the program and configuration of the embedded one, data in a folder of its own. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect } from "effect"
import { natsProgram } from "../../src/embedded/NatsProgram.ts"
import { awaitAnswering, writeConfig } from "../../src/embedded/NatsServer.ts"
import { freePort, type Server, startServer } from "./Child.ts"

export interface Nats extends Server {
  readonly url: string
}

const tools = fileURLToPath(new URL("../../.datamcp/tools", import.meta.url))

const run = <A, E>(effect: Effect.Effect<A, E, NodeServices.NodeServices>) =>
  Effect.runPromise(Effect.provide(effect, NodeServices.layer))

export const startNats = async (): Promise<Nats> => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-nats-"))
  const port = await freePort()
  const configFile = join(folder, "nats.conf")
  await run(writeConfig({ configFile, storeFolder: join(folder, "jetstream"), port, users: [] }))
  const child = await startServer({
    name: "nats-server",
    command: [await run(natsProgram(tools)), ["-c", configFile]],
    stopSignal: "SIGTERM",
    ready: () =>
      run(awaitAnswering(port, undefined, 1)).then(
        () => true,
        () => false
      )
  })
  return {
    pid: child.pid,
    url: `nats://127.0.0.1:${port}`,
    stop: async () => {
      await child.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
