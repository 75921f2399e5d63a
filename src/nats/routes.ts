/**
 * From an endpoint of the contract to what carries its requests out: key, namespace, JSON, schema, use case, in that
 * order, so that nobody without a key makes the node work.
 */
import { Cause, Effect, Exit, Result } from "effect"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import { Principal } from "../../protocol/Permission.ts"
import { Forbidden } from "../../protocol/Problem.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import { type EndpointName, endpoints, type ServiceProblem } from "../../protocol/service/Endpoints.ts"
import { withRemoteParent, withSpanFrom } from "../../protocol/TraceContext.ts"
import { ApiKeys } from "../app/ApiKeys.ts"
import { RequestTrace } from "../observability/RequestTrace.ts"
import { agentHandlers } from "./agentHandlers.ts"
import { behaviourHandlers } from "./behaviourHandlers.ts"
import { controlHandlers } from "./controlHandlers.ts"
import { EndpointCounter } from "./EndpointStats.ts"
import type { Exchange } from "./Exchange.ts"
import { graphHandlers } from "./graphHandlers.ts"
import type { Call, Handlers } from "./Handlers.ts"
import { limitHandlers } from "./limitHandlers.ts"
import { nodeHandlers } from "./nodeHandlers.ts"
import { bearerKey, idempotencyKey } from "./RequestHead.ts"
import { scheduleHandlers } from "./scheduleHandlers.ts"
import { signalHandlers } from "./signalHandlers.ts"
import { supervisionHandlers } from "./supervisionHandlers.ts"
import { taskHandlers } from "./taskHandlers.ts"
import { webhookHandlers } from "./webhookHandlers.ts"

export interface Route {
  readonly holds: boolean
  readonly counter: EndpointCounter
  /** Works on a request and answers it, whatever happens. */
  readonly carry: (exchange: Exchange) => Effect.Effect<void>
}

/** The routes by `<group>.<verb>`. `traced`: whether spans are recorded at all. */
export const makeRoutes = Effect.fnUntraced(function* (options: {
  readonly stopping: Effect.Effect<void>
  readonly traced: boolean
}) {
  const keys = yield* ApiKeys
  const context = yield* Effect.context<never>()
  const handlers: Handlers = {
    ...(yield* taskHandlers),
    ...(yield* signalHandlers),
    ...(yield* controlHandlers),
    ...(yield* graphHandlers),
    ...(yield* agentHandlers),
    ...(yield* behaviourHandlers),
    ...(yield* limitHandlers),
    ...(yield* nodeHandlers),
    ...(yield* supervisionHandlers),
    ...(yield* scheduleHandlers),
    ...(yield* webhookHandlers)
  }

  const routeOf = <Name extends EndpointName>(name: Name): readonly [string, Route] => {
    const { bytesMax, holds, read, takesKey } = endpoints[name]
    const decode = inputDecoder<(typeof endpoints)[Name]["read"]>(read)
    const handle = handlers[name]

    const work = ({ body, head, malformed, subject }: Exchange): Effect.Effect<unknown, ServiceProblem> => {
      if (malformed !== undefined) return Effect.fail(malformed)
      const key = bearerKey(head)
      if (Result.isFailure(key)) return Effect.fail(key.failure)
      return Effect.flatMap(keys.authenticate(key.success), (principal): Effect.Effect<unknown, ServiceProblem> => {
        if (Subjects.parseServiceNamespace(subject) !== principal.namespace) return Effect.fail(foreign)
        const json = body.length === 0 ? empty : parseJsonBytes(body, bytesMax)
        if (Result.isFailure(json)) return Effect.fail(json.failure)
        const request = decode(json.success)
        if (Result.isFailure(request)) return Effect.fail(request.failure)
        const idempotency = takesKey ? idempotencyKey(head) : noKey
        if (Result.isFailure(idempotency)) return Effect.fail(idempotency.failure)
        const call: Call = { key: idempotency.success, stopping: options.stopping }
        return Effect.provideService(handle(request.success, call), Principal, principal)
      })
    }

    const traced = <E>(exchange: Exchange, effect: Effect.Effect<unknown, E>) => {
      const { traceparent } = exchange.head
      if (!options.traced) return traceparent === undefined ? effect : withRemoteParent(traceparent)(effect)
      return withSpanFrom(traceparent, `NATS ${name}`, { kind: "server", attributes: { request: exchange.id } })(effect)
    }

    const carry = (exchange: Exchange) => {
      const answered = Effect.onExit(work(exchange), (exit) => {
        if (Exit.isSuccess(exit)) return Effect.sync(() => exchange.succeed(exit.value))
        exchange.fail(exit.cause)
        return exit.cause.reasons.some(Cause.isDieReason)
          ? Effect.logError(`A request to ${name} met a defect`, exit.cause)
          : Effect.void
      })
      const trace = { requestId: exchange.id, traceparent: exchange.head.traceparent }
      return Effect.provideService(Effect.ignoreCause(traced(exchange, answered)), RequestTrace, trace)
    }

    return [name, { holds, counter: new EndpointCounter(name, context), carry }]
  }

  return new Map(names.map(routeOf))
})

const names = Object.keys(endpoints) as ReadonlyArray<EndpointName>

/** An empty request says nothing, as `{}` does. */
const empty = Result.succeed({})

const noKey = Result.succeed(undefined)

const foreign = new Forbidden({
  permission: "namespace",
  detail: "The API key belongs to another namespace than the subject names."
})
