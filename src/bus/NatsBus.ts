/**
 * The bus on NATS: dispatch through stream TASKS, events through stream EVENTS, notices over core NATS.
 *
 * Invariant: nothing that arrives can stop it, be it undecodable, doubled or foreign, and no handler that throws; no
 * call waits for the server except `consume`. Streams that are lost are made again, consumers by whoever consumes.
 *
 * A user of NATS for a node needs: publish `task.>`, `event.>`, `chunk.>`, `notice.>`, `survey.>`, `_NODE.>`, `$JS.API.STREAM.{INFO,CREATE,UPDATE}.*`,
 * `$JS.API.CONSUMER.{INFO,CREATE}.TASKS.>`, `$JS.API.CONSUMER.MSG.NEXT.TASKS.*`, `$JS.ACK.>`; subscribe `event.>`,
 * `chunk.>`, `notice.>`, `survey.>`, `_NODE.>`; and what the micro service needs.
 */
import { AckPolicy, type ConsumerConfig, DeliverPolicy, JetStreamApiCodes, JetStreamApiError } from "@nats-io/jetstream"
import { nanos } from "@nats-io/transport-node"
import { Context, Duration, Effect, Layer, Queue, Result, Semaphore } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import * as Subjects from "../../protocol/Subjects.ts"
import * as Chunks from "./Chunks.ts"
import * as DispatchCodec from "./DispatchCodec.ts"
import * as DispatchPublisher from "./DispatchPublisher.ts"
import * as Events from "./Events.ts"
import * as Evidence from "./Evidence.ts"
import { Nats } from "./Nats.ts"
import * as Notices from "./Notices.ts"
import * as PullConsumer from "./PullConsumer.ts"
import { isApiError, Streams } from "./Streams.ts"
import * as Surveys from "./Surveys.ts"

export const ConsumerLimits = Context.Reference<{
  /** Time after which the server delivers an unacknowledged message again. */
  readonly ackWait: Duration.Duration
  /** Unacknowledged messages of one lane, all instances together. */
  readonly unacknowledgedMax: number
  /** Time without any consumer after which the server forgets a lane's; its messages stay. */
  readonly forgottenAfter: Duration.Duration
  /** Consumers that are being made at a time: after a restart of the server all of them are, at 1 ms of it each. */
  readonly madeAtATime: number
}>("datamcp/bus/ConsumerLimits", {
  defaultValue: () => ({
    ackWait: Duration.seconds(30),
    unacknowledgedMax: 5_000,
    forgottenAfter: Duration.minutes(5),
    madeAtATime: 8
  })
})

