/**
 * Carries the service's endpoints of schedules to their use cases. What an endpoint promises stands in
 * `protocol/service/Endpoints.ts`.
 */
import { Effect } from "effect"
import { Schedules } from "../app/Schedules.ts"
import type { Handlers } from "./Handlers.ts"

export const scheduleHandlers = Effect.gen(function* () {
  const schedules = yield* Schedules
  return {
    "schedules.create": (command) => schedules.create(command),
    "schedules.get": ({ schedule }) => schedules.get(schedule),
    "schedules.list": (query) => schedules.list(query),
    "schedules.update": ({ if_version, schedule, ...change }) => schedules.update(schedule, change, if_version),
    "schedules.delete": ({ schedule }) => schedules.remove(schedule),
    "schedules.pause": ({ schedule }) => schedules.pause(schedule),
    "schedules.resume": ({ schedule }) => schedules.resume(schedule),
    "schedules.run": ({ schedule }, { key }) => schedules.run(schedule, key),
    "schedules.next": ({ count, schedule }) => schedules.next(schedule, count),
    "schedules.preview": (question) => schedules.preview(question),
    "schedules.runs": ({ schedule, ...query }) => schedules.runs(schedule, query)
  } satisfies Partial<Handlers>
})
