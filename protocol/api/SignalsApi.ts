/**
 * Owns the HTTP contract of talking to tasks that have not ended: signals, and setting aside.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { SignalName, TaskId } from "../Ids.ts"
import * as Limits from "../Limits.ts"
import { Conflict, IdempotencyMismatch, Overloaded, TaskNotFound } from "../Problem.ts"
import { ListTasks } from "../Query.ts"
import { PauseTask, SignalReceipt, TaskSignals } from "../Signal.ts"
import { Task } from "../Task.ts"
import { Authentication } from "./Authentication.ts"
import { BodyProblem } from "./TransportProblem.ts"
import { documented, Flag, prefix, SubmitHeaders } from "./Wire.ts"

const params = { id: TaskId }

const tree = {
  tree: Schema.optionalKey(Flag.annotate({ description: "All tasks below it too (`parent_id`)." }))
}

const send = HttpApiEndpoint.post("send", "/tasks/:id/signals/:name", {
  params: { ...params, name: SignalName },
  headers: SubmitHeaders,
  payload: Schema.Json,
  success: SignalReceipt.pipe(HttpApiSchema.status(202)),
  error: [TaskNotFound, Conflict, IdempotencyMismatch, Overloaded, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Send a signal to a task",
    description:
      `The body is the payload, any JSON of at most ${Limits.signalPayloadBytesMax} bytes; none means null. It is stored, and kept until the ` +
      "task awaits a signal of this name; a task that is paused for it goes on. 409 when the task has ended. A payload that " +
      "breaks the shape that a waiting task has given is refused with 422. The signal `approval` takes " +
      '`{"decision": "approve" or "reject", "comment"}`, needs `task:approve`, and is refused with 409 unless the task waits ' +
      "for it and nobody has decided yet. With an `Idempotency-Key` a repeat gives the first answer again."
  })
)

const list = HttpApiEndpoint.get("list", "/tasks/:id/signals", {
  params,
  query: {
    after: Schema.optionalKey(
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.signalsMax })).annotate({
        description: "Signals with a greater number only."
      })
    ),
    limit: ListTasks.fields.limit
  },
  success: TaskSignals,
  error: TaskNotFound
}).annotateMerge(
  documented({
    summary: "Signals of a task",
    description: "What it waits for at the moment, and the signals that it was sent, in the order of arrival."
  })
)

const pause = HttpApiEndpoint.post("pause", "/tasks/:id/pause", {
  params,
  query: tree,
  payload: PauseTask,
  success: Task,
  error: [TaskNotFound, Conflict, ...BodyProblem]
}).annotateMerge(
  documented({
    summary: "Set a task aside",
    description:
      "It does not start until it is resumed; one that runs is interrupted, and the attempt does not count. 409 when it has " +
      "ended, or runs and may run at most once. With `tree` all below it is set aside too, also what is submitted there " +
      "meanwhile: repeat the call if it is not answered."
  })
)

const resume = HttpApiEndpoint.post("resume", "/tasks/:id/resume", {
  params,
  query: tree,
  success: Task,
  error: [TaskNotFound, Conflict]
}).annotateMerge(
  documented({
    summary: "Resume a task that was set aside",
    description:
      "Back to what it would be now. 409 when it is not paused, or waits for a signal: send that; or is paused with a graph " +
      "or a tree: resume that. With `tree` the whole that was paused with `tree`."
  })
)

export class SignalsApi extends HttpApiGroup.make("signals")
  .add(send, list, pause, resume)
  .middleware(Authentication)
  .prefix(prefix)
  .annotateMerge(OpenApi.annotations({ title: "Signals", description: "Talking to tasks that have not ended." })) {}
