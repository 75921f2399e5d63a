/**
 * The folder of one attempt: where its inputs, what its query spills and the file it saves lie, and what bounds it.
 */
import { tmpdir } from "node:os"
import { Clock, Effect, FileSystem, Option } from "effect"
import * as Limits from "../../../protocol/Limits.ts"
import { BehaviourFailure } from "../../Behaviour.ts"

const folderPrefix = "datamcp-sql-"

/** An empty folder with room to spill; gone with the scope. */
export const taskFolder = Effect.gen(function* () {
  const files = yield* FileSystem.FileSystem
  const folder = yield* files.makeTempDirectoryScoped({ directory: tmpdir(), prefix: folderPrefix })
  yield* files.makeDirectory(`${folder}/spill`)
  return folder
}).pipe(Effect.mapError(({ message }) => diskFailure(message)))

/** Removes folders that killed nodes left: those that nobody has touched for longer than an attempt can run. */
export const sweepFolders = Effect.gen(function* () {
  const files = yield* FileSystem.FileSystem
  const now = yield* Clock.currentTimeMillis
  const found = yield* files.readDirectory(tmpdir())
  for (const name of found.filter((entry) => entry.startsWith(folderPrefix))) {
    const { mtime } = yield* files.stat(`${tmpdir()}/${name}`)
    const untouchedMillis = now - Option.getOrElse(mtime, () => new Date(now)).getTime()
    if (untouchedMillis > 2 * Limits.timeoutMillisMax) yield* files.remove(`${tmpdir()}/${name}`, { recursive: true })
  }
}).pipe(Effect.ignore)

/** Never succeeds: fails when the folder grows above its limit, which DuckDB alone does not keep. */
export const diskGuard = Effect.fnUntraced(function* (folder: string, bytesMax: number) {
  const files = yield* FileSystem.FileSystem
  const sizeOf = (name: string) =>
    Effect.match(files.stat(`${folder}/${name}`), { onFailure: () => 0, onSuccess: ({ size }) => Number(size) })
  const measured = Effect.gen(function* () {
    const names = yield* files.readDirectory(folder, { recursive: true })
    const sizes = yield* Effect.forEach(names, sizeOf)
    return sizes.reduce((sum, size) => sum + size, 0)
  }).pipe(Effect.orElseSucceed(() => 0))
  while ((yield* measured) <= bytesMax) yield* Effect.sleep("500 millis")
  return yield* new BehaviourFailure({
    code: "sql_disk_limit",
    message: `the query wrote more than ${bytesMax} bytes to disk (settings.spill_mib)`,
    retryable: false
  })
})

/** The disk of this node is full, or away. */
export const diskFailure = (message: string) =>
  new BehaviourFailure({ code: "disk_unavailable", message: `the task's folder: ${message}`, retryable: true })
