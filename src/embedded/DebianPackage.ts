/**
 * Programs out of a newer Debian (or Ubuntu) release, or the machine's own, without installing anything.
 *
 * The package comes through the mirror, proxy and keys that this machine's own apt uses; apt verifies the release's
 * signature and the package's hash. It is unpacked in a folder of ours: no system file, list or lock is touched, no maintainer script
 * runs, and an ordinary user can do it.
 */
import { Effect, FileSystem, Option, Path } from "effect"
import type { ChildProcessSpawner } from "effect/process"
import { type AptSource, configFile, ownArchive, parseListFile, parseSourcesFile, sourcesFile } from "./AptSources.ts"
import { EmbeddedProblem } from "./EmbeddedProblem.ts"
import { runProgram, succeeds } from "./Program.ts"

interface Wanted {
  readonly packageName: string
  /** Path inside the package, without the leading slash. */
  readonly program: string
}

interface Release {
  readonly suite: string
  readonly components: ReadonlyArray<string>
}

/** Releases that may carry what the machine's own is too old for. Named in full: `testing` changes its meaning over the years. */
const newerReleases: Readonly<Record<string, ReadonlyArray<Release>>> = {
  debian: [{ suite: "forky", components: ["main"] }],
  ubuntu: [{ suite: "devel", components: ["main", "universe"] }]
}

/** Whether this machine has what `fetchProgram` needs. */
export const isAvailable: Effect.Effect<boolean, never, ChildProcessSpawner.ChildProcessSpawner> = Effect.map(
  Effect.all([succeeds("apt-get", ["--version"]), succeeds("dpkg-deb", ["--version"])]),
  (found) => found.every((each) => each)
)

/**
 * Fetches the package of a newer release and moves its program to `target`, whole or not at all. Fails with `EmbeddedProblem`
 * (`DownloadFailed`) that quotes apt.
 */
export const fetchProgram = Effect.fn("DebianPackage.fetchProgram")(function* (wanted: Wanted, target: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* fs.makeTempDirectoryScoped({ directory: path.dirname(target), prefix: "fetch-" })
  yield* unpack([wanted.packageName], "newer", folder)
  yield* fs.rename(path.join(folder, "unpacked", wanted.program), target)
}, Effect.scoped)

/**
 * Fetches packages of a newer release, or of the machine's own, and unpacks them together in `unpacked` below `folder`.
 * What they need besides is not fetched. Fails with `EmbeddedProblem` (`DownloadFailed`) that quotes apt.
 */
export const unpack = Effect.fn("DebianPackage.unpack")(function* (
  packageNames: ReadonlyArray<string>,
  from: "newer" | "own",
  folder: string
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const release = yield* osRelease
  const archive = ownArchive(yield* machineSources, release.codename)
  const suites = archive === undefined ? [] : from === "own" ? [archive] : (newerReleases[release.id] ?? [])
  if (archive === undefined || suites.length === 0) {
    return yield* failed(`the apt of this machine (${release.id} ${release.codename}) names no archive to take it from`)
  }
  const machineConfig = yield* runProgram("apt-config", ["dump"])
  yield* Effect.forEach(["sources", "state/lists/partial", "cache/archives/partial", "unpacked"], (name) =>
    fs.makeDirectory(path.join(folder, name), { recursive: true })
  )
  const keyed = yield* withKeyring(archive)
  yield* fs.writeFileString(path.join(folder, "apt.conf"), configFile(folder, machineConfig.output))
  yield* Effect.firstSuccessOf(
    suites.map(({ components, suite }) =>
      Effect.gen(function* () {
        yield* fs.writeFileString(path.join(folder, "sources/release.sources"), sourcesFile(keyed, suite, components))
        yield* apt(folder, ["update", "--error-on=any"])
        yield* apt(folder, ["download", ...packageNames])
      })
    )
  )
  const packageFiles = (yield* fs.readDirectory(folder)).filter((name) => name.endsWith(".deb"))
  if (packageFiles.length === 0) return yield* failed("apt reported success but left no package")
  for (const packageFile of packageFiles) {
    yield* runProgram("dpkg-deb", ["-x", path.join(folder, packageFile), path.join(folder, "unpacked")])
  }
})

const apt = Effect.fnUntraced(function* (folder: string, args: ReadonlyArray<string>) {
  const result = yield* runProgram("apt-get", ["-q", ...args], {
    cwd: folder,
    env: { APT_CONFIG: `${folder}/apt.conf` }
  })
  if (!Option.exists(result.exitCode, (code) => code === 0)) {
    return yield* failed(`apt-get ${args[0]} said:\n${lastLines(result.output)}`)
  }
})

const failed = (why: string) =>
  new EmbeddedProblem({
    reason: "DownloadFailed",
    what: `The package could not be fetched: ${why}.`,
    remedy: "Check the network and that apt-get update works on this machine."
  })

/** What went wrong, without apt's progress. */
const lastLines = (output: string) => {
  if (output.includes("NO_PUBKEY")) {
    return "the keyring of this machine does not know the newer release; apt-get install debian-archive-keyring mends that"
  }
  const lines = output.trim().split("\n")
  const complaints = lines.filter((line) => /^(E|W|Err):/.test(line))
  return (complaints.length > 0 ? complaints : lines).slice(-5).join("\n")
}

const osRelease = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString("/etc/os-release").pipe(Effect.orElseSucceed(() => ""))
  const field = (name: string) => new RegExp(`^${name}="?([^"\\n]*)"?$`, "m").exec(text)?.[1] ?? ""
  return { id: field("ID") || "unknown", codename: field("VERSION_CODENAME") || "unknown" }
})

const machineSources = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const parts = "/etc/apt/sources.list.d"
  const names = yield* fs.readDirectory(parts).pipe(Effect.orElseSucceed((): Array<string> => []))
  const files = ["/etc/apt/sources.list", ...names.toSorted().map((name) => `${parts}/${name}`)]
  const parsed = yield* Effect.forEach(
    files,
    Effect.fnUntraced(function* (file) {
      const text = yield* fs.readFileString(file).pipe(Effect.orElseSucceed(() => ""))
      if (file.endsWith(".sources")) return parseSourcesFile(text)
      return file.endsWith(".list") ? parseListFile(text) : []
    })
  )
  return parsed.flat()
})

/** A keyring that the machine names but no longer has would fail the whole run: fall back on apt's default keys. */
const withKeyring = Effect.fnUntraced(function* (archive: AptSource) {
  const fs = yield* FileSystem.FileSystem
  if (archive.signedBy === undefined || (yield* fs.exists(archive.signedBy))) return archive
  const { signedBy: _missing, ...rest } = archive
  return rest
})
