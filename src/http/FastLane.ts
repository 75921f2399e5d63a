/**
 * Owns the short way for the two requests that come most: submitting one small task, and looking at one.
 *
 * They are the contract's endpoints `tasks.submit` and `tasks.get`, answered on node:http below the router, at a fraction
 * of its CPU (`bench/parts/http.ts` measures both). Nothing is decided here that the long way decides otherwise: the same
 * decoder, the same use cases, the same problems; a test sends the same requests both ways. Whatever is unusual about a
 * request (another content type, a large or chunked body, a query) is left to the long way.
 */

import type { IncomingMessage, ServerResponse } from "node:http"
import { type Cause, Context, Effect, Exit, Fiber, Redacted, References, Schema, Tracer } from "effect"
import { InternalError } from "../../protocol/api/TransportProblem.ts"
import { TaskId } from "../../protocol/Ids.ts"
import { Principal } from "../../protocol/Permission.ts"
import { withRemoteParent, withSpanFrom } from "../../protocol/TraceContext.ts"
import { ApiKeys } from "../app/ApiKeys.ts"
import { Tasks } from "../app/Tasks.ts"
import { RequestTrace } from "../observability/RequestTrace.ts"
import { bearerKey } from "./AuthenticationLive.ts"
import type { Exchange } from "./Exchange.ts"
import { problemOf } from "./FailureAnswer.ts"
import { writeJson, writeProblem } from "./NodeAnswer.ts"
import { RequestBodies } from "./RequestBodies.ts"
import { submissionOf, taskLocation, tasksPath } from "./Submission.ts"

/** Largest body that is received before its sender is known, in bytes. */
const bodyBytesMax = 16 * 1024

/** Takes a request and answers it, or leaves it untouched and says false. */
export type FastLane = (request: IncomingMessage, response: ServerResponse, exchange: Exchange) => boolean

interface Answer {
  readonly status: number
  readonly body: string
  readonly location?: string
}

export const make = Effect.gen(function* () {
  const { authenticate } = yield* ApiKeys
  const tasks = yield* Tasks
  const bodies = yield* RequestBodies
  const scope = yield* Effect.scope
  const context = yield* Effect.context()
  const isTraced = (yield* References.TracerEnabled) && (yield* Tracer.Tracer) !== Tracer.nativeTracer

  const start = <E>(
    response: ServerResponse,
    exchange: Exchange,
    key: string,
    answer: Effect.Effect<Answer, E, Principal>
  ) => {
    const authenticated = Effect.flatMap(authenticate(Redacted.make(key)), (principal) => {
      exchange.actor = principal.actor
      return Effect.provideService(answer, Principal, principal)
    })
    const { requestId, traceparent } = exchange
    const traced = isTraced
      ? withSpanFrom(traceparent, `http.server ${exchange.method}`, {
          kind: "server",
          attributes: { "http.route": exchange.route }
        })(authenticated)
      : withRemoteParent(traceparent)(authenticated)
    const fiber = Effect.runForkWith(Context.add(context, RequestTrace, { requestId, traceparent }))(traced)
    fiber.addObserver((exit) => {
      if (Exit.isSuccess(exit)) writeJson(response, exchange, exit.value)
      else writeFailure(response, exchange, exit.cause)
    })
    if (fiber.pollUnsafe() !== undefined) return
    Fiber.runIn(fiber, scope)
    response.on("close", () => {
      if (!response.writableEnded) fiber.interruptUnsafe()
    })
  }

  const writeFailure = (response: ServerResponse, exchange: Exchange, cause: Cause.Cause<unknown>) => {
    const problem = problemOf(cause)
    writeProblem(response, exchange, problem)
    if (!(problem instanceof InternalError)) return
    const { requestId, traceparent } = exchange
    Effect.runForkWith(Context.add(context, RequestTrace, { requestId, traceparent }))(
      Effect.logError("A request met a defect", cause)
    )
  }

  const submit = (bytes: Buffer, idempotencyKey: string | undefined) => {
    const command = submissionOf(bytes, idempotencyKey)
    return Effect.flatMap(Effect.fromResult(command), (decoded) =>
      Effect.map(
        tasks.submit(decoded),
        (accepted): Answer => ({
          status: 202,
          body: JSON.stringify(accepted),
          location: taskLocation(accepted.id)
        })
      )
    )
  }

  const look = (id: TaskId) =>
    Effect.map(tasks.get(id), (task): Answer => ({ status: 200, body: JSON.stringify(task) }))

  const lane: FastLane = (request, response, exchange) => {
    const { headers, method, url } = request
    const key = bearerKey(headers.authorization)
    if (key === undefined || url === undefined) return false
    if (method === "GET") {
      const id = url.startsWith(taskPrefix) ? url.slice(taskPrefix.length) : ""
      if (!isTaskId(id)) return false
      exchange.route = lookRoute
      start(response, exchange, key, look(id))
      return true
    }
    if (method !== "POST" || url !== tasksPath || !isSmallJson(request)) return false
    exchange.route = submitRoute
    const idempotencyKey = headers["idempotency-key"]?.toString()
    bodies.collect(request, bodyBytesMax, (collected) => {
      if ("problem" in collected) writeProblem(response, exchange, collected.problem)
      else
        start(
          response,
          exchange,
          key,
          Effect.suspend(() => submit(collected.bytes, idempotencyKey))
        )
    })
    return true
  }
  return lane
})

const taskPrefix = `${tasksPath}/`
const submitRoute = `POST ${tasksPath}`
const lookRoute = `GET ${tasksPath}/:id`
const isTaskId = Schema.is(TaskId)

const isSmallJson = ({ headers }: IncomingMessage): boolean => {
  const length = Number(headers["content-length"] ?? Number.NaN)
  const idempotencyKey = headers["idempotency-key"]
  return (
    (headers["content-type"] === "application/json" || headers["content-type"] === "application/json; charset=utf-8") &&
    length > 0 &&
    length <= bodyBytesMax &&
    headers["content-encoding"] === undefined &&
    headers["transfer-encoding"] === undefined &&
    (idempotencyKey === undefined || (idempotencyKey.length > 0 && idempotencyKey.length <= 255))
  )
}
