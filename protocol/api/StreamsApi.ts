/**
 * Owns the HTTP contract of streams: reading what tasks emit while they run.
 */
import { Schema } from "effect"
import { Sse } from "effect/encoding"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Chunk, ChunkPage, StreamEnd, StreamList } from "../Chunk.ts"
import { StreamName, TaskId } from "../Ids.ts"
import { Overloaded, TaskNotFound } from "../Problem.ts"
import { ListTasks } from "../Query.ts"
import { Authentication } from "./Authentication.ts"
import { documented, prefix, Wait } from "./Wire.ts"

const params = { id: TaskId }
const number = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2_147_483_647 }))

/** One server-sent event: `id` is the chunk's number, `event` is `chunk`, `data` the chunk as JSON; the last one is `end`. */
export const ServerSentChunk = Schema.Struct({
  ...Sse.EventEncoded.fields,
  data: Schema.fromJsonString(Schema.Union([Chunk, StreamEnd]))
})
export type ServerSentChunk = typeof ServerSentChunk.Type

const read = HttpApiEndpoint.get("read", "/tasks/:id/stream", {
  params,
  query: {
    name: Schema.optionalKey(StreamName.annotate({ description: "Which of its streams; `log` when absent." })),
    after: Schema.optionalKey(number.annotate({ description: "Chunks with a greater number only." })),
    limit: ListTasks.fields.limit,
    wait: Schema.optionalKey(Wait)
  },
  headers: {
    accept: Schema.optionalKey(Schema.String),
    "last-event-id": Schema.optionalKey(number)
  },
  success: [ChunkPage, HttpApiSchema.StreamSse({ events: ServerSentChunk })],
  error: [TaskNotFound, Overloaded]
}).annotateMerge(
  documented({
    summary: "Read a stream of a task",
    description:
      "A page of chunks as JSON, with `wait` once there is one; or, with `Accept: text/event-stream`, all chunks from the first " +
      "(or from after `Last-Event-ID`) on and then live, until the task has ended, which an event `end` says. Numbers have no " +
      "gaps and no doubles over all attempts. A stream without an `end` was cut: reconnect with the last id. Pages are cut at " +
      "1 MiB: a short one does not mean that it was the last."
  })
)

const list = HttpApiEndpoint.get("list", "/tasks/:id/streams", {
  params,
  success: StreamList,
  error: TaskNotFound
}).annotateMerge(documented({ summary: "The streams of a task" }))

export class StreamsApi extends HttpApiGroup.make("streams")
  .add(read, list)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Streams", description: "What tasks say while they run." })) {}
