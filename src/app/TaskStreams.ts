/**
 * The use cases of reading what tasks emit while they run: a page of a stream, a stream followed to its end, and which
 * streams there are. A reader resumes by number and misses nothing, whichever node it asks.
 */
import { Clock, Context, Duration, Effect, Layer, Queue, Stream } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import type { Chunk, ChunkPage, StreamList } from "../../protocol/Chunk.ts"
import { isEnd } from "../../protocol/Event.ts"
import type { Namespace, StreamName, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Principal } from "../../protocol/Permission.ts"
import { type Forbidden, type Overloaded, TaskNotFound, type Unavailable } from "../../protocol/Problem.ts"
import { StreamReader } from "../ledger/StreamReader.ts"
import { authorize } from "./authorize.ts"
import { EventFeed } from "./EventFeed.ts"
import { numbered } from "./NumberedStream.ts"
import * as OpenStreams from "./OpenStreams.ts"
import { orUnavailable, unavailable } from "./outage.ts"
import { TaskWatchLimits } from "./TaskWatch.ts"

export interface ReadStream {
  readonly stream: StreamName
  readonly after: number
  readonly limit: number
  /** How long to wait for a chunk when there is none. */
  readonly atMost: Duration.Duration
}

export class TaskStreams extends Context.Service<
  TaskStreams,
  {
    /** Chunks above `after`, oldest first: those that are there, or else, within `atMost`, the first that comes. */
    readonly read: (
      id: TaskId,
      wanted: ReadStream
    ) => Effect.Effect<ChunkPage, TaskNotFound | Forbidden | Unavailable, Principal>
    /**
     * Chunks from `after` on, then live, without gap or double; ends once the task has. A principal holds at most
     * `Limits.openStreamsMax` of them open on one node; one more is `Overloaded`.
     */
    readonly follow: (
      id: TaskId,
      wanted: Pick<ReadStream, "stream" | "after">
    ) => Stream.Stream<Chunk, TaskNotFound | Overloaded | Forbidden | Unavailable, Principal>
    readonly list: (id: TaskId) => Effect.Effect<StreamList, TaskNotFound | Forbidden | Unavailable, Principal>
  }
>()("datamcp/app/TaskStreams") {
  static readonly layerNoDeps = Layer.effect(
    TaskStreams,
    Effect.gen(function* () {
      const reader = yield* StreamReader
      const feed = yield* EventFeed
      const bus = yield* Bus
      const { liveEventsMax, silence } = yield* TaskWatchLimits
      const openStream = yield* OpenStreams.make

      /** Live chunks of a stream. The end of the task comes as a chunk that is none: it only says that there is something to read. */
      const listen = Effect.fnUntraced(function* (namespace: Namespace, id: TaskId, stream: StreamName) {
        const live = yield* Queue.dropping<Heard>(liveEventsMax)
        yield* bus.onChunks({ namespace, taskId: id }, (chunks) => {
          for (const chunk of chunks) if (chunk.stream === stream) Queue.offerUnsafe(live, chunk)
        })
        yield* feed.listen(namespace, id, (event) => {
          if (isEnd(event.type)) Queue.offerUnsafe(live, { number: Number.POSITIVE_INFINITY })
        })
        return live
      })

      const hasEnded = (namespace: Namespace, id: TaskId, stream: StreamName, last: number) =>
        Effect.map(
          reader.head(namespace, id, stream),
          (head) => head === undefined || (head.hasEnded && head.last <= last)
        )

      const read: TaskStreams["Service"]["read"] = Effect.fn("TaskStreams.read")(
        function* (id, wanted) {
          const { namespace } = yield* authorize("task:read")
          const { after, atMost, stream } = wanted
          const until = (yield* Clock.monotonicTimeNanos) + Duration.toNanosUnsafe(atMost)
          const options = { stream, after, limit: Math.min(wanted.limit, Limits.pageEntriesMax) }
          let live: Queue.Dequeue<Heard> | undefined
          while (true) {
            const data = yield* reader.chunks(namespace, id, options)
            const last = data.at(-1)?.number ?? after
            const head = yield* reader.head(namespace, id, stream)
            if (head === undefined) return yield* taskNotFound(id)
            const ended = head.hasEnded && head.last <= last
            const left = Duration.nanos(until - (yield* Clock.monotonicTimeNanos))
            if (data.length > 0 || ended || Duration.isLessThanOrEqualTo(left, Duration.zero)) {
              return { data, next_after: last, ended }
            }
            if (live === undefined) live = yield* listen(namespace, id, stream)
            else yield* Effect.timeoutOption(Queue.takeAll(live), Duration.min(left, silence))
          }
        },
        Effect.scoped,
        orUnavailable
      )

      const follow: TaskStreams["Service"]["follow"] = (id, { after, stream }) =>
        Effect.gen(function* () {
          const { actor, namespace } = yield* authorize("task:read")
          yield* openStream(actor)
          const live = yield* listen(namespace, id, stream)
          const head = yield* reader.head(namespace, id, stream)
          if (head === undefined) return yield* taskNotFound(id)
          return numbered<Heard, Effect.Error<ReturnType<typeof hasEnded>>>({
            // A number that was never given cannot be waited for.
            after: Math.min(after, head.last),
            live,
            silence,
            read: (last) => reader.chunks(namespace, id, { stream, after: last, limit: pageChunks }),
            hasMore: (found) => found.length > 0,
            isOver: (last) => hasEnded(namespace, id, stream, last),
            isLast: () => false
          }).pipe(Stream.filter(isChunk), Stream.mapError(unavailable))
        }).pipe(orUnavailable, Stream.unwrap)

      const list: TaskStreams["Service"]["list"] = Effect.fn("TaskStreams.list")(function* (id) {
        const { namespace } = yield* authorize("task:read")
        const data = yield* reader.streams(namespace, id)
        const isThere = data.length > 0 || (yield* reader.head(namespace, id, "log")) !== undefined
        return isThere ? { data } : yield* taskNotFound(id)
      }, orUnavailable)

      return TaskStreams.of({ read, follow, list })
    })
  )

  static readonly layer = TaskStreams.layerNoDeps.pipe(Layer.provide(EventFeed.layer))
}

/** Chunks that a follower reads at a time. Postgres looks at all of them, and a reader that does not read holds them in memory. */
const pageChunks = 64

const isChunk = (heard: Heard): heard is Chunk => "data" in heard

type Heard = Chunk | { readonly number: number }

const taskNotFound = (id: TaskId) =>
  Effect.fail(new TaskNotFound({ task_id: id, detail: `There is no task ${id} in this namespace.` }))
