/**
 * The folder of one attempt: where its inputs, what its query spills and the file it saves lie.
 *
 * It is gone with the attempt. Those of a node that was killed stay behind: a live attempt touches its folder, so that
 * any node may remove the ones that nobody touches any more.
 */
import { tmpdir } from "node:os"
import { Clock, Duration, Effect, FileSystem, Option } from "effect"
import { BehaviourFailure } from "../../Behaviour.ts"

const prefix = "datamcp-sql-"
const measureEvery = Duration.millis(500)
/** Measurements between two touches. */
const touchEvery = 20
/** A folder that was not touched for so long has no attempt, in milliseconds: far longer than between two touches. */
const abandonedAfterMillis = 600_000

/** An empty folder with room to spill; gone with the scope. */
export const taskFolder = Effect.gen(function* () {
  const files = yield* FileSystem.FileSystem
  const folder = yield* files.makeTempDirectoryScoped({ directory: tmpdir(), prefix })
  yield* files.makeDirectory(`${folder}/spill`)
  return folder
}).pipe(Effect.mapError(({ message }) => diskFailure(message)))

/**
 * Keeps the folder alive while `use` runs, and ends it with `sql_disk_limit` when the folder grows above `bytesMax`:
 * DuckDB alone does not bound everything that a query can write.
 */
export const withinFolder = <A, E, R>(folder: string, bytesMax: number, use: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(use, guard(folder, bytesMax))

const guard = Effect.fnUntraced(function* (folder: string, bytesMax: number) {
  for (let round = 0; (yield* sizeOf(folder)) <= bytesMax; round++) {
    if (round % touchEvery === 0) yield* touch(folder)
    yield* Effect.sleep(measureEvery)
  }
  return yield* new BehaviourFailure({
    code: "sql_disk_limit",
    message: `the query wrote more than ${bytesMax} bytes to disk (settings.spill_mib)`,
    retryable: false
  })
})

const sizeOf = Effect.fnUntraced(function* (folder: string) {
  const files = yield* FileSystem.FileSystem
  const names = yield* Effect.orElseSucceed(files.readDirectory(folder, { recursive: true }), () => [])
  const sizes = yield* Effect.forEach(names, (name) =>
    // A file may be gone since the folder was read.
    Effect.match(files.stat(`${folder}/${name}`), {
      onFailure: () => 0,
      onSuccess: ({ size, type }) => (type === "File" ? Number(size) : 0)
    })
  )
  return sizes.reduce((sum, size) => sum + size, 0)
})

const touch = Effect.fnUntraced(function* (folder: string) {
  const files = yield* FileSystem.FileSystem
  const nowSeconds = (yield* Clock.currentTimeMillis) / 1_000
  yield* Effect.ignore(files.utimes(folder, nowSeconds, nowSeconds))
})

/** Removes what killed nodes left behind. */
export const sweepFolders = Effect.gen(function* () {
  const files = yield* FileSystem.FileSystem
  const now = yield* Clock.currentTimeMillis
  const names = (yield* files.readDirectory(tmpdir())).filter((name) => name.startsWith(prefix))
  yield* Effect.forEach(names, (name) =>
    Effect.gen(function* () {
      const { mtime } = yield* files.stat(`${tmpdir()}/${name}`)
      const touched = Option.isSome(mtime) ? mtime.value.getTime() : now
      if (now - touched > abandonedAfterMillis) yield* files.remove(`${tmpdir()}/${name}`, { recursive: true })
    }).pipe(Effect.ignore)
  )
}).pipe(Effect.ignore)

/** The disk of this node is full, or away. */
export const diskFailure = (message: string) =>
  new BehaviourFailure({ code: "disk_unavailable", message: `the task's folder: ${message}`, retryable: true })
