/**
 * A task's server-sent events, decoded by the contract.
 *
 * The derived client ends a stream at its first `retry:` line, which is meant for browsers; here such lines are skipped.
 * A heartbeat is a comment and never seen as an event, but it counts as a sign of life.
 */
import { Effect, Stream } from "effect"
import { Sse } from "effect/encoding"
import { HttpApiClient } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { ServerSentEvent } from "../../protocol/api/TasksApi.ts"
import type { Event } from "../../protocol/Event.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import { Client } from "./Client.ts"

/** A stream without a sign of life for so long ends: a machine that vanished sends no goodbye. */
const silenceMax = "60 seconds"

const decodeAnswer = HttpApiClient.decodeResponse(Api, { group: "tasks", endpoint: "events" })

/** Opens the stream behind the event with the number `after`. Fails when it cannot be opened; ends when it is cut. */
export const openEvents = Effect.fnUntraced(function* (id: TaskId, after: number) {
  const client = yield* Client
  const response = yield* client.tasks.events({
    params: { id },
    query: {},
    headers: { accept: "text/event-stream", "last-event-id": after },
    responseMode: "response-only"
  })
  if (!response.headers["content-type"]?.startsWith("text/event-stream")) {
    const answer = yield* decodeAnswer(response)
    return Stream.isStream(answer) ? Stream.map(answer, ({ data }) => data) : Stream.fromIterable<Event>(answer.data)
  }
  return response.stream.pipe(
    Stream.timeout(silenceMax),
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => !line.startsWith("retry:")),
    Stream.map((line) => `${line}\n`),
    Stream.pipeThroughChannel(Sse.decodeSchema(ServerSentEvent)),
    Stream.map(({ data }) => data)
  )
})
