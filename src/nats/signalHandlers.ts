/**
 * Carries the service's endpoints of signals and streams to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Duration, Effect } from "effect"
import { defaultStream } from "../../protocol/Chunk.ts"
import * as Limits from "../../protocol/Limits.ts"
import { Graphs } from "../app/Graphs.ts"
import { Signals } from "../app/Signals.ts"
import { TaskStreams } from "../app/TaskStreams.ts"
import type { Handlers } from "./Handlers.ts"

export const signalHandlers = Effect.gen(function* () {
  const signals = yield* Signals
  const graphs = yield* Graphs
  const streams = yield* TaskStreams
  return {
    "tasks.signal": ({ id, name, payload = null }, { key }) => signals.send(id, { name, payload, idempotencyKey: key }),
    "tasks.signals": ({ id, ...page }) => signals.list(id, page),
    "tasks.pause": ({ id, reason, tree }) => (tree === true ? graphs.pauseTree(id, reason) : signals.pause(id, reason)),
    "tasks.resume": ({ id, tree }) => (tree === true ? graphs.resumeTree(id) : signals.resume(id)),
    "tasks.stream": (
      { after = 0, id, limit = Limits.pageEntriesDefault, name = defaultStream, timeout_ms = 0 },
      { stopping }
    ) => {
      const read = (millis: number) => streams.read(id, { stream: name, after, limit, atMost: Duration.millis(millis) })
      return timeout_ms === 0 ? read(0) : Effect.raceFirst(read(timeout_ms), Effect.andThen(stopping, read(0)))
    },
    "tasks.streams": ({ id }) => streams.list(id)
  } satisfies Partial<Handlers>
})
