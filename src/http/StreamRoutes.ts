/**
 * Carries the HTTP contract of streams to their use cases. What an endpoint promises stands in `protocol/api/StreamsApi.ts`.
 */
import { Duration, Effect, Stream } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { type Chunk, defaultStream } from "../../protocol/Chunk.ts"
import * as Limits from "../../protocol/Limits.ts"
import { TaskStreams } from "../app/TaskStreams.ts"
import { Draining } from "./Draining.ts"
import { makeSseAnswer } from "./EventStream.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "streams",
  Effect.fnUntraced(function* (handlers) {
    const streams = yield* TaskStreams
    const draining = yield* Draining
    const answer = yield* makeSseAnswer
    return handlers.handleAll({
      read: Effect.fnUntraced(function* ({ headers, params, query }) {
        const after = query.after ?? headers["last-event-id"] ?? 0
        const stream = query.name ?? defaultStream
        const limit = query.limit ?? Limits.pageEntriesDefault
        const read = (atMost: Duration.Duration) => streams.read(params.id, { stream, after, limit, atMost })
        if (headers.accept?.includes("text/event-stream") === true) {
          // Before the head of the answer is out: what cannot be read is a problem, not an empty stream.
          yield* streams.read(params.id, { stream, after, limit: 1, atMost: Duration.zero })
          const frames = Stream.map(streams.follow(params.id, { stream, after }), frame)
          return yield* answer(Stream.concat(frames, Stream.make(endFrame)))
        }
        return yield* query.wait === undefined
          ? read(Duration.zero)
          : // A node that stops answers with what there is rather than keep its caller waiting.
            Effect.raceFirst(read(query.wait), Effect.andThen(draining.begun, read(Duration.zero)))
      }),
      list: ({ params }) => streams.list(params.id)
    })
  })
)

const frame = (chunk: Chunk): string => `id: ${chunk.number}\nevent: chunk\ndata: ${JSON.stringify(chunk)}\n\n`

const endFrame = 'event: end\ndata: {"ended":true}\n\n'
