/** Artifacts in a folder: whole or not at all, no link followed, nothing of another platform touched, strays removed. */
import { createHash } from "node:crypto"
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { UuidV7 } from "../../actors/UuidV7.ts"
import { ArtifactId } from "../../protocol/Ids.ts"
import * as ArtifactFolder from "../../src/ledger/ArtifactFolder.ts"
import type { ArtifactPlace } from "../../src/ledger/ArtifactPlaces.ts"
import { ownFolder } from "../support/Servers.ts"

const hour = 3_600_000
const bytes = Buffer.from("what was stored")
const gathered = { sha256: createHash("sha256").update(bytes).digest(), sizeBytes: bytes.length }

const newId = Effect.map(UuidV7, (ids) => ArtifactId.make(ids.next())).pipe(Effect.provide(UuidV7.layer))

const stored = Effect.fnUntraced(function* (folder: ArtifactPlace) {
  const id = yield* newId
  const file = yield* folder.receive(id)
  yield* file.write(bytes)
  yield* file.place(gathered)
  return id
}, Effect.scoped)

const contentOf = (folder: ArtifactPlace, id: ArtifactId, size = bytes.length) =>
  Effect.map(Stream.runCollect(folder.read(id, size)), (pieces) => Buffer.concat(pieces).toString())

const placeIn = (root: string, id: ArtifactId) => join(root, id.slice(-2), id)
const none = () => Effect.succeed(new Set<string>())

describe("a folder of artifacts", () => {
  it.effect("gives back what it took, and lets nobody else read it", () =>
    Effect.gen(function* () {
      const root = join(ownFolder("folder-"), "a", "b")
      const folder = yield* ArtifactFolder.use(root)("one")
      const id = yield* stored(folder)
      expect(yield* contentOf(folder, id)).toBe(bytes.toString())
      expect(statSync(placeIn(root, id)).mode & 0o077).toBe(0)
      expect(readdirSync(join(root, "incoming"))).toEqual([])
      yield* folder.remove(id)
      yield* folder.remove(id)
      expect(yield* Effect.flip(contentOf(folder, id))).toMatchObject({ reason: "unavailable" })
      // Used again by the same platform, as after a restart.
      yield* ArtifactFolder.use(root)("one")
    })
  )

  it.effect("of another platform is refused, and left as it is", () =>
    Effect.gen(function* () {
      const root = ownFolder("folder-")
      yield* ArtifactFolder.use(root)("one")
      const refused = yield* Effect.flip(ArtifactFolder.use(root)("two"))
      expect(refused.message).toMatch(/^ARTIFACTS_DIR: .* another platform/u)
      expect(readFileSync(join(root, "platform"), "utf8")).toBe("one")
    })
  )

  it.effect("that is a link, a file, or cannot be made, is refused by the name of the variable", () =>
    Effect.gen(function* () {
      const outside = ownFolder("folder-")
      const beside = ownFolder("folder-")
      symlinkSync(outside, join(beside, "link"))
      writeFileSync(join(beside, "file"), "")
      for (const name of ["link", "file", "file/below"]) {
        const refused = yield* Effect.flip(ArtifactFolder.use(join(beside, name))("one"))
        expect(refused.message).toMatch(/^ARTIFACTS_DIR: /u)
      }
      expect(readdirSync(outside)).toEqual([])
    })
  )

  it.effect("follows no link: neither of a file, nor of the folder it should be in", () =>
    Effect.gen(function* () {
      const outside = ownFolder("folder-")
      const root = ownFolder("folder-")
      writeFileSync(join(outside, "secret"), "a secret")
      const folder = yield* ArtifactFolder.use(root)("one")
      const id = yield* stored(folder)
      rmSync(placeIn(root, id))
      symlinkSync(join(outside, "secret"), placeIn(root, id))
      expect(yield* Effect.flip(contentOf(folder, id, 8))).toMatchObject({ reason: "unavailable" })
      const other = yield* stored(folder)
      renameSync(join(root, other.slice(-2)), join(outside, "moved"))
      symlinkSync(join(outside, "moved"), join(root, other.slice(-2)))
      expect(yield* Effect.flip(contentOf(folder, other))).toMatchObject({ reason: "unavailable" })
      const third = yield* newId
      mkdirSync(join(outside, "target"))
      if (third.slice(-2) !== other.slice(-2)) symlinkSync(join(outside, "target"), join(root, third.slice(-2)))
      const write = Effect.scoped(Effect.flatMap(folder.receive(third), ({ place }) => place(gathered)))
      expect(yield* Effect.flip(write)).toMatchObject({ reason: "unavailable" })
      expect(readdirSync(join(outside, "target"))).toEqual([])
    })
  )

  it.effect("takes no name but an id, and no file twice", () =>
    Effect.gen(function* () {
      const root = ownFolder("folder-")
      const folder = yield* ArtifactFolder.use(root)("one")
      for (const name of ["../escape", "platform", "", "a/b"]) {
        expect(yield* Effect.exit(Effect.scoped(folder.receive(name as ArtifactId)))).toMatchObject({ _tag: "Failure" })
      }
      const id = yield* newId
      const twice = Effect.scoped(Effect.andThen(folder.receive(id), Effect.flip(folder.receive(id))))
      expect(yield* twice).toMatchObject({ reason: "unavailable" })
      expect(readdirSync(root).sort()).toEqual(["incoming", "platform"])
    })
  )

  it.effect("tells a file that was cut from a whole one", () =>
    Effect.gen(function* () {
      const root = ownFolder("folder-")
      const folder = yield* ArtifactFolder.use(root)("one")
      const id = yield* stored(folder)
      writeFileSync(placeIn(root, id), "what")
      expect((yield* Effect.flip(contentOf(folder, id))).message).toContain("shorter")
    })
  )

  it.effect("loses what nobody knows once it is old, and nothing else", () =>
    Effect.gen(function* () {
      const root = ownFolder("folder-")
      const folder = yield* ArtifactFolder.use(root)("one")
      const [stray, known, young] = [yield* stored(folder), yield* stored(folder), yield* stored(folder)]
      const cut = join(root, "incoming", yield* newId)
      writeFileSync(cut, "half")
      writeFileSync(join(root, stray.slice(-2), "somebody's own"), "kept")
      const now = statSync(placeIn(root, young)).mtimeMs
      for (const file of [placeIn(root, stray), placeIn(root, known), cut]) {
        utimesSync(file, (now - 2 * hour) / 1_000, (now - 2 * hour) / 1_000)
      }
      let gone = 0
      for (let shard = 0; shard < 256; shard++) {
        gone += yield* folder.sweep(hour, now, () => Effect.succeed(new Set([known])))
      }
      expect(gone).toBe(2)
      expect(yield* Effect.flip(contentOf(folder, stray))).toMatchObject({ reason: "unavailable" })
      for (const id of [known, young]) expect(yield* contentOf(folder, id)).toBe(bytes.toString())
      expect(readdirSync(join(root, "incoming"))).toEqual([])
      expect(readdirSync(join(root, stray.slice(-2)))).toContain("somebody's own")
      expect(yield* folder.sweep(hour, now, none)).toBe(0)
    })
  )
})
