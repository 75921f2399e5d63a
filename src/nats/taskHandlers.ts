/**
 * Carries the service's endpoints of tasks to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Duration, Effect, type Schema } from "effect"
import { withIdempotencyKey, withItemKey } from "../../protocol/IdempotencyKeys.ts"
import * as Limits from "../../protocol/Limits.ts"
import { invalidField, TooLarge } from "../../protocol/Problem.ts"
import { waitMillisDefault } from "../../protocol/service/Endpoints.ts"
import { Graphs } from "../app/Graphs.ts"
import { Tasks } from "../app/Tasks.ts"
import type { Handlers } from "./Handlers.ts"

export const taskHandlers = Effect.gen(function* () {
  const tasks = yield* Tasks
  const graphs = yield* Graphs
  return {
    "tasks.submit": (command, { key }) =>
      Effect.flatMap(Effect.fromResult(withIdempotencyKey(command, key)), tasks.submit),
    "tasks.batch": Effect.fnUntraced(function* (request, { key }) {
      const { atomic, items } = batchOf(request)
      if (items.length === 0) return yield* invalidField("", "the batch holds no tasks")
      if (items.length > Limits.batchTasksMax) return yield* tooMany(items.length)
      const keyed = items.map((item, index) => withItemKey(item, key, index))
      const data = yield* tasks.submitBatch(keyed, { atomic })
      const accepted = data.filter((item) => "task" in item).length
      return { accepted, refused: data.length - accepted, data }
    }),
    "tasks.graph": (command, { key }) =>
      Effect.flatMap(Effect.fromResult(withIdempotencyKey(command, key)), tasks.submitGraph),
    "tasks.get": ({ id }) => tasks.get(id),
    "tasks.list": (query) => tasks.list(query),
    "tasks.wait": ({ id, timeout_ms = waitMillisDefault, tree }, { stopping }) =>
      Effect.raceFirst(
        (tree === true ? graphs.waitTree : tasks.wait)(id, Duration.millis(timeout_ms)),
        Effect.andThen(stopping, tasks.get(id))
      ),
    "tasks.events": ({ after = 0, id, limit = Limits.pageEntriesDefault }) =>
      Effect.map(tasks.events(id, { after, limit }), (data) => ({
        data,
        next_after: data.length < limit ? null : (data.at(-1)?.number ?? null)
      })),
    "tasks.cancel": ({ id, reason, tree }) => (tree === true ? graphs.cancelTree : tasks.cancel)(id, reason),
    "tasks.retry": ({ id }) => tasks.retry(id)
  } satisfies Partial<Handlers>
})

const batchOf = (
  request: ReadonlyArray<Schema.Json> | { readonly tasks: ReadonlyArray<Schema.Json>; readonly atomic?: boolean }
): { readonly items: ReadonlyArray<Schema.Json>; readonly atomic: boolean } =>
  "tasks" in request ? { items: request.tasks, atomic: request.atomic ?? false } : { items: request, atomic: false }

const tooMany = (count: number) =>
  new TooLarge({
    detail: `The batch holds ${count} tasks; the limit is ${Limits.batchTasksMax}.`,
    field: "",
    limit: Limits.batchTasksMax,
    unit: "tasks"
  })
