/**
 * `datamcp artifacts`: bytes up and down.
 */
import { Effect, FileSystem, Option, Path, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import type { Artifact } from "../../protocol/Artifact.ts"
import { ArtifactName, MediaType } from "../../protocol/api/ArtifactsApi.ts"
import { ArtifactId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Client } from "./Client.ts"
import { usage } from "./CliFailure.ts"
import * as Ink from "./Ink.ts"
import { decodeCommand, readBytes, reasonOf } from "./input.ts"
import { Output } from "./Output.ts"
import { Screen } from "./Screen.ts"

const contentTypes: { readonly [extension: string]: string } = {
  ".csv": "text/csv",
  ".json": "application/json",
  ".ndjson": "application/x-ndjson",
  ".parquet": "application/vnd.apache.parquet",
  ".md": "text/markdown",
  ".txt": "text/plain",
  ".html": "text/html",
  ".xml": "application/xml",
  ".pdf": "application/pdf"
}

const put = Command.make(
  "put",
  {
    file: Argument.String("file").pipe(Argument.withDescription("File to store; - for standard input")),
    name: Flag.String("name").pipe(Flag.withDescription("Instead of the file's name"), Flag.optional),
    contentType: Flag.String("content-type").pipe(
      Flag.withDescription("Media type; from the file's name if not given"),
      Flag.optional
    )
  },
  Effect.fn("artifacts.put")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const path = yield* Path.Path
    const ownName = given.file === "-" ? "stdin" : path.basename(given.file)
    const name = yield* decodeCommand(
      ArtifactName,
      Option.getOrElse(given.name, () => ownName),
      "The name"
    )
    const ownType = contentTypes[path.extname(name).toLowerCase()] ?? "application/octet-stream"
    const contentType = yield* decodeCommand(
      MediaType,
      Option.getOrElse(given.contentType, () => ownType),
      "The content type"
    )
    const content = yield* readBytes(given.file, Limits.artifactBytesMax)
    const stored = yield* client.artifacts.upload({
      query: { name, content_type: contentType },
      headers: {},
      payload: Stream.make(content)
    })
    yield* output.answer(stored, details)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Store a file as an artifact"))

const details = (artifact: Artifact, ink: Ink.Ink) =>
  Ink.facts(
    [
      ["id", artifact.id],
      ["name", Ink.printable(artifact.name)],
      ["content type", Ink.printable(artifact.content_type)],
      ["size", `${Ink.bytes(artifact.size_bytes)} (${artifact.size_bytes} bytes)`],
      ["sha256", artifact.sha256],
      ["created", Ink.time(artifact.created_at)]
    ],
    ink
  )

const get = Command.make(
  "get",
  {
    id: Argument.String("id").pipe(Argument.withSchema(ArtifactId), Argument.withDescription("Id of the artifact")),
    output: Flag.String("output").pipe(
      Flag.withAlias("o"),
      Flag.withDescription("File to write, whole or not at all; - for standard output"),
      Flag.optional
    )
  },
  Effect.fn("artifacts.get")(function* (given) {
    const client = yield* Client
    const output = yield* Output
    const info = yield* client.artifacts.info({ params: { id: given.id } })
    if (Option.isNone(given.output)) return yield* output.answer(info, details)
    if (given.output.value === "-") return yield* toStandardOutput(given.id)
    yield* toFile(given.id, given.output.value)
    yield* output.answer(info, () => `${given.output.pipe(Option.getOrThrow)}  ${Ink.bytes(info.size_bytes)}`)
  })
).pipe(
  Command.provide(Client.layer),
  Command.withDescription("Show what is known of an artifact, or fetch its bytes with --output")
)

const toStandardOutput = Effect.fnUntraced(function* (id: ArtifactId) {
  const client = yield* Client
  const output = yield* Output
  const screen = yield* Screen
  if (output.json) return yield* usage("--json and --output - both want standard output.", "Leave one of them out.")
  const content = yield* client.artifacts.content({ params: { id } })
  yield* Stream.runForEach(content, screen.write)
})

/** Written beside its place and moved there, so that a cut download leaves no half file. */
const toFile = Effect.fnUntraced(function* (id: ArtifactId, file: string) {
  const client = yield* Client
  const fs = yield* FileSystem.FileSystem
  const content = yield* client.artifacts.content({ params: { id } })
  const part = `${file}.part`
  yield* Stream.run(content, fs.sink(part)).pipe(
    Effect.andThen(fs.rename(part, file)),
    Effect.onError(() => Effect.ignore(fs.remove(part))),
    Effect.catchTag("PlatformError", (error) => Effect.fail(usage(`Cannot write ${file}: ${reasonOf(error)}.`)))
  )
})

export const artifacts = Command.make("artifacts").pipe(
  Command.withDescription("Stored blobs that tasks read and write"),
  Command.withSubcommands([put, get])
)
