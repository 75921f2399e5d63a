/**
 * Carries the HTTP contract of schedules to their use cases. Every answer that shows one schedule has its version as ETag.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { etag, prefix } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { CreateSchedule, PreviewSchedule, type Schedule, UpdateSchedule } from "../../protocol/Schedule.ts"
import { Schedules } from "../app/Schedules.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"
import { taskLocation } from "./Submission.ts"

const decodeCreate = inputDecoder(CreateSchedule)
const decodeUpdate = inputDecoder(UpdateSchedule)
const decodePreview = inputDecoder(PreviewSchedule)

const versioned = (schedule: Schedule) => Effect.as(addHeaders({ etag: etag(schedule.version) }), schedule)

export const layer = HttpApiBuilder.group(
  Api,
  "schedules",
  Effect.fnUntraced(function* (handlers) {
    const schedules = yield* Schedules
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const schedule = yield* schedules.create(yield* body.command(decodeCreate))
          yield* addHeaders({ location: `${prefix}/schedules/${schedule.id}` })
          return yield* versioned(schedule)
        })
      )
      .handleRaw(
        "update",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeUpdate)
          return yield* Effect.flatMap(schedules.update(params.schedule, command, headers["if-match"]), versioned)
        })
      )
      .handleRaw(
        "preview",
        Effect.fnUntraced(function* () {
          return yield* schedules.preview(yield* body.command(decodePreview))
        })
      )
      .handleAll({
        list: ({ query }) => schedules.list(query),
        get: ({ params }) => Effect.flatMap(schedules.get(params.schedule), versioned),
        remove: ({ params }) => schedules.remove(params.schedule),
        pause: ({ params }) => Effect.flatMap(schedules.pause(params.schedule), versioned),
        resume: ({ params }) => Effect.flatMap(schedules.resume(params.schedule), versioned),
        run: Effect.fnUntraced(function* ({ headers, params }) {
          const started = yield* schedules.run(params.schedule, headers["idempotency-key"])
          const { graph, task } = started
          if (task !== undefined) yield* addHeaders({ location: taskLocation(task.id) })
          if (graph !== undefined) yield* addHeaders({ location: `${prefix}/graphs/${graph.id}` })
          return started
        }),
        next: ({ params, query }) => schedules.next(params.schedule, query.count),
        runs: ({ params, query }) => schedules.runs(params.schedule, query)
      })
  })
)
