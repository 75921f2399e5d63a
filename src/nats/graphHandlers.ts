/**
 * Carries the service's endpoints of graphs to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Duration, Effect } from "effect"
import { waitMillisDefault } from "../../protocol/service/Endpoints.ts"
import { Graphs } from "../app/Graphs.ts"
import { Tasks } from "../app/Tasks.ts"
import type { Handlers } from "./Handlers.ts"

export const graphHandlers = Effect.gen(function* () {
  const tasks = yield* Tasks
  const graphs = yield* Graphs
  return {
    "graphs.get": ({ id }) => tasks.graph(id),
    "graphs.list": (query) => graphs.list(query),
    "graphs.wait": ({ id, timeout_ms = waitMillisDefault }, { stopping }) =>
      Effect.raceFirst(graphs.wait(id, Duration.millis(timeout_ms)), Effect.andThen(stopping, tasks.graph(id))),
    "graphs.cancel": ({ id, reason }) => graphs.cancel(id, reason),
    "graphs.pause": ({ id, reason }) => graphs.pause(id, reason),
    "graphs.resume": ({ id }) => graphs.resume(id),
    "graphs.retry": ({ id }, { key }) => graphs.retry(id, key)
  } satisfies Partial<Handlers>
})
