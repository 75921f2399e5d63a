/** Use cases of graphs for doors that are tested without servers: there are no graphs, and trees are single tasks. */
import { Effect, Layer } from "effect"
import { Conflict, GraphNotFound } from "../../protocol/Problem.ts"
import { authorize } from "../../src/app/authorize.ts"
import { Graphs } from "../../src/app/Graphs.ts"
import { Tasks } from "../../src/app/Tasks.ts"

export const layer = Layer.effect(
  Graphs,
  Effect.map(Tasks, (tasks) =>
    Graphs.of({
      list: () => Effect.as(authorize("task:read"), { data: [], next_cursor: null }),
      wait: (id) => Effect.andThen(authorize("task:read"), Effect.fail(new GraphNotFound({ graph_id: id }))),
      cancel: (id) => Effect.andThen(authorize("task:cancel"), Effect.fail(new GraphNotFound({ graph_id: id }))),
      retry: (id) =>
        Effect.andThen(authorize("task:retry"), Effect.fail(new Conflict({ reason: "state", detail: id }))),
      pause: (id) => Effect.andThen(authorize("task:pause"), Effect.fail(new GraphNotFound({ graph_id: id }))),
      resume: (id) => Effect.andThen(authorize("task:pause"), Effect.fail(new GraphNotFound({ graph_id: id }))),
      pauseTree: (id) => Effect.andThen(authorize("task:pause"), tasks.get(id)),
      resumeTree: (id) => Effect.andThen(authorize("task:pause"), tasks.get(id)),
      waitTree: tasks.wait,
      cancelTree: tasks.cancel
    })
  )
)
