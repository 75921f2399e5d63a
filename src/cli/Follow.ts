/**
 * Following tasks and graphs to their end, across restarts of the server.
 *
 * A task's events come as server-sent events and are resumed by their number, so that none is missed or told twice. A
 * graph is asked for again and again, less often the longer an answer takes. While the server is away both try again
 * with growing pauses, and give up after `patience`; the work itself goes on in any case.
 */
import { Clock, Context, Duration, Effect, Option, Ref, Schedule, Schema, Stream } from "effect"
import { HttpClientError } from "effect/http"
import { type Event, isEnd } from "../../protocol/Event.ts"
import type { GraphId, TaskId } from "../../protocol/Ids.ts"
import type { Graph } from "../../protocol/Task.ts"
import { Client } from "./Client.ts"
import type { GraphSeen } from "./GraphView.ts"

/** How long a server may be away before a follower gives up. */
export const Patience = Context.Reference("datamcp/cli/Patience", { defaultValue: () => Duration.minutes(2) })

/** A stream that is silent for so long is opened anew: a machine that vanished sends no goodbye. */
const silenceMax = "60 seconds"

/** The stream was cut before the task's end. */
class Cut extends Schema.TaggedError<Cut>()("Cut", { message: Schema.String }) {}

const pauses = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("5 seconds")]).pipe(Schedule.jittered)

/** True for failures that a restart of the server explains; what it refuses stays refused. */
const isPassing = (error: unknown): boolean =>
  error instanceof Cut ||
  (HttpClientError.isHttpClientError(error) &&
    (error.reason._tag === "TransportError" ||
      error.reason._tag === "EmptyBodyError" ||
      (error.response !== undefined && error.response.status >= 500))) ||
  hasTag(error, "Unavailable", "Overloaded", "Retry", "SseError")

const hasTag = (error: unknown, ...tags: ReadonlyArray<string>) =>
  typeof error === "object" && error !== null && "_tag" in error && tags.includes(String(error._tag))

/** Pauses between tries, until `patience` has passed since the first of a row of failures. */
const untilOutOfPatience = Effect.map(Patience, (patience) =>
  pauses.pipe(
    Schedule.upTo({ duration: patience }),
    Schedule.setInputType<unknown>(),
    Schedule.while(({ input }) => isPassing(input))
  )
)

/** Called when the server is lost, and again when it is back. */
export interface Connected {
  readonly lost: Effect.Effect<void>
  readonly back: Effect.Effect<void>
}

/** Events of a task with a number above `after`, from the past and then live; ends after the task's end. */
export const taskEvents = (id: TaskId, after: number, connected: Connected) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const client = yield* Client
      const last = yield* Ref.make(after)
      const retries = yield* untilOutOfPatience
      const open = Effect.gen(function* () {
        const answer = yield* client.tasks.events({
          params: { id },
          query: {},
          headers: { accept: "text/event-stream", "last-event-id": yield* Ref.get(last) }
        })
        yield* connected.back
        return Stream.isStream(answer)
          ? Stream.map(answer, ({ data }) => data)
          : Stream.fromIterable<Event>(answer.data)
      })
      return Stream.unwrap(open).pipe(
        Stream.timeout(silenceMax),
        Stream.concat(Stream.fail(new Cut({ message: "The event stream was cut before the task's end." }))),
        Stream.filterEffect((event) => Ref.modify(last, (seen) => [event.number > seen, Math.max(seen, event.number)])),
        Stream.takeUntil((event) => isEnd(event.type)),
        Stream.tapError((error) => (isPassing(error) ? connected.lost : Effect.void)),
        Stream.retry(retries)
      )
    })
  )

/** Between two looks at a graph. */
const lookMillis = { least: 200, mostShareOfTime: 0.2 }

/** A graph as it changes, the last one `ended`. Each comes with what the view of it needs. */
export const graphStates = (id: GraphId, connected: Connected) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const client = yield* Client
      const retries = yield* untilOutOfPatience
      const names = yield* agentNames
      const stopwatch = yield* makeStopwatch
      const look = Effect.gen(function* () {
        const [took, graph] = yield* Effect.timed(
          client.graphs.get({ params: { id } }).pipe(
            Effect.tapError((error) => (isPassing(error) ? connected.lost : Effect.void)),
            Effect.retry(retries)
          )
        )
        yield* connected.back
        const pause = Math.max(lookMillis.least, Duration.toMillis(took) / lookMillis.mostShareOfTime)
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
