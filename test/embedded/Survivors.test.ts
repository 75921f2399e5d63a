/** What a killed run left behind is ended; what merely has its old process id is not. */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { endSurvivor } from "../../src/embedded/Survivors.ts"
import { ownFolder } from "../support/Servers.ts"

/** A process whose command line mentions `path`, as a server's mentions its data folder. */
const bystander = (path: string) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, ["-e", "setTimeout(() => {}, 60_000)", path], { stdio: "ignore" })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const isUp = (child: ChildProcess) => child.exitCode === null && child.signalCode === null

const ended = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (!isUp(child)) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
  })

describe("a process named by a pid file", () => {
  it.live("is ended when its command line names our data, and the file is removed", () =>
    Effect.gen(function* () {
      const folder = ownFolder("survivor-")
      const survivor = yield* bystander(folder)
      const pidFile = join(folder, "server.pid")
      writeFileSync(pidFile, `${survivor.pid}\n`)
      yield* endSurvivor(pidFile, folder, "SIGTERM")
      yield* ended(survivor)
      expect(survivor.signalCode).toBe("SIGTERM")
      expect(existsSync(pidFile)).toBe(false)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is left alone when it is somebody else's, and the stale file is removed", () =>
    Effect.gen(function* () {
      const folder = ownFolder("survivor-")
      const stranger = yield* bystander("/somewhere/else")
      const pidFile = join(folder, "server.pid")
      writeFileSync(pidFile, `${stranger.pid}\nmore lines\n`)
      yield* endSurvivor(pidFile, folder, "SIGTERM")
      expect(isUp(stranger)).toBe(true)
      expect(existsSync(pidFile)).toBe(false)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live.each(["", "not a number", "0", "1", "-1"])("is nobody when the file says %j", (text) =>
    Effect.gen(function* () {
      const folder = ownFolder("survivor-")
      const pidFile = join(folder, "server.pid")
      writeFileSync(pidFile, text)
      yield* endSurvivor(pidFile, "/", "SIGTERM")
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
