/**
 * Ends what a killed run left behind, so that the next start finds its data and ports free.
 *
 * A survivor is recognised by its own command line, which names a path inside our data folder: a process id alone may
 * meanwhile belong to somebody else. Only the holder of the folder's lock may call this.
 */
import { Effect, FileSystem, Option, Schedule, Schema } from "effect"
import { runProgram } from "./Program.ts"

/** How long a survivor may take to end by itself before it is killed. Postgres writes a checkpoint in this time. */
const patience = "10 seconds"

/**
 * Ends the process that `pidFile` names if its command line contains `path`, first by `signal`, then by SIGKILL. Then, or when the
 * process was none of ours, removes the file: it names nobody.
 */
export const endSurvivor = Effect.fn("endSurvivor")(function* (
  pidFile: string,
  path: string,
  signal: "SIGINT" | "SIGTERM"
) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(pidFile).pipe(Effect.orElseSucceed(() => ""))
  const pid = Number(text.split("\n")[0])
  if (!Number.isSafeInteger(pid) || pid <= 1) return
  if (yield* isOurs(pid, path)) {
    yield* Effect.logInfo(`Ending process ${pid}, left by a run that was killed`)
    yield* send(pid, signal)
    yield* untilGone(pid, path).pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.andThen(send(pid, "SIGKILL"), untilGone(pid, path))
      })
    )
  }
  yield* Effect.ignore(fs.remove(pidFile, { force: true }))
})

const untilGone = (pid: number, path: string) =>
  Effect.repeat(isOurs(pid, path), { while: (alive) => alive, schedule: Schedule.spaced("25 millis") })

const send = (pid: number, signal: NodeJS.Signals) =>
  Effect.ignore(
    Effect.try({ try: () => process.kill(pid, signal), catch: (cause) => new NotSignalled({ pid, cause }) })
  )

/** The process has just gone, or is not ours to signal: either way the wait that follows tells. */
class NotSignalled extends Schema.TaggedError<NotSignalled>()("NotSignalled", {
  pid: Schema.Int,
  cause: Schema.Defect()
}) {}

/** A process that has ended but was not yet collected by its parent has no command line: it counts as gone. */
const isOurs = (pid: number, path: string) => Effect.map(commandLine(pid), (line) => line.includes(path))

const commandLine = Effect.fnUntraced(function* (pid: number) {
  const fs = yield* FileSystem.FileSystem
  if (process.platform === "linux") {
    return yield* fs.readFileString(`/proc/${pid}/cmdline`).pipe(Effect.orElseSucceed(() => ""))
  }
  const listed = yield* Effect.option(runProgram("ps", ["-o", "command=", "-p", String(pid)]))
  return Option.match(listed, { onNone: () => "", onSome: ({ output }) => output })
})
