/**
 * Owns what is said of streams: chunks that a task emits while it runs (log lines, tokens, partial results).
 *
 * Invariant: `number` counts a stream's chunks from 1 without gaps, over all attempts of the task. Readers resume by it.
 */
import { Schema } from "effect"
import { Namespace, StreamName, TaskId } from "./Ids.ts"
import { Timestamp } from "./Task.ts"

/** The stream that is read when none is named. */
export const defaultStream: StreamName = "log"

export const Chunk = Schema.Struct({
  task_id: TaskId,
  stream: StreamName,
  number: Schema.Int,
  attempt: Schema.Int,
  run: Schema.Int.annotateKey({
    description:
      "Number of the TaskStarted event of the run that emitted it. Attempts that were given back have several."
  }),
  at: Timestamp,
  data: Schema.Json
}).annotate({ identifier: "Chunk" })
export type Chunk = typeof Chunk.Type

/** What follows the last chunk where a stream is followed. */
export const StreamEnd = Schema.Struct({ ended: Schema.Literal(true) })

/** As it travels on the bus. */
export const ChunkMessage = Schema.Struct({ namespace: Namespace, chunks: Schema.Array(Chunk) })

/** Chunks of a stream with a number above `after`, oldest first. */
export const ChunkPage = Schema.Struct({
  data: Schema.Array(Chunk),
  next_after: Schema.Int.annotateKey({ description: "What to pass as `after` to go on." }),
  ended: Schema.Boolean.annotateKey({ description: "True when the task has ended and nothing follows." })
}).annotate({ identifier: "ChunkPage" })
export type ChunkPage = typeof ChunkPage.Type

/** View: the streams of a task. */
export const StreamList = Schema.Struct({
  data: Schema.Array(
    Schema.Struct({
      name: StreamName,
      chunks: Schema.Int,
      bytes: Schema.Int.annotateKey({ description: "Towards the bound of the task's streams." })
    })
  )
}).annotate({ identifier: "StreamList" })
export type StreamList = typeof StreamList.Type