const make = Effect.gen(function* () {
  const limits = yield* ConsumerLimits
  const nats = yield* Nats
  const streams = yield* Streams
  const context = yield* Effect.context<never>()
  const evidence = yield* Evidence.make
  const notices = yield* Notices.make(nats, evidence)
  const surveys = yield* Surveys.make(nats, evidence)
  const events = yield* Events.make(nats, evidence)
  const chunks = yield* Chunks.make(nats, evidence)

  const wanted = yield* Queue.sliding<"heal">(1)
  const wantHealing = () => {
    Queue.offerUnsafe(wanted, "heal")
  }
  const publisher = yield* DispatchPublisher.make(nats, wantHealing)

  /** After a refusal, a reconnect, and now and then, for a stream that vanished while nobody published. */
  const heal = Effect.gen(function* () {
    yield* Effect.timeoutOption(Queue.take(wanted), "15 seconds")
    if (!nats.connected()) return
    const made = yield* streams.heal
    if (made.length > 0) publisher.hurry()
  }).pipe(
    Effect.catch((error) => Effect.logDebug("the streams could not be looked at", error)),
    Effect.andThen(Effect.sleep("250 millis"))
  )
  yield* nats.onConnection((connected) => {
    if (connected) wantHealing()
  })
  yield* Effect.forkScoped(Effect.forever(heal))

  const making = yield* Semaphore.make(limits.madeAtATime)
  const ensureConsumer = Effect.fnUntraced(function* (
    config: Partial<ConsumerConfig> & { readonly durable_name: string }
  ) {
    const consumers = nats.manager.consumers
    const add = nats.request("make consumer", () => consumers.add(Subjects.dispatchStream, config))
    yield* add.pipe(
      Effect.catchIf(
        (error) => isApiError(error.cause, JetStreamApiCodes.StreamNotFound),
        () => Effect.andThen(streams.heal, add)
      ),
      // It is there with another configuration, made by an older version of us.
      Effect.catchIf(
        (error) => isApiError(error.cause, ...consumerExists),
        () =>
          nats
            .request("update consumer", () => consumers.update(Subjects.dispatchStream, config.durable_name, config))
            .pipe(
              Effect.catchIf(
                (error) => error.cause instanceof JetStreamApiError,
                (error) => Effect.logDebug(`consumer ${config.durable_name} is used as it is`, error)
              )
            )
      )
    )
  }, making.withPermits(1))

  const consume: Bus["Service"]["consume"] = Effect.fnUntraced(function* ({
    agentId,
    lane,
    namespace,
    onDelivery,
    prefetch
  }) {
    const subject = Subjects.dispatch({ namespace, agentId, lane })
    const consumer = Subjects.consumerName({ agentId, lane })
    const from = { namespace, lane }

    const onMessage = (message: PullConsumer.HeldMessage) => {
      if (message.deliveries > 1) Metrics.dispatchRedelivered.updateUnsafe(1, context)
      const { ack, data, sequence, working } = message
      const decoded = DispatchCodec.decode(data, from)
      if (Result.isFailure(decoded)) {
        evidence.undecodable({ kind: "dispatch", subject, bytes: data.length, sequence, reason: decoded.failure })
        return message.terminate("undecodable")
      }
      const { orders, refused } = decoded.success
      if (refused > 0) {
        const reason = `${refused} of its ${orders.length + refused} orders are not sound`
        evidence.undecodable({ kind: "dispatch", subject, bytes: data.length, sequence, reason })
      }
      // Its redelivery is late enough not to spin.
      if (!evidence.guard("dispatch", () => onDelivery({ orders, ack, working }))) message.release(5_000)
    }

    yield* ensureConsumer({ ...consumerConfig(limits), durable_name: consumer, filter_subject: subject })
    return yield* PullConsumer.pull(nats, { stream: Subjects.dispatchStream, consumer, prefetch, onMessage })
  })

  return Bus.of({
    connected: nats.connected,
    dispatch: (orders) =>
      Effect.sync(() => {
        for (const message of DispatchCodec.encode(orders)) publisher.publish(message)
      }),
    consume,
    notify: notices.notify,
    onNotice: notices.onNotice,
    survey: surveys.survey,
    onSurvey: surveys.onSurvey,
    publishEvents: events.publish,
    onEvents: events.onEvents,
    publishChunks: chunks.publish,
    onChunks: chunks.onChunks
  })
})

/** "consumer name already in use", "consumer already exists". */
const consumerExists = [10_013, 10_105, 10_148]

/** In memory, because a file per consumer costs the stream its speed; a lost one is made again from the stream. */
const consumerConfig = (limits: {
  readonly ackWait: Duration.Duration
  readonly unacknowledgedMax: number
  readonly forgottenAfter: Duration.Duration
}) => ({
  ack_policy: AckPolicy.Explicit,
  deliver_policy: DeliverPolicy.All,
  ack_wait: nanos(Duration.toMillis(limits.ackWait)),
  max_deliver: -1,
  max_ack_pending: limits.unacknowledgedMax,
  mem_storage: true,
  inactive_threshold: nanos(Duration.toMillis(limits.forgottenAfter))
})

/** Needs the connection. Fails when the streams cannot be made. */
export const layer = Layer.effect(Bus, make).pipe(Layer.provide(Streams.layer))
