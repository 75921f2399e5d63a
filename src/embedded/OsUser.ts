/**
 * Which user of the operating system runs Postgres, and how a program is started as that user.
 *
 * Postgres refuses to run as root. Started by root, we run it as another user that exists already: the owner of the
 * data if there is data, else `datamcp`, else `postgres`, else `nobody`. No user is created. Started by anybody
 * else, Postgres runs as that same user and none of this applies.
 */
import { Effect, FileSystem, Option } from "effect"
import { EmbeddedProblem } from "./EmbeddedProblem.ts"
import { runProgram, succeeds } from "./Program.ts"

export interface OsUser {
  readonly uid: number
  readonly gid: number
}

/** Users to look for, the best first. A machine that wants one of its own adds a system user `datamcp`. */
const candidates = ["datamcp", "postgres", "nobody"]

/**
 * The user for a Postgres whose data live, or will live, in `dataFolder`; `none` when we are not root and Postgres can
 * run as we do. Fails with `EmbeddedProblem` when root has no way to run a program as somebody else.
 */
export const userFor = Effect.fn("OsUser.userFor")(function* (dataFolder: string) {
  if (process.getuid?.() !== 0) return Option.none<OsUser>()
  if (!(yield* succeeds("setpriv", ["--version"]))) {
    return yield* new EmbeddedProblem({
      reason: "MissingProgram",
      what: "Postgres does not run as root, and the program setpriv, which would run it as another user, is missing.",
      remedy: "Start datamcp as an ordinary user, or install util-linux, or set DATABASE_URL to a Postgres of yours."
    })
  }
  const owner = yield* ownerOf(dataFolder)
  if (Option.isSome(owner) && owner.value.uid !== 0) return owner
  const found = yield* Effect.findFirst(candidates, (name) => succeeds("id", ["-u", name]))
  if (Option.isSome(found)) return Option.some(yield* lookup(found.value))
  return yield* new EmbeddedProblem({
    reason: "NotPermitted",
    what: `Postgres does not run as root, and none of the users ${candidates.join(", ")} exists.`,
    remedy: "Start datamcp as an ordinary user, or add one: useradd --system datamcp"
  })
})

/** The command line that runs `command` as `user`; unchanged when there is nobody to become. */
export const commandAs = (user: Option.Option<OsUser>, command: string, args: ReadonlyArray<string>): CommandLine =>
  Option.match(user, {
    onNone: () => [command, args],
    onSome: (other) => ["setpriv", [...becoming(other), "--", command, ...args]]
  })

/**
 * The same for a server that must not outlive us: where the system can do so, it sends `signal` to the server when our
 * process dies, however it dies.
 */
export const serverAs = Effect.fn("OsUser.serverAs")(function* (
  user: Option.Option<OsUser>,
  [command, args]: CommandLine,
  signal: "SIGINT" | "SIGTERM"
) {
  const hasSetpriv = process.platform === "linux" && (yield* succeeds("setpriv", ["--pdeathsig=keep", "--", "true"]))
  if (!hasSetpriv) return commandAs(user, command, args)
  const become = Option.match(user, { onNone: () => [], onSome: becoming })
  return ["setpriv", [`--pdeathsig=${signal.slice(3)}`, ...become, "--", command, ...args]] satisfies CommandLine
})

export type CommandLine = readonly [command: string, args: ReadonlyArray<string>]

const becoming = ({ gid, uid }: OsUser) => [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups"]

/** Whether `user` can read and, with `execute`, run the file at `path`: every folder above it counts. */
export const canReach = (user: Option.Option<OsUser>, path: string, mode: "read" | "execute") =>
  succeeds(...commandAs(user, "test", [mode === "read" ? "-r" : "-x", path]))

const ownerOf = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const found = yield* Effect.option(fs.stat(path))
  return Option.flatMap(found, (stat) => Option.all({ uid: stat.uid, gid: stat.gid }))
})

const lookup = Effect.fnUntraced(function* (name: string) {
  const number = (flag: string) => Effect.map(runProgram("id", [flag, name]), ({ output }) => Number(output.trim()))
  return { uid: yield* number("-u"), gid: yield* number("-g") } satisfies OsUser
})
