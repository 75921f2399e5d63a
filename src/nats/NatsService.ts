/**
 * The door on NATS: the micro service `datamcp`. Finds out who asks, hands commands to the use cases and answers. The
 * contract stands in `protocol/service/Endpoints.ts`, its text in `docs/nats-protocol.md`.
 *
 * Invariant: a request that came in with an inbox gets exactly one answer, also when this node stops or errs. Requests
 * that are being worked on are bounded; what comes beyond is refused at once. It decides nothing that a use case decides.
 */
import { type Msg, nuid } from "@nats-io/transport-node"
import { DateTime, type Duration, Effect, FiberSet, Latch, Layer, Metric, References } from "effect"
import { RouteNotFound } from "../../protocol/api/TransportProblem.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { Overloaded } from "../../protocol/Problem.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import { endpoints } from "../../protocol/service/Endpoints.ts"
import { describe, discoverySubjects, queueGroup } from "./Discovery.ts"
import { Exchange } from "./Exchange.ts"
import { NatsLink } from "./NatsLink.ts"
import { isInbox } from "./replySubject.ts"
import { makeRoutes } from "./routes.ts"
import { flush, keepSubscribed } from "./subscriptions.ts"

export interface NatsServiceOptions {
  readonly version: string
  readonly node: string
  /** Most requests that are worked on at a time. */
  readonly requestsMax: number
  /** Most requests that are held open at a time (`tasks.wait`), beside `requestsMax`. */
  readonly heldMax: number
  /** Most bytes of requests that are worked on or held at a time; 64 MiB when absent. */
  readonly bytesMax?: number
  /** How long requests in flight may take to end when the node stops. */
  readonly drain: Duration.Input
}

const bytesMaxDefault = 64 * 1024 * 1024

/** Answers while the scope is open. Succeeds once requests reach it. */
export const layer = (options: NatsServiceOptions) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const link = yield* NatsLink
      const context = yield* Effect.context<never>()
      const stopping = yield* Latch.make(false)
      const routes = yield* makeRoutes({ stopping: stopping.await, traced: yield* References.TracerEnabled })
      const identity = {
        id: nuid.next(),
        version: options.version,
        node: options.node,
        started: DateTime.formatIso(yield* DateTime.now)
      }

      // Runs last: who closes the connection need not wait for answers to be sent.
      yield* Effect.addFinalizer(() => flush(link))
      const fibers = yield* FiberSet.make<void>()
      const run = yield* FiberSet.runtime(fibers)()
      yield* Effect.addFinalizer(() =>
        stopping.open.pipe(Effect.andThen(FiberSet.awaitEmpty(fibers)), Effect.timeoutOption(options.drain))
      )

      const admitted = { working: 0, held: 0, bytes: 0 }
      const bytesMax = options.bytesMax ?? bytesMaxDefault
      const inFlight = Metric.registerUnsafe(Metrics.natsRequestsInFlight, context, {
        get: () => ({ value: admitted.working + admitted.held }),
        update: () => undefined,
        modify: () => undefined
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => inFlight.remove()))
      const withoutInbox = Metrics.natsRequests({ endpoint: "none", code: "no_inbox" })

      const onRequest = (message: Msg) => {
        // Who named no inbox cannot be answered, so nothing is done: the work could not be told from lost work.
        if (!isInbox(message.reply)) return withoutInbox.updateUnsafe(1, context)
        const [, , , group = "", verb = "", ...more] = message.subject.split(".")
        const route = more.length === 0 ? routes.get(`${group}.${verb}`) : undefined
        const exchange = new Exchange(link, message, route?.counter)
        if (route === undefined) return exchange.refuse(unknownEndpoint)
        const kind = route.holds ? "held" : "working"
        const bytes = exchange.body.length
        const isFull =
          admitted[kind] >= (route.holds ? options.heldMax : options.requestsMax) || admitted.bytes + bytes > bytesMax
        if (isFull) return exchange.refuse(overloaded)
        admitted[kind]++
        admitted.bytes += bytes
        run(route.carry(exchange)).addObserver(() => {
          admitted[kind]--
          admitted.bytes -= bytes
        })
      }

      const statsOf = (endpoint: string) => routes.get(endpoint)?.counter.read()
      yield* keepSubscribed(link, [
        { subject: Subjects.serviceAll, queue: queueGroup, handle: onRequest },
        ...discoverySubjects(identity).map(([subject, verb]) => ({
          subject,
          handle: (message: Msg) => {
            if (isInbox(message.reply)) link.publish(message.reply, describe(verb, identity, statsOf))
          }
        }))
      ])
    })
  )

const unknownEndpoint = new RouteNotFound({
  detail: `No such endpoint. Ask ${Subjects.service("<namespace>", "tasks", "<verb>")} or agents.<verb>, schedules.<verb>; the verbs are ${Object.keys(endpoints).join(", ")}.`
})

const overloaded = new Overloaded({
  detail: "This node works on as many requests as it takes at a time. Nothing was stored; try again.",
  retry_after_seconds: 1
})
