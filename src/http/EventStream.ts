/**
 * Owns a task's events as server-sent events: `id` is the event's number, so that a reader who was cut off resumes
 * with `Last-Event-ID` and misses nothing.
 *
 * A stream ends after the task's end, when the server stops, or when its key is no longer valid. It never ends with an
 * error of its own: a reader that has not seen the end reconnects.
 */
import { Duration, Effect, Fiber, Pull, Redacted, Schedule, type Scope, Stream } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import type { Event } from "../../protocol/Event.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import { Principal } from "../../protocol/Permission.ts"
import { ApiKeys } from "../app/ApiKeys.ts"
import { Tasks } from "../app/Tasks.ts"
import { bearerKey } from "./AuthenticationLive.ts"
import { Draining } from "./Draining.ts"
import { HttpLimits } from "./HttpLimits.ts"
import { currentExchange } from "./nodeRequest.ts"

/** Makes what streams the events of a task with a number above `after`, then live. */
export const makeEventStream = Effect.gen(function* () {
  const tasks = yield* Tasks
  const answer = yield* makeSseAnswer

  return Effect.fnUntraced(function* (id: TaskId, after: number) {
    // Before the head of the answer is out: an unknown task or a missing permission is a problem, not an empty stream.
    yield* tasks.events(id, { after, limit: 1 })
    return yield* answer(Stream.map(tasks.follow(id, after), frame))
  })
})

/** Makes what answers with frames of server-sent events as they come. A failure before the first frame is a problem. */
export const makeSseAnswer = Effect.gen(function* () {
  const { authenticate } = yield* ApiKeys
  const draining = yield* Draining
  const { heartbeat } = yield* HttpLimits

  return Effect.fnUntraced(function* <E>(all: Stream.Stream<string, E, Principal>) {
    const principal = yield* Principal
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const exchange = yield* currentExchange
    const frames = yield* begun(all)
    exchange.answeredAt = performance.now()

    // Not being able to tell whether the key is good still means no.
    const key = Redacted.make(bearerKey(headers["authorization"]) ?? "")
    const isValid = Effect.match(authenticate(key), { onFailure: () => false, onSuccess: () => true })
    const comments = Stream.fromSchedule(Schedule.spaced(heartbeat)).pipe(
      Stream.mapEffect(() => isValid),
      Stream.takeWhile((valid) => valid),
      Stream.map(() => ": still here\n\n")
    )
    // A first comment, so that the head of the answer and a sign of life go out at once.
    const body = Stream.make(": events follow\n\n").pipe(
      Stream.concat(Stream.merge(frames, comments, { haltStrategy: "either" })),
      Stream.interruptWhen(draining.begun),
      Stream.catchCause((cause) =>
        Stream.fromEffect(Effect.logWarning("An event stream was cut", cause)).pipe(Stream.drain)
      ),
      Stream.provideService(Principal, principal),
      Stream.encodeText
    )
    return HttpServerResponse.stream(body, {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
    })
  })
})

/**
 * A stream that has begun, or the failure that kept it from beginning: one too many of a principal is refused before
 * anything is read, so that a moment is enough to hear of it.
 */
const begun = <A, E, R>(stream: Stream.Stream<A, E, R>): Effect.Effect<Stream.Stream<A, E, R>, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const pull = yield* Stream.toPull(stream)
    const first = yield* Effect.forkScoped(pull, { startImmediately: true })
    yield* Fiber.join(first).pipe(
      Pull.catchDone(() => Effect.void),
      Effect.timeoutOption(refusalTime)
    )
    let isFirst = true
    const again = Effect.suspend(() => {
      if (!isFirst) return pull
      isFirst = false
      return Fiber.join(first)
    })
    return Stream.fromPull(Effect.succeed(again))
  })

const refusalTime = Duration.millis(50)

const frame = (event: Event): string => `id: ${event.number}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
