/**
 * The bytes of artifacts as files of a folder: `<folder>/<last two digits of the id>/<id>`, written to `incoming/` first.
 * What is known of them stays in Postgres: a file without a row is nobody's, and goes after a while.
 *
 * Invariants: paths are made of ids of our own and of nothing that a user said; no link is followed, neither to write nor to
 * read; a file that has its place is whole and on the disk. The folder belongs to one platform, and says to which.
 */
import { constants } from "node:fs"
import { type FileHandle, lstat, mkdir, open, opendir, readFile, realpath, rename, rm, unlink } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Option, Stream } from "effect"
import { ArtifactError } from "../../actors/ports/ArtifactStore.ts"
import type { ArtifactId } from "../../protocol/Ids.ts"
import { type ArtifactPlace, ArtifactPlaceProblem } from "./ArtifactPlaces.ts"

/** Size of the pieces in which files are read, in bytes. */
const pieceBytes = 1024 * 1024
/** Most files of one look for those that nobody knows. */
const filesMax = 10_000

/** Makes the folder when it is missing, and claims it for `platform`; refused when it is another one's or lies behind a link. */
export const use = (folder: string) => (platform: string) =>
  Effect.tryPromise({
    try: async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      if ((await lstat(folder)).isSymbolicLink()) throw new Error("it is a symbolic link; name the folder itself")
      const root = await realpath(folder)
      await claim(join(root, "platform"), platform)
      await mkdir(join(root, "incoming"), { recursive: true, mode: 0o700 })
      await realFolder(join(root, "incoming"))
      return folderAt(root)
    },
    catch: (cause) =>
      new ArtifactPlaceProblem({ message: `ARTIFACTS_DIR: ${folder} cannot be used: ${reasonOf(cause)}.` })
  })

/** Says whose the folder is, once. */
const claim = async (file: string, platform: string) => {
  try {
    const handle = await open(file, "wx", 0o600)
    await handle.writeFile(platform)
    await handle.sync()
    await handle.close()
  } catch (cause) {
    if (codeOf(cause) !== "EEXIST") throw cause
    if ((await readFile(file, "utf8")).trim() !== platform) {
      throw new Error("it holds the artifacts of another platform, whose database is not this one")
    }
  }
}

const folderAt = (root: string): ArtifactPlace => {
  const incoming = (id: ArtifactId) => join(root, "incoming", checked(id))
  const shardOf = (id: ArtifactId) => join(root, checked(id).slice(-2))
  const placeOf = (id: ArtifactId) => join(shardOf(id), id)
  let shard = 0

  /** A new file for the bytes of an artifact; it goes with the scope unless it was placed. */
  const receive = (id: ArtifactId) =>
    Effect.map(
      Effect.acquireRelease(
        attempt(() => open(incoming(id), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | noLinks, 0o600)),
        (handle) =>
          Effect.promise(async () => {
            await handle.close().catch(nothingToDo)
            await unlink(incoming(id)).catch(nothingToDo)
          })
      ),
      (handle) => ({
        write: (bytes: Uint8Array) => attempt(() => handle.writeFile(bytes)),
        /** Puts the file into its place, whole and on the disk. */
        place: () =>
          attempt(async () => {
            await handle.sync()
            await mkdir(shardOf(id), { mode: 0o700 }).catch((cause) => {
              if (codeOf(cause) !== "EEXIST") throw cause
            })
            await realFolder(shardOf(id))
            await rename(incoming(id), placeOf(id))
            await syncFolder(shardOf(id))
          })
      })
    )

  const read = (id: ArtifactId, sizeBytes: number): Stream.Stream<Uint8Array, ArtifactError> =>
    Stream.unwrap(
      Effect.gen(function* () {
        yield* attempt(() => realFolder(shardOf(id)))
        const handle = yield* Effect.acquireRelease(
          attempt(() => open(placeOf(id), constants.O_RDONLY | noLinks)),
          (opened) => Effect.promise(() => opened.close().catch(nothingToDo))
        )
        return Stream.paginate(0, (at: number) =>
          at >= sizeBytes
            ? Effect.succeed([[], Option.none<number>()] as const)
            : Effect.map(
                attempt(() => pieceAt(handle, at, Math.min(pieceBytes, sizeBytes - at))),
                (piece) => [[piece], Option.some(at + piece.length)] as const
              )
        )
      })
    )

  const remove = (id: ArtifactId) => attempt(() => rm(placeOf(id), { force: true }))

  /**
   * Removes what nobody knows: files of the next of the 256 shards, and of `incoming`, that are older than `ageMillis` and
   * that `known` does not name. Returns how many went.
   */
  const sweep: ArtifactPlace["sweep"] = (ageMillis, nowMillis, known) =>
    Effect.gen(function* () {
      const name = (shard++ & 0xff).toString(16).padStart(2, "0")
      const old = yield* attempt(() => filesOlderThan(join(root, name), nowMillis - ageMillis))
      const kept = old.length === 0 ? new Set<string>() : yield* known(old)
      const strays = old.filter((id) => !kept.has(id)).map((id) => join(root, name, id))
      const cut = yield* attempt(() => filesOlderThan(join(root, "incoming"), nowMillis - ageMillis))
      const files = [...strays, ...cut.map((id) => join(root, "incoming", id))]
      yield* attempt(() => Promise.all(files.map((file) => rm(file, { force: true }))))
      return files.length
    })

  return { name: "folder", setting: "ARTIFACTS_DIR", receive, read, remove, sweep }
}

const noLinks = constants.O_NOFOLLOW

/** Ids are our own; what does not look like one never becomes a path. */
const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/u
const checked = (id: string): string => {
  if (!idPattern.test(id)) throw new Error("not the id of an artifact")
  return id
}

const realFolder = async (folder: string) => {
  if (!(await lstat(folder)).isDirectory()) throw new Error(`${folder} is no folder of its own`)
}

/** A rename is on the disk once its folder is. */
const syncFolder = async (folder: string) => {
  const handle = await open(folder, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const pieceAt = async (handle: FileHandle, at: number, length: number) => {
  const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(length), 0, length, at)
  if (bytesRead === 0) throw new Error("the file is shorter than its artifact")
  return buffer.subarray(0, bytesRead)
}

/** Names of files that look like ours and are old; none of a folder that is not there. */
const filesOlderThan = async (folder: string, millis: number): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  try {
    for await (const entry of await opendir(folder)) {
      if (found.length >= filesMax) break
      if (!entry.isFile() || !idPattern.test(entry.name)) continue
      const { mtimeMs } = await lstat(join(folder, entry.name))
      if (mtimeMs < millis) found.push(entry.name)
    }
  } catch (cause) {
    if (codeOf(cause) !== "ENOENT") throw cause
  }
  return found
}

const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, ArtifactError> =>
  Effect.tryPromise({
    try: async () => await run(),
    catch: (cause) => new ArtifactError({ reason: "unavailable", message: `artifact folder: ${reasonOf(cause)}` })
  })

const codeOf = (cause: unknown): unknown =>
  typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined

/** Without paths, which callers need not know. */
const reasonOf = (cause: unknown): string => {
  const code = codeOf(cause)
  return typeof code === "string" ? code : cause instanceof Error ? cause.message : String(cause)
}

const nothingToDo = () => {}
