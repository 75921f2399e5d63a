/**
 * `.datamcp/`: everything that datamcp keeps on a machine that runs it with servers of its own.
 *
 *   lock, holder.json   who uses the folder (`FolderLock.ts`)
 *   ports.json          the port of each server, the same at every start while it is free
 *   secrets/<name>      generated passwords, mode 0600
 *   postgres/, nats/    the servers' data;  nats.conf, nats.pid
 *   tools/              programs fetched for this machine
 *
 * The folder is entered by its owner only; by root's choice, others may pass through it to folders of their own, because
 * Postgres does not run as root. Nothing in here starts or stops a server.
 */
import { randomBytes } from "node:crypto"
import { createServer } from "node:net"
import { Context, Effect, FileSystem, Layer, Path, Redacted, Schema } from "effect"
import { EmbeddedProblem, unwritable } from "./EmbeddedProblem.ts"
import { holdFolder } from "./FolderLock.ts"

const Ports = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Int))

/** Ports to choose from: below those that systems hand out to outgoing connections, which come and go. */
const portRange = { from: 15_000, to: 30_000 }
const portAttemptsMax = 50

export class DataFolder extends Context.Service<
  DataFolder,
  {
    /** Absolute, links resolved. */
    readonly path: string
    /** The remembered port of `server`, or another one, which is remembered from now on, if somebody else listens there. */
    readonly portFor: (server: string, preferred?: number) => Effect.Effect<number, EmbeddedProblem>
    /** The secret of this name; made at the first call and the same ever after. */
    readonly secret: (name: string) => Effect.Effect<Redacted.Redacted, EmbeddedProblem>
  }
>()("datamcp/embedded/DataFolder") {
  /** Makes the folder if it is missing and holds it until the scope closes; one process at a time. */
  static readonly layer = (folder: string) =>
    Layer.effect(
      DataFolder,
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const paths = yield* Path.Path
        const asked = paths.resolve(folder)
        const path = yield* Effect.mapError(
          Effect.gen(function* () {
            yield* fs.makeDirectory(asked, { recursive: true })
            yield* fs.chmod(asked, process.getuid?.() === 0 ? 0o711 : 0o700)
            yield* fs.makeDirectory(paths.join(asked, "secrets"), { recursive: true, mode: 0o700 })
            return yield* fs.realPath(asked)
          }),
          unwritable(asked)
        )
        yield* holdFolder(path)

        const portFor = Effect.fn("DataFolder.portFor")(function* (server: string, preferred?: number) {
          const file = paths.join(path, "ports.json")
          const known = yield* fs.readFileString(file).pipe(
            Effect.flatMap(Schema.decodeEffect(Ports)),
            Effect.orElseSucceed((): typeof Ports.Type => ({}))
          )
          const port = yield* firstFree([known[server], preferred])
          if (port !== known[server]) {
            const text = yield* Effect.orDie(Schema.encodeEffect(Ports)({ ...known, [server]: port }))
            yield* Effect.mapError(replaceFile(file, text, 0o644), unwritable(file))
          }
          return port
        })

        const secret = Effect.fn("DataFolder.secret")(function* (name: string) {
          const file = paths.join(path, "secrets", name)
          const found = yield* fs.readFileString(file).pipe(Effect.orElseSucceed(() => ""))
          if (found !== "") return Redacted.make(found)
          const made = randomBytes(24).toString("base64url")
          yield* Effect.mapError(replaceFile(file, made, 0o600), unwritable(file))
          return Redacted.make(made)
        })

        return DataFolder.of({
          path,
          portFor: (server, preferred) =>
            portFor(server, preferred).pipe(Effect.provideService(FileSystem.FileSystem, fs)),
          secret: (name) => secret(name).pipe(Effect.provideService(FileSystem.FileSystem, fs))
        })
      })
    )
}

/** Whole or not at all: a reader, or the next start after a crash, never sees half a file. */
const replaceFile = Effect.fnUntraced(function* (file: string, text: string, mode: number) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.writeFileString(`${file}.draft`, text, { mode })
  yield* fs.rename(`${file}.draft`, file)
})

const firstFree = Effect.fnUntraced(function* (wanted: ReadonlyArray<number | undefined>) {
  const random = Array.from(
    { length: portAttemptsMax },
    () => portRange.from + (randomBytes(2).readUInt16BE() % (portRange.to - portRange.from))
  )
  const candidates = [...wanted.filter((port) => port !== undefined), ...random]
  const found = yield* Effect.findFirst(candidates, isFree)
  if (found._tag === "Some") return found.value
  return yield* new EmbeddedProblem({
    reason: "StartFailed",
    what: `No free port was found between ${portRange.from} and ${portRange.to} on 127.0.0.1.`,
    remedy: "Check that programs may listen on the loopback interface here."
  })
})

const isFree = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const probe = createServer()
    probe.once("error", () => resume(Effect.succeed(false)))
    probe.listen({ host: "127.0.0.1", port, exclusive: true }, () => {
      probe.close(() => resume(Effect.succeed(true)))
    })
  })
