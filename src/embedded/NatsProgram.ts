/**
 * Finds a nats-server that is new enough, or fetches one, without changing anything of the system on Linux.
 *
 * In this order: the PATH, our tools folders, a newer Debian release through the machine's own apt, Homebrew. What
 * was fetched stays in the tools folder and is found there next time.
 */
import { fileURLToPath } from "node:url"
import { Effect, FileSystem, Option, Path } from "effect"
import * as DebianPackage from "./DebianPackage.ts"
import { EmbeddedProblem, unwritable } from "./EmbeddedProblem.ts"
import { runProgram, succeeds } from "./Program.ts"

/** The oldest release with the batch publishing and consumer features that the bus uses. */
const oldest = { major: 2, minor: 12 }

/** A data folder elsewhere (a benchmark's, a second platform's) need not fetch what this clone has. */
const ofThisClone = fileURLToPath(new URL("../../.datamcp/tools/nats-server", import.meta.url))

/** Absolute path, or a bare name found on the PATH, of a nats-server that runs on this machine. Fails with `EmbeddedProblem`. */
export const natsProgram = Effect.fn("natsProgram")(function* (toolsFolder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const own = path.join(toolsFolder, "nats-server")
  const found = yield* Effect.findFirst(["nats-server", own, ofThisClone, "/usr/sbin/nats-server"], isNewEnough)
  if (Option.isSome(found)) return found.value
  yield* fs.makeDirectory(toolsFolder, { recursive: true }).pipe(Effect.mapError(unwritable(toolsFolder)))
  if (process.platform === "darwin") return yield* fromHomebrew
  if (!(yield* DebianPackage.isAvailable)) return yield* threeWays("apt-get and dpkg-deb are not on this machine")
  yield* Effect.logInfo("Fetching nats-server through this machine's apt (about 16 MB, once) ...")
  yield* DebianPackage.fetchProgram({ packageName: "nats-server", program: "usr/sbin/nats-server" }, own).pipe(
    Effect.timeoutOrElse({
      duration: "5 minutes",
      orElse: () => Effect.fail(threeWays("apt did not finish within 5 minutes"))
    }),
    Effect.catchTag("PlatformError", (cause) => Effect.fail(unwritable(toolsFolder)(cause))),
    Effect.catchIf(
      (problem) => problem.reason === "DownloadFailed",
      (problem) => Effect.fail(threeWays(problem.what))
    )
  )
  if (yield* isNewEnough(own)) return own
  return yield* threeWays("the one that apt offers is too old or does not run here")
})

const isNewEnough = (program: string) =>
  runProgram(program, ["--version"]).pipe(
    Effect.map(({ output }) => {
      const [, major, minor] = /v(\d+)\.(\d+)\./.exec(output) ?? []
      return Number(major) > oldest.major || (Number(major) === oldest.major && Number(minor) >= oldest.minor)
    }),
    Effect.catchTag("EmbeddedProblem", () => Effect.succeed(false))
  )

const fromHomebrew = Effect.gen(function* () {
  if (!(yield* succeeds("brew", ["--version"]))) return yield* threeWays("Homebrew is not on this machine")
  const prefix = Effect.map(runProgram("brew", ["--prefix"]), ({ output }) => `${output.trim()}/bin/nats-server`)
  const program = yield* prefix
  if (yield* isNewEnough(program)) return program
  yield* Effect.logInfo("Installing nats-server with Homebrew (once) ...")
  const installed = yield* runProgram("brew", ["install", "nats-server"])
  if (yield* isNewEnough(program)) return program
  return yield* threeWays(`brew install nats-server said:\n${installed.output.trim().slice(-500)}`)
})

const threeWays = (why: string) =>
  new EmbeddedProblem({
    reason: "MissingProgram",
    what: `There is no nats-server >= ${oldest.major}.${oldest.minor} on this machine, and it could not be fetched: ${why}.`,
    remedy: [
      "Do one of these and start again:",
      "  1. install it with your package manager (Debian 14 or newer: apt install nats-server; macOS: brew install nats-server);",
      "  2. take the release of nats-io/nats-server for this machine and put nats-server on the PATH, or at .datamcp/tools/nats-server;",
      "  3. set NATS_URL to a nats-server >= 2.12 with JetStream that runs elsewhere."
    ].join("\n")
  })
