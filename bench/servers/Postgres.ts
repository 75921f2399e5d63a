/**
 * A real Postgres for one round: the programs, settings and initdb of the embedded one (`src/embedded`), fsync on, on a data
 * folder of its own. initdb runs once per bench; each server starts on a copy of its folder.
 */
import { execFileSync } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Redacted } from "effect"
import { serverAs, userFor } from "../../src/embedded/OsUser.ts"
import { postgresPrograms } from "../../src/embedded/PostgresPrograms.ts"
import {
  awaitAccepting,
  durableSettings,
  initialise,
  type PostgresServer,
  serverCommand,
  urlOf
} from "../../src/embedded/PostgresServer.ts"
import { freePort, type Restartable, type Server, startServer } from "./Child.ts"

export interface Postgres extends Server, Restartable {
  readonly url: string
}

const password = Redacted.make("bench")

const run = <A, E>(effect: Effect.Effect<A, E, NodeServices.NodeServices>) =>
  Effect.runPromise(Effect.provide(effect, NodeServices.layer))

/** Folder, programs and user, with a data folder that initdb has made; shared by all servers of this process. */
let template: Promise<{ readonly folder: string; readonly server: Omit<PostgresServer, "port"> }> | undefined

const makeTemplate = async () => {
  const folder = mkdtempSync(join(tmpdir(), "datamcp-bench-pg-"))
  // Another user runs Postgres where root runs the bench.
  chmodSync(folder, 0o755)
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
  const server = await run(
    Effect.gen(function* () {
      const user = yield* userFor(join(folder, "template"))
      const programs = yield* postgresPrograms(user, "/var/lib/datamcp")
      const made = { programs, user, dataFolder: join(folder, "template") }
      yield* initialise({ ...made, port: 0 }, password, { sync: true })
      return made
    })
  )
  return { folder, server }
}

let serial = 0

/** `settings` go over the durable ones of the embedded server. */
export const startPostgres = async (settings: Readonly<Record<string, string>> = {}): Promise<Postgres> => {
  template ??= makeTemplate()
  const { folder, server: made } = await template
  const dataFolder = join(folder, `data-${serial++}`)
  execFileSync("cp", ["-a", made.dataFolder, dataFolder])
  const server: PostgresServer = { ...made, dataFolder, port: await freePort() }
  const command = await run(serverAs(server.user, serverCommand(server, { ...durableSettings, ...settings }), "SIGINT"))
  const start = () =>
    startServer({
      name: "Postgres",
      command: [command[0], command[1]],
      stopSignal: "SIGINT",
      ready: () =>
        run(awaitAccepting(server.port, 1)).then(
          () => true,
          () => false
        )
    })
  let child = await start()
  return {
    pid: child.pid,
    url: Redacted.value(urlOf(server, password)),
    end: (signal) => child.end(signal),
    again: async () => {
      // Its own processes need a moment to notice a kill -9; meanwhile a start is refused.
      for (let attempt = 0; ; attempt++) {
        try {
          child = await start()
          return
        } catch (error) {
          if (attempt === 40) throw error
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      }
    },
    stop: async () => {
      await child.stop()
      rmSync(dataFolder, { recursive: true, force: true })
    }
  }
}

/** What the settings mean for durability, in words. */
export const postgresFsync = "on (Postgres 18, fsync=on, synchronous_commit=on)"
