/**
 * At most one process uses a data folder, and a killed one leaves no lock behind.
 *
 * The lock is the operating system's own lock on a file, held through SQLite: it goes with the process that holds it,
 * whatever ends that process, so there is no stale lock to recognise. What the holder writes beside it only serves to tell
 * who it is.
 */
import { DatabaseSync } from "node:sqlite"
import { DateTime, Effect, FileSystem, Option, Schema, type Scope } from "effect"
import { diskFull, EmbeddedProblem } from "./EmbeddedProblem.ts"

const Holder = Schema.fromJsonString(Schema.Struct({ pid: Schema.Int, since: Schema.DateTimeUtcFromString }))

/** Holds the folder until the scope closes. Fails with `EmbeddedProblem` (`AlreadyRunning`) that names the holder. */
export const holdFolder = Effect.fn("holdFolder")(function* (
  folder: string
): Effect.fn.Return<void, EmbeddedProblem, FileSystem.FileSystem | Scope.Scope> {
  const fs = yield* FileSystem.FileSystem
  const file = `${folder}/lock`
  const holderFile = `${folder}/holder.json`
  yield* Effect.acquireRelease(Effect.catchTag(take(file), "LockRefused", explain(folder)), (lock) =>
    Effect.sync(() => lock.close())
  )
  const since = yield* DateTime.now
  const holder = yield* Effect.orDie(Schema.encodeEffect(Holder)({ pid: process.pid, since }))
  yield* Effect.ignore(fs.writeFileString(holderFile, holder, { mode: 0o644 }))
})

const take = (file: string) =>
  Effect.try({
    try: () => {
      const lock = new DatabaseSync(file, { timeout: 0 })
      try {
        lock.exec("begin exclusive")
        return lock
      } catch (error) {
        lock.close()
        throw error
      }
    },
    catch: (cause) => new LockRefused({ file, code: sqliteCode(cause), cause })
  })

class LockRefused extends Schema.TaggedError<LockRefused>()("LockRefused", {
  file: Schema.String,
  /** SQLite's own result code. */
  code: Schema.Unknown,
  cause: Schema.Defect()
}) {}

/** SQLite's own result codes: somebody else holds the lock; there is no room on the disk. */
const codes = { busy: 5, full: 13 }

const sqliteCode = (cause: unknown) =>
  typeof cause === "object" && cause !== null && "errcode" in cause ? cause.errcode : undefined

const explain = (folder: string) =>
  Effect.fnUntraced(function* ({ cause, code, file }: LockRefused) {
    if (code === codes.busy) return yield* alreadyRunning(folder, yield* readHolder(`${folder}/holder.json`))
    return yield* code === codes.full ? diskFull(file, cause) : cannotLock(file, cause)
  })

const readHolder = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.option(Effect.flatMap(fs.readFileString(file), Schema.decodeEffect(Holder)))
})

const alreadyRunning = (folder: string, holder: Option.Option<typeof Holder.Type>) => {
  const who = Option.match(holder, {
    onNone: () => "Another process",
    onSome: ({ pid, since }) => `Process ${pid} (since ${DateTime.formatIso(since)})`
  })
  const pid = Option.match(holder, { onNone: () => "its process id", onSome: (known) => String(known.pid) })
  return new EmbeddedProblem({
    reason: "AlreadyRunning",
    what: `${who} already runs datamcp on the data in ${folder}.`,
    remedy: `Use that one, or end it first (Ctrl-C where it runs, or: kill ${pid}).`
  })
}

const cannotLock = (file: string, cause: unknown) =>
  new EmbeddedProblem({
    reason: "NotPermitted",
    what: `The file ${file} cannot be locked (${cause instanceof Error ? cause.message : String(cause)}).`,
    remedy:
      "Check that you may write there, that the disk has room and that it is a local one: servers cannot keep data on a network share."
  })
