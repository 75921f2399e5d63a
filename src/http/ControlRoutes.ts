/**
 * Carries the HTTP contract of finding and controlling many tasks, and of retention, to their use cases. What an endpoint
 * promises stands in `protocol/api/ControlApi.ts`.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { ReplayDeadLetters } from "../../protocol/api/ControlApi.ts"
import { etag, prefix } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { type Retention as RetentionView, SetRetention } from "../../protocol/Retention.ts"
import {
  AcknowledgeTask,
  ActOnTasks,
  type Operation,
  PrioritiseTask,
  ReplayTask,
  RerouteTask
} from "../../protocol/TaskAction.ts"
import { Retention } from "../app/Retention.ts"
import { TaskControl } from "../app/TaskControl.ts"
import { addHeaders, jsonAnswer } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"
import { taskLocation } from "./Submission.ts"

const decodeAct = inputDecoder(ActOnTasks)
const decodePrioritise = inputDecoder(PrioritiseTask)
const decodeReroute = inputDecoder(RerouteTask)
const decodeAcknowledge = inputDecoder(AcknowledgeTask)
const decodeReplay = inputDecoder(ReplayTask)
const decodeReplayMany = inputDecoder(ReplayDeadLetters)
const decodeRetention = inputDecoder(SetRetention)

const begun = (operation: Operation) =>
  Effect.as(addHeaders({ location: `${prefix}/operations/${operation.id}` }), operation)

export const controlLayer = HttpApiBuilder.group(
  Api,
  "control",
  Effect.fnUntraced(function* (handlers) {
    const control = yield* TaskControl
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "act",
        Effect.fnUntraced(function* () {
          const answer = yield* control.act(yield* body.command(decodeAct))
          return "dry_run" in answer ? jsonAnswer(200, answer) : yield* begun(answer)
        })
      )
      .handleRaw(
        "prioritise",
        Effect.fnUntraced(function* ({ params }) {
          const { priority } = yield* body.command(decodePrioritise)
          return yield* control.prioritise(params.id, priority)
        })
      )
      .handleRaw(
        "reroute",
        Effect.fnUntraced(function* ({ params }) {
          const { agent } = yield* body.command(decodeReroute)
          return yield* control.reroute(params.id, agent)
        })
      )
      .handleRaw(
        "acknowledge",
        Effect.fnUntraced(function* ({ params }) {
          const { note } = yield* body.command(decodeAcknowledge, { whenEmpty: {} })
          return yield* control.acknowledge(params.id, note)
        })
      )
      .handleRaw(
        "replay",
        Effect.fnUntraced(function* ({ params }) {
          const accepted = yield* control.replay(params.id, yield* body.command(decodeReplay, { whenEmpty: {} }))
          yield* addHeaders({ location: taskLocation(accepted.id) })
          return accepted
        })
      )
      .handleRaw(
        "replayMany",
        Effect.fnUntraced(function* () {
          return yield* Effect.flatMap(control.replayMany(yield* body.command(decodeReplayMany)), begun)
        })
      )
      .handleAll({
        counts: ({ query }) => control.counts(query),
        attempts: ({ params }) => Effect.map(control.attempts(params.id), (data) => ({ data })),
        remove: ({ params }) => control.remove(params.id),
        operation: ({ params }) => control.operation(params.id),
        stopOperation: ({ params }) => control.stopOperation(params.id),
        deadLetters: ({ query }) => control.deadLetters(query),
        deadLetter: ({ params }) => control.deadLetter(params.id)
      })
  })
)

const versioned = (retention: RetentionView) => Effect.as(addHeaders({ etag: etag(retention.version) }), retention)

export const retentionLayer = HttpApiBuilder.group(
  Api,
  "retention",
  Effect.fnUntraced(function* (handlers) {
    const retention = yield* Retention
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "set",
        Effect.fnUntraced(function* ({ headers }) {
          const command = yield* body.command(decodeRetention)
          return yield* Effect.flatMap(retention.set(command, headers["if-match"]), versioned)
        })
      )
      .handle("get", () => Effect.flatMap(retention.get, versioned))
  })
)
