/**
 * Once per test run: one Postgres and one nats-server that all test files may share, on free ports, with their data in
 * a temporary folder that is removed at the end.
 *
 * Files get what they need from `Servers.ts`, never from here. Durability is off: what a power cut would lose is
 * thrown away anyway.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Exit, Option, Scope } from "effect"
import type { TestProject } from "vitest/node"
import { natsProgram } from "../../src/embedded/NatsProgram.ts"
import { userFor } from "../../src/embedded/OsUser.ts"
import { postgresPrograms } from "../../src/embedded/PostgresPrograms.ts"
import { makeNats, makePostgres } from "./ServerMakers.ts"
import type { TestMachine } from "./TestMachine.ts"

declare module "vitest" {
  interface ProvidedContext {
    machine: TestMachine
    postgresPort: number
    natsUrl: string
  }
}

const tools = fileURLToPath(new URL("../../.datamcp/tools", import.meta.url))

const folderPrefix = "datamcp-test-"

/** Folders of runs that were killed: their names say which process made them. */
const removeLeftovers = () => {
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${folderPrefix}(\\d+)-`).exec(name)?.[1]
    if (pid === undefined || existsSync(`/proc/${pid}`) || process.platform !== "linux") continue
    try {
      rmSync(join(tmpdir(), name), { recursive: true, force: true })
    } catch {
      // Another user's: theirs to remove.
    }
  }
}

export default async function setup(project: TestProject) {
  removeLeftovers()
  // Postgres's own user, when root runs the tests, must be able to enter.
  const folder = mkdtempSync(join(tmpdir(), `${folderPrefix}${process.pid}-`))
  chmodSync(folder, 0o755)
  const scope = Scope.makeUnsafe()
  const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope | NodeServices.NodeServices>) =>
    Effect.runPromise(effect.pipe(Scope.provide(scope), Effect.provide(NodeServices.layer)))
  const close = async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    const machine = await run(
      Effect.gen(function* () {
        const user = yield* userFor(folder)
        const nats = yield* natsProgram(tools)
        const postgres = yield* postgresPrograms(user, "/var/lib/datamcp")
        return { folder, nats, postgres, user: Option.getOrNull(user) } satisfies TestMachine
      })
    )
    mkdirSync(join(folder, "shared"), { mode: 0o755 })
    const [postgres, nats] = await Promise.all([
      run(makePostgres(machine, join(folder, "shared"))),
      run(makeNats(machine, join(folder, "shared")))
    ])
    project.provide("machine", machine)
    project.provide("postgresPort", postgres.port)
    project.provide("natsUrl", nats.natsUrl)
  } catch (error) {
    await close()
    throw error
  }
  return close
}
