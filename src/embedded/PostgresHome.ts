/**
 * Where an embedded Postgres keeps its data, given that the user who runs it can get there.
 *
 * Nearly always `.datamcp/postgres`. Only when root starts us below a folder that Postgres's user may not enter (a home
 * of mode 0700), the data live in a folder of their own below /var/lib/datamcp, and `.datamcp/postgres` is a link to it. The link is
 * what counts: a `.datamcp` that was moved keeps its data, one that was removed starts anew.
 */
import { createHash, randomUUID } from "node:crypto"
import { Context, Effect, FileSystem, Option, Path } from "effect"
import { EmbeddedProblem, unwritable } from "./EmbeddedProblem.ts"
import { canReach, type OsUser } from "./OsUser.ts"

/** A folder that everybody may enter; what lies in it is each owner's. Used only by root. */
export const SharedFolder = Context.Reference<string>("datamcp/embedded/SharedFolder", {
  defaultValue: () => "/var/lib/datamcp"
})

/** The folder for the data, whose parent exists and can be entered by `user`. Fails with `EmbeddedProblem`. */
export const postgresHome = Effect.fn("postgresHome")(function* (dataFolder: string, user: Option.Option<OsUser>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const home = path.join(dataFolder, "postgres")
  const linked = yield* Effect.option(fs.readLink(home))
  if (Option.isSome(linked)) return yield* ownLink(dataFolder, linked.value)
  const mayStay = Option.isNone(user) || (yield* canReach(user, dataFolder, "execute"))
  if (mayStay) return home
  if (yield* fs.exists(home).pipe(Effect.orElseSucceed(() => false))) {
    return yield* new EmbeddedProblem({
      reason: "NotPermitted",
      what: `Postgres's data in ${home} can no longer be entered by the user that runs Postgres.`,
      remedy: `Let other users pass the folders above it (chmod o+x), as when the data were made.`
    })
  }
  const shared = yield* SharedFolder
  return yield* Effect.catchTag(elsewhere(shared, dataFolder, home), "PlatformError", (cause) =>
    Effect.fail(unwritable(shared)(cause))
  )
})

const elsewhere = Effect.fnUntraced(function* (shared: string, dataFolder: string, home: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const name = createHash("sha256").update(dataFolder).digest("hex").slice(0, 16)
  const usual = path.join(shared, name)
  const owner = yield* ownerOf(usual)
  // Made for a data folder that was here and has moved away with its link: it is still in use.
  const isTaken = owner !== "" && owner !== dataFolder
  const folder = isTaken ? `${usual}-${randomUUID()}` : usual
  const data = path.join(folder, "postgres")
  yield* fs.makeDirectory(folder, { recursive: true, mode: 0o755 })
  if (yield* fs.exists(data)) {
    // Its .datamcp was removed, password and all. The data are kept once, in case that was a mistake.
    const former = `${data}.former`
    yield* fs.remove(former, { recursive: true, force: true })
    yield* fs.rename(data, former)
    yield* Effect.logWarning(`Found data of an earlier ${dataFolder}; they are now in ${former}`)
  }
  yield* fs.writeFileString(path.join(folder, "owner"), `${dataFolder}\n`)
  yield* fs.symlink(data, home)
  yield* Effect.logInfo(`Postgres's user cannot enter ${dataFolder}; its data are in ${data}`)
  return data
})

/** A copy of a clone brings the link along: two platforms on one data folder would destroy it. */
const ownLink = Effect.fnUntraced(function* (dataFolder: string, target: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const owner = yield* ownerOf(path.dirname(target))
  if (owner === dataFolder || owner === "") return target
  const others = yield* Effect.option(fs.readLink(path.join(owner, "postgres")))
  if (Option.exists(others, (link) => link === target)) {
    return yield* new EmbeddedProblem({
      reason: "AlreadyRunning",
      what: `${dataFolder} is a copy of ${owner}, and both point to the data in ${target}.`,
      remedy: `Remove ${dataFolder} to start anew here, or remove the other to carry on with its data.`
    })
  }
  const ownerFile = path.join(path.dirname(target), "owner")
  yield* Effect.mapError(fs.writeFileString(ownerFile, `${dataFolder}\n`), unwritable(ownerFile))
  return target
})

/** The data folder that `folder` serves, "" if none says so. */
const ownerOf = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(`${folder}/owner`).pipe(Effect.orElseSucceed(() => ""))
  return text.trim()
})
