/**
 * Following tasks and graphs to their end, across restarts of the server.
 *
 * A task's events come as server-sent events and are resumed by their number, so that none is missed or told twice. A
 * graph is asked for again and again, less often the longer an answer takes. While the server is away both try again
 * with growing pauses, and give up after `patience`; the work itself goes on in any case.
 */
import { Clock, Context, Duration, Effect, Option, Predicate, Ref, Schedule, Schema, Stream } from "effect"
import { HttpClientError } from "effect/http"
import { isEnd } from "../../protocol/Event.ts"
import type { GraphId, TaskId } from "../../protocol/Ids.ts"
import type { Graph } from "../../protocol/Task.ts"
import { Client } from "./Client.ts"
import { openEvents } from "./EventStream.ts"
import type { GraphSeen } from "./GraphView.ts"

/** How long a server may be away before a follower gives up. */
export const Patience = Context.Reference("datamcp/cli/Patience", { defaultValue: () => Duration.minutes(2) })

/** An open stream was cut before the task's end. */
class Cut extends Schema.TaggedError<Cut>()("Cut", {}) {}

/** Pauses while the server is away, until `Patience` has passed. */
const untilOutOfPatience = Effect.map(Patience, (patience) =>
  Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("5 seconds")]).pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: patience }),
    Schedule.setInputType<unknown>(),
    Schedule.while(({ input }) => isPassing(input))
  )
)

/** True for failures that a restart of the server explains; what it refuses stays refused. */
const isPassing = (error: unknown): boolean =>
  HttpClientError.isHttpClientError(error)
    ? error.reason._tag === "TransportError" || (error.response !== undefined && error.response.status >= 500)
    : Predicate.isTagged(error, "Unavailable") || Predicate.isTagged(error, "Overloaded")

/** What befalls a stream that was open already, and is mended by opening it again. */
const isCut = (error: unknown): boolean =>
  error instanceof Cut ||
  HttpClientError.isHttpClientError(error) ||
  Predicate.isTagged(error, "Retry") ||
  Predicate.isTagged(error, "SseError")

/** Called each time a try fails, and when one succeeds. */
export interface Connected {
  readonly lost: Effect.Effect<void>
  readonly back: Effect.Effect<void>
}

/** Tries until the server answers, or refuses, or was away for too long. */
export const patiently = <A, E, R>(attempt: Effect.Effect<A, E, R>, connected: Connected) =>
  Effect.flatMap(untilOutOfPatience, (retries) =>
    attempt.pipe(
      Effect.tapError((error) => (isPassing(error) ? connected.lost : Effect.void)),
      Effect.retry(retries),
      Effect.tap(connected.back)
    )
  )

/** Events of a task with a number above `after`, from the past and then live; ends after the task's end. */
export const taskEvents = (id: TaskId, after: number, connected: Connected) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const last = yield* Ref.make(after)
      const open = Effect.flatMap(Ref.get(last), (number) => openEvents(id, number))
      const opened = Effect.map(
        patiently(open, connected),
        Stream.catch((error) => Stream.fail(isCut(error) ? new Cut() : error))
      )
      return Stream.unwrap(opened).pipe(
        Stream.concat(Stream.fail(new Cut())),
        Stream.filterEffect((event) => Ref.modify(last, (seen) => [event.number > seen, Math.max(seen, event.number)])),
        Stream.takeUntil((event) => isEnd(event.type)),
        Stream.retry(
          Schedule.spaced("300 millis").pipe(
            Schedule.setInputType<unknown>(),
            Schedule.while(({ input }) => input instanceof Cut)
          )
        )
      )
    })
  )

/** Between two looks at a graph. */
const lookMillis = { least: 200, most: 10_000, mostShareOfTime: 0.2 }

/** A graph as it changes, the last one `ended`. Each comes with what the view of it needs. */
export const graphStates = (id: GraphId, connected: Connected) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const client = yield* Client
      const names = yield* agentNames
      const stopwatch = yield* makeStopwatch
      const look = Effect.gen(function* () {
        const [took, graph] = yield* patiently(
          Effect.timed(client.graphs.get({ params: { id }, query: {} })),
          connected
        )
        const wanted = Duration.toMillis(took) / lookMillis.mostShareOfTime
        const pause = Math.min(lookMillis.most, Math.max(lookMillis.least, wanted))
        return { graph, pause }
      })
      const seen = Effect.fnUntraced(function* (graph: Graph) {
        const state: GraphSeen = { graph, agentNames: yield* names(graph), runningMillis: yield* stopwatch(graph) }
        return state
      })
      return Stream.paginate(0, (pause) =>
        Effect.sleep(pause).pipe(
          Effect.andThen(look),
          Effect.flatMap(({ graph, pause }) =>
            Effect.map(seen(graph), (state) => [[state], graph.ended ? Option.none() : Option.some(pause)] as const)
          )
        )
      )
    })
  )

/** Names of a graph's agents by id. Each is asked for once; one that may not be read has no name. */
export const agentNames = Effect.gen(function* () {
  const client = yield* Client
  const known = new Map<string, string>()
  return Effect.fnUntraced(function* (graph: Graph) {
    const unknown = [...new Set(graph.tasks.flatMap((task) => task.agent_id ?? []))].filter((id) => !known.has(id))
    yield* Effect.forEach(
      unknown,
      (id) =>
        client.agents.get({ params: { agent: id } }).pipe(
          Effect.map((agent) => agent.name),
          Effect.orElseSucceed(() => ""),
          Effect.map((name) => known.set(id, name))
        ),
      { concurrency: 4, discard: true }
    )
    return known
  })
})

/** How long each running attempt has been seen, by task key. */
const makeStopwatch = Effect.gen(function* () {
  const since = new Map<string, { readonly attempt: number; readonly millis: number }>()
  return Effect.fnUntraced(function* (graph: Graph) {
    const now = yield* Clock.currentTimeMillis
    const running = graph.tasks.filter((task) => task.status === "running")
    for (const { attempt, key } of running) {
      if (since.get(key)?.attempt !== attempt) since.set(key, { attempt, millis: now })
    }
    return new Map<string, number>(running.map(({ key }) => [key, now - (since.get(key)?.millis ?? now)]))
  })
})
