/**
 * Waiting for a task's end and following its events: what Postgres has recorded, told without delay by the bus.
 *
 *   listen --> read what is recorded --> [ hear, or look after 2 s of silence --> tell what is new ] --> end
 *
 * Invariant: numbers of a followed task rise by one, whatever the bus loses, doubles or reorders: what does not fit the
 * next number is read from Postgres. It listens before it reads, so nothing falls between the two.
 */
import { Clock, Context, Deferred, Duration, Effect, Layer, Option, Queue, Stream } from "effect"
import { type Event, isEnd } from "../../protocol/Event.ts"
import type { Namespace, TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import { isTerminal, type Task } from "../../protocol/Task.ts"
import type { StoreUnavailable } from "../ledger/StoreUnavailable.ts"
import { TaskReader } from "../ledger/TaskReader.ts"
import { EventFeed } from "./EventFeed.ts"
import { numbered } from "./NumberedStream.ts"

export const TaskWatchLimits = Context.Reference<{
  /** Silence after which Postgres is asked, in case the bus has lost something. */
  readonly silence: Duration.Duration
  /** Events read at a time. */
  readonly pageEvents: number
  /** Live events kept for a slow reader; further ones are read from Postgres when it comes to them. */
  readonly liveEventsMax: number
}>("datamcp/app/TaskWatchLimits", {
  defaultValue: () => ({ silence: Duration.seconds(2), pageEvents: 500, liveEventsMax: 256 })
})

export class TaskWatch extends Context.Service<
  TaskWatch,
  {
    /** The task once it has ended, or as it stands after `atMost`; `undefined` when there is none. */
    readonly wait: (
      namespace: Namespace,
      id: TaskId,
      atMost: Duration.Duration
    ) => Effect.Effect<Task | undefined, StoreUnavailable>
    /** Events above `after` until the end of the task, or until the task is gone. Nothing when there is none. */
    readonly follow: (namespace: Namespace, id: TaskId, after: number) => Stream.Stream<Event, StoreUnavailable>
  }
>()("datamcp/app/TaskWatch") {
  static readonly layer = Layer.effect(
    TaskWatch,
    Effect.gen(function* () {
      const reader = yield* TaskReader
      const feed = yield* EventFeed
      const { liveEventsMax, pageEvents, silence } = yield* TaskWatchLimits

      const hasEnded = (namespace: Namespace, id: TaskId) =>
        Effect.map(reader.head(namespace, id), (head) => head === undefined || isTerminal(head.status))

      // As often as submissions; `Effect.fn` would build a stack trace for each call.
      const wait: TaskWatch["Service"]["wait"] = Effect.fnUntraced(function* (namespace, id, atMost) {
        const until =
          (yield* Clock.monotonicTimeNanos) +
          Duration.toNanosUnsafe(Duration.min(atMost, Duration.millis(Limits.waitMillisMax)))
        const end = Deferred.makeUnsafe<void>()
        yield* feed.listen(namespace, id, ({ type }) => {
          if (isEnd(type)) Deferred.doneUnsafe(end, Effect.void)
        })
        let ended = yield* hasEnded(namespace, id)
        while (!ended) {
          const left = Duration.nanos(until - (yield* Clock.monotonicTimeNanos))
          if (Duration.isLessThanOrEqualTo(left, Duration.zero)) break
          const heard = yield* Effect.timeoutOption(Deferred.await(end), Duration.min(left, silence))
          ended = Option.isSome(heard) || (yield* hasEnded(namespace, id))
        }
        return yield* reader.get(namespace, id)
      }, Effect.scoped)

      const follow: TaskWatch["Service"]["follow"] = (namespace, id, after) =>
        Stream.unwrap(
          Effect.gen(function* () {
            const live = yield* Queue.dropping<Event>(liveEventsMax)
            yield* feed.listen(namespace, id, (event) => Queue.offerUnsafe(live, event))
            const head = yield* reader.head(namespace, id)
            if (head === undefined || (isTerminal(head.status) && after >= head.version)) return Stream.empty
            return numbered({
              after: Math.min(after, head.version),
              live,
              silence,
              read: (last) => reader.events(namespace, id, { after: last, limit: pageEvents }),
              hasMore: (read) => read.length === pageEvents,
              isOver: (last) => hasNothingAfter(namespace, id, last),
              isLast: ({ type }) => isEnd(type)
            })
          })
        )

      /** Ended without an end to tell: the task was removed, or its end lies before `last`. */
      const hasNothingAfter = (namespace: Namespace, id: TaskId, last: number) =>
        Effect.map(
          reader.head(namespace, id),
          (head) => head === undefined || (isTerminal(head.status) && head.version <= last)
        )

      return TaskWatch.of({ wait, follow })
    })
  )
}
