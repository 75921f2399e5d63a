/**
 * `datamcp tasks logs`: what a task emits while it runs. Followed across restarts of the server: resumed by number, so that
 * no chunk is missing or told twice.
 */
import { Effect, Option, Predicate, Ref, Schedule, Schema, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { Sse } from "effect/encoding"
import { HttpClientError } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { ServerSentChunk } from "../../protocol/api/StreamsApi.ts"
import { type Chunk, defaultStream } from "../../protocol/Chunk.ts"
import { StreamName, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Client } from "./Client.ts"
import { type Connected, patiently } from "./Follow.ts"
import * as Ink from "./Ink.ts"
import { Output } from "./Output.ts"

export const logs = Command.make(
  "logs",
  {
    id: Argument.String("id").pipe(Argument.withSchema(TaskId), Argument.withDescription("Id of the task")),
    name: Flag.String("name").pipe(
      Flag.withSchema(StreamName),
      Flag.withDefault(defaultStream),
      Flag.withDescription("Which of its streams")
    ),
    after: Flag.Int("after").pipe(Flag.withDefault(0), Flag.withDescription("Chunks with a greater number only")),
    follow: Flag.Boolean("follow").pipe(
      Flag.withAlias("f"),
      Flag.withDefault(false),
      Flag.withDescription("Go on until the task has ended; goes on when the server restarts")
    )
  },
  Effect.fn("tasks.logs")(function* (given) {
    const output = yield* Output
    const tell = (chunk: Chunk) => output.item(chunk, chunkLine)
    const connected: Connected = { lost: output.note("The server is away; trying again ..."), back: Effect.void }
    const { after, follow, id, name } = given
    const chunks = follow ? followed(id, name, after, connected) : recorded(id, name, after)
    yield* Stream.runForEach(chunks, tell)
  })
).pipe(Command.provide(Client.layer), Command.withDescription("Show what a task emitted: log lines, tokens, results"))

/** Text as it is, anything else as JSON. A second attempt is told apart. */
const chunkLine = ({ attempt, data }: Chunk, ink: Ink.Ink) => {
  const text = typeof data === "string" ? data : JSON.stringify(data)
  return attempt === 1 ? Ink.printableLines(text) : `${ink.dim(`[attempt ${attempt}]`)} ${Ink.printableLines(text)}`
}

/** What there is at the moment. */
const recorded = (id: TaskId, name: StreamName, after: number) =>
  Stream.unwrap(
    Effect.map(Client, (client) =>
      Stream.paginate(after, (from) =>
        Effect.map(
          client.streams.read({
            params: { id },
            query: { name, after: from, limit: Limits.pageEntriesMax },
            headers: {}
          }),
          (answer) => {
            const page = Stream.isStream(answer) ? nothing(from) : answer
            return [page.data, page.data.length === 0 ? Option.none() : Option.some(page.next_after)] as const
          }
        )
      )
    )
  )

const nothing = (after: number) => ({ data: new Array<Chunk>(), next_after: after, ended: false })

/** The stream was cut before its end. */
class Cut extends Schema.TaggedError<Cut>()("Cut", {}) {}

const silenceMax = "60 seconds"

const followed = (id: TaskId, name: StreamName, after: number, connected: Connected) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const last = yield* Ref.make(after)
      const open = Effect.flatMap(Ref.get(last), (number) => openChunks(id, name, number))
      const opened = Effect.map(
        patiently(open, connected),
        Stream.catch((error) => Stream.fail(isCut(error) ? new Cut() : error))
      )
      return Stream.unwrap(opened).pipe(
        Stream.concat(Stream.fail(new Cut())),
        Stream.takeUntil((told) => "ended" in told),
        Stream.filter((told): told is Chunk => !("ended" in told)),
        Stream.filterEffect(({ number }) => Ref.modify(last, (seen) => [number > seen, Math.max(seen, number)])),
        Stream.retry(
          Schedule.spaced("300 millis").pipe(
            Schedule.setInputType<unknown>(),
            Schedule.while(({ input }) => input instanceof Cut)
          )
        )
      )
    })
  )

const isCut = (error: unknown): boolean =>
  error instanceof Cut ||
  HttpClientError.isHttpClientError(error) ||
  Predicate.isTagged(error, "Retry") ||
  Predicate.isTagged(error, "SseError")

const decodeAnswer = HttpApiClient.decodeResponse(Api, { group: "streams", endpoint: "read" })

/** Opens the stream behind the chunk with the number `after`. Fails when it cannot be opened. */
const openChunks = Effect.fnUntraced(function* (id: TaskId, name: StreamName, after: number) {
  const client = yield* Client
  const response = yield* client.streams.read({
    params: { id },
    query: { name },
    headers: { accept: "text/event-stream", "last-event-id": after },
    responseMode: "response-only"
  })
  if (!response.headers["content-type"]?.startsWith("text/event-stream")) {
    // A problem fails here.
    yield* decodeAnswer(response)
  }
  return response.stream.pipe(
    Stream.timeout(silenceMax),
    Stream.decodeText,
    Stream.splitLines,
    Stream.map((line) => `${line}\n`),
    Stream.pipeThroughChannel(Sse.decodeSchema(ServerSentChunk)),
    Stream.map(({ data }) => data)
  )
})
