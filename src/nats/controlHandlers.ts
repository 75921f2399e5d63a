/**
 * Carries the service's endpoints of finding and controlling many tasks to their use cases. What an endpoint promises
 * stands in `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { Retention } from "../app/Retention.ts"
import { TaskControl } from "../app/TaskControl.ts"
import type { Handlers } from "./Handlers.ts"

export const controlHandlers = Effect.gen(function* () {
  const control = yield* TaskControl
  const retention = yield* Retention
  return {
    "tasks.counts": (query) => control.counts(query),
    "tasks.attempts": ({ id }) => Effect.map(control.attempts(id), (data) => ({ data })),
    "tasks.actions": (command) => control.act(command),
    "tasks.priority": ({ id, priority }) => control.prioritise(id, priority),
    "tasks.reroute": ({ agent, id }) => control.reroute(id, agent),
    "tasks.delete": ({ id }) => control.remove(id),
    "operations.get": ({ id }) => control.operation(id),
    "operations.cancel": ({ id }) => control.stopOperation(id),
    "dead_letters.list": (query) => control.deadLetters(query),
    "dead_letters.get": ({ id }) => control.deadLetter(id),
    "dead_letters.acknowledge": ({ id, note }) => control.acknowledge(id, note),
    "dead_letters.replay": ({ id, ...edit }) => control.replay(id, edit),
    "dead_letters.replay_many": (command) => control.replayMany(command),
    "retention.get": () => retention.get,
    "retention.set": ({ if_version, ...command }) => retention.set(command, if_version)
  } satisfies Partial<Handlers>
})
