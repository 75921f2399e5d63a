/** The folder of an attempt is bounded, ends with it, and is not left behind for ever by a node that was killed. */
import { existsSync, mkdirSync, mkdtempSync, statSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { expect, layer } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { sweepFolders, taskFolder, withinFolder } from "../../../../actors/behaviours/sql/TaskFolder.ts"

layer(NodeFileSystem.layer, { excludeTestServices: true })("a task's folder", (it) => {
  it.effect("is empty at first, and gone at last with all that lies in it", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.scoped(
        Effect.gen(function* () {
          const own = yield* taskFolder
          expect(statSync(own).mode & 0o077).toBe(0)
          writeFileSync(join(own, "spill", "x"), "x")
          return own
        })
      )
      expect(existsSync(folder)).toBe(false)
    })
  )

  it.effect("ends what fills it above its limit", () =>
    Effect.gen(function* () {
      const folder = yield* taskFolder
      const filling = Effect.andThen(
        Effect.sync(() => writeFileSync(join(folder, "spill", "x"), Buffer.alloc(2_000))),
        Effect.never
      )
      expect(yield* Effect.flip(withinFolder(folder, 1_000, filling))).toMatchObject({
        code: "sql_disk_limit",
        retryable: false
      })
      expect(yield* withinFolder(folder, 3_000, Effect.succeed("done"))).toBe("done")
    })
  )

  it.effect("is kept while its attempt lives, and swept when nobody has touched it for long", () =>
    Effect.gen(function* () {
      const old = (yield* Clock.currentTimeMillis) / 1_000 - 3_600
      const abandoned = mkdtempSync(join(tmpdir(), "datamcp-sql-"))
      mkdirSync(join(abandoned, "spill"))
      utimesSync(abandoned, old, old)
      const folder = yield* taskFolder
      utimesSync(folder, old, old)
      yield* withinFolder(folder, 1_000, Effect.sleep("100 millis"))
      yield* sweepFolders
      expect(existsSync(abandoned)).toBe(false)
      expect(existsSync(folder)).toBe(true)
    })
  )
})
