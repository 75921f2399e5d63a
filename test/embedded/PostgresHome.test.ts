/**
 * Where the data go when root starts a platform below a folder that Postgres's user may not enter.
 *
 * Only root meets this, so only root can test it; anybody else's runs count these as skipped.
 */
import { chmodSync, cpSync, existsSync, mkdirSync, readlinkSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { inject } from "vitest"
import { postgresHome, SharedFolder } from "../../src/embedded/PostgresHome.ts"
import { ownFolder } from "../support/Servers.ts"

const isRoot = process.getuid?.() === 0
const user = () => Option.fromNullOr(inject("machine").user)

/** A private home with a data folder in it, and a place that everybody may enter. */
const machine = () => {
  const home = realpathSync(ownFolder("home-"))
  const dataFolder = join(home, "clone/.datamcp")
  mkdirSync(dataFolder, { recursive: true })
  chmodSync(home, 0o700)
  const shared = ownFolder("shared-")
  const find = (folder = dataFolder, as = user()) =>
    postgresHome(folder, as).pipe(Effect.provideService(SharedFolder, shared), Effect.provide(NodeServices.layer))
  return { home, dataFolder, shared, find }
}

describe("the home of Postgres's data", () => {
  it.live("is in the data folder when we run Postgres as ourselves", () =>
    Effect.gen(function* () {
      const { dataFolder, find } = machine()
      expect(yield* find(dataFolder, Option.none())).toBe(join(dataFolder, "postgres"))
    })
  )

  it.live.runIf(isRoot)("is in the data folder when Postgres's user may pass through it", () =>
    Effect.gen(function* () {
      const { dataFolder, find, home } = machine()
      chmodSync(home, 0o711)
      expect(yield* find()).toBe(join(dataFolder, "postgres"))
    })
  )

  it.live.runIf(isRoot)("is elsewhere, linked and found again, when that user may not enter", () =>
    Effect.gen(function* () {
      const { dataFolder, find, shared } = machine()
      const data = yield* find()
      expect(data.startsWith(shared)).toBe(true)
      expect(readlinkSync(join(dataFolder, "postgres"))).toBe(data)
      expect(yield* find()).toBe(data)
    })
  )

  it.live.runIf(isRoot)("follows a data folder that was moved, and is not taken by a new one in its old place", () =>
    Effect.gen(function* () {
      const { dataFolder, find, home } = machine()
      const data = yield* find()
      cpSync(dataFolder, join(home, "moved/.datamcp"), { recursive: true, verbatimSymlinks: true })
      rmSync(dataFolder, { recursive: true })
      expect(yield* find(join(home, "moved/.datamcp"))).toBe(data)
      mkdirSync(dataFolder)
      expect(yield* find()).not.toBe(data)
    })
  )

  it.live.runIf(isRoot)("is refused to a copy, while the original still has it", () =>
    Effect.gen(function* () {
      const { dataFolder, find, home } = machine()
      yield* find()
      cpSync(dataFolder, join(home, "copy/.datamcp"), { recursive: true, verbatimSymlinks: true })
      const problem = yield* Effect.flip(find(join(home, "copy/.datamcp")))
      expect(problem.message).toContain("is a copy of")
    })
  )

  it.live.runIf(isRoot)("starts anew when the data folder was removed, and keeps the former data once", () =>
    Effect.gen(function* () {
      const { dataFolder, find } = machine()
      const data = yield* find()
      mkdirSync(data)
      writeFileSync(join(data, "PG_VERSION"), "18")
      rmSync(dataFolder, { recursive: true })
      mkdirSync(dataFolder)
      expect(yield* find()).toBe(data)
      expect(existsSync(data)).toBe(false)
      expect(existsSync(join(`${data}.former`, "PG_VERSION"))).toBe(true)
    })
  )
})
