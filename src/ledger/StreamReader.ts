/**
 * Streams of tasks as readers see them: committed chunks, in order. Every query names the namespace, and a page is bounded
 * in chunks and bytes. It must not change anything.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import type { Chunk, StreamList } from "../../protocol/Chunk.ts"
import type { Namespace, StreamName, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { isTerminal, type TaskStatus } from "../../protocol/Task.ts"
import { orUnavailable, type StoreUnavailable } from "./StoreUnavailable.ts"
import { utc } from "./TaskViews.ts"

/** Where a page of chunks is cut, in bytes of their JSON; a larger chunk comes alone. */
const pageBytesMax = 256 * 1024

/** What decides whether somebody still has to wait for chunks. */
export interface StreamHead {
  readonly hasEnded: boolean
  /** Number of its last chunk; 0 when there is none. */
  readonly last: number
}

export class StreamReader extends Context.Service<
  StreamReader,
  {
    /** Chunks with a number above `after`, oldest first. A short page does not mean that there are no more. */
    readonly chunks: (
      namespace: Namespace,
      id: TaskId,
      options: { readonly stream: StreamName; readonly after: number; readonly limit: number }
    ) => Effect.Effect<ReadonlyArray<Chunk>, StoreUnavailable>
    /** Of a stream of a task, be it that it has no chunk; undefined when there is no such task. */
    readonly head: (
      namespace: Namespace,
      id: TaskId,
      stream: StreamName
    ) => Effect.Effect<StreamHead | undefined, StoreUnavailable>
    readonly streams: (namespace: Namespace, id: TaskId) => Effect.Effect<StreamList["data"], StoreUnavailable>
  }
>()("datamcp/ledger/StreamReader") {
  static readonly layer = Layer.effect(
    StreamReader,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const chunkColumns = sql.literal(
        `c.task_id, c.name as stream, c.number, c.attempt, c.run, ${utc("c.at", "at")}, c.data`
      )

      const chunks: StreamReader["Service"]["chunks"] = Effect.fn("StreamReader.chunks")((namespace, id, options) =>
        sql<Chunk>`
          select ${chunkColumns} from (
            select k.*, sum(octet_length(k.data::text)) over (order by k.number) as bytes from (
              select * from stream_chunks s
              where s.task_id = ${id} and s.name = ${options.stream} and s.number > ${options.after}
                and exists (select from tasks t where t.id = ${id} and t.namespace = ${namespace})
              order by s.number limit ${options.limit}
            ) k
          ) c
          where c.bytes <= ${pageBytesMax}
          order by c.number
        `.pipe(orUnavailable("StreamReader.chunks"))
      )

      const head: StreamReader["Service"]["head"] = Effect.fn("StreamReader.head")((namespace, id, stream) =>
        sql<{ readonly status: TaskStatus; readonly last: number }>`
          select t.status, coalesce(s.last, 0) as last from tasks t
          left join task_streams s on s.task_id = t.id and s.name = ${stream}
          where t.id = ${id} and t.namespace = ${namespace}
        `.pipe(
          Effect.map(([row]) => (row === undefined ? undefined : { hasEnded: isTerminal(row.status), last: row.last })),
          orUnavailable("StreamReader.head")
        )
      )

      const streams: StreamReader["Service"]["streams"] = Effect.fn("StreamReader.streams")((namespace, id) =>
        sql<StreamList["data"][number]>`
          select s.name, s.last as chunks, s.bytes::int as bytes from task_streams s join tasks t on t.id = s.task_id
          where s.task_id = ${id} and t.namespace = ${namespace} order by s.name limit ${Limits.streamsMax}
        `.pipe(orUnavailable("StreamReader.streams"))
      )

      return StreamReader.of({ chunks, head, streams })
    })
  )
}
