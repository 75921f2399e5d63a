/**
 * The loops that carry events to webhooks: on every node, turn the journal into deliveries, claim those whose time has come,
 * send them, record what came of it; on one node, keep the log within its bounds.
 *
 * Invariant: at most `inFlightMax` deliveries are in the hands of this node. A node that stops gives its own back; one that
 * dies holds them until its claims run out. Everything survives Postgres being away: what cannot be done now is done later.
 */
import { Cause, Context, Duration, Effect, FiberSet, Layer, Metric, Random, Schedule } from "effect"
import { Bus } from "../../actors/ports/Bus.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import * as Metrics from "../../protocol/Metrics.ts"
import { type ClaimedDelivery, WebhookDeliveries } from "../ledger/WebhookDeliveries.ts"
import { verdictOf } from "./DeliveryPolicy.ts"
import { WebhookSender } from "./WebhookSender.ts"

export const WebhookLimits = Context.Reference<{
  /** Deliveries that this node sends at a time. */
  readonly inFlightMax: number
  /** Events that one transaction fans out, about. */
  readonly fanOutEvents: number
  /** How often an idle node looks for work. */
  readonly lookEvery: Duration.Duration
  /** How long a claim holds: longer than any attempt. */
  readonly lease: Duration.Duration
  readonly tidyEvery: Duration.Duration
}>("datamcp/webhooks/WebhookLimits", {
  defaultValue: () => ({
    inFlightMax: 256,
    fanOutEvents: 2_000,
    lookEvery: Duration.millis(250),
    lease: Duration.seconds(15),
    tidyEvery: Duration.seconds(30)
  })
})

/** A result that cannot be recorded is told again for a while; then the claim runs out, and the delivery is sent once more. */
const again = { schedule: Schedule.exponential("200 millis"), times: 5 }

/** Runs for as long as its scope. */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const deliveries = yield* WebhookDeliveries
    const sender = yield* WebhookSender
    const bus = yield* Bus
    const placement = yield* Placement
    const limits = yield* WebhookLimits
    const sending = yield* FiberSet.make<void>()
    let inFlight = 0

    const settled = Effect.fnUntraced(function* (delivery: ClaimedDelivery) {
      const sent = yield* sender.send(delivery)
      const granted = delivery.retry.max_attempts ?? delivery.attempts_until
      const verdict = verdictOf(sent, {
        number: Math.max(1, granted - (delivery.attempts_until - delivery.attempt)),
        last: delivery.attempt >= delivery.attempts_until,
        retry: delivery.retry,
        remainingMillis: delivery.remaining_ms,
        chance: yield* Random.next
      })
      const end = { ...sent, ...verdict }
      const disabled = yield* Effect.retry(deliveries.settle(delivery, end), again)
      yield* Metric.update(Metrics.webhookAttempts({ outcome: outcomes[verdict.status] }), 1)
      if (disabled === undefined) return
      yield* bus.publishEvents([disabled])
      yield* Effect.logWarning("a webhook was disabled").pipe(
        Effect.annotateLogs({ webhook: delivery.webhook_id, namespace: delivery.namespace })
      )
    })

    const carry = (delivery: ClaimedDelivery) =>
      settled(delivery).pipe(
        // What cannot be given back is sent by whoever comes once its claim is over.
        Effect.onInterrupt(() => Effect.ignore(deliveries.release(delivery))),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.interrupt
            : Effect.logWarning("what became of a delivery could not be recorded; it will be sent again", cause)
        ),
        Effect.ensuring(
          Effect.suspend(() => {
            inFlight--
            return Metric.update(Metrics.webhooksInFlight, inFlight)
          })
        )
      )

    /** How much was found to do. */
    const look = Effect.gen(function* () {
      if (!placement.takesWork()) return 0
      const fannedOut = yield* deliveries.fanOut(limits.fanOutEvents)
      const free = limits.inFlightMax - inFlight
      if (free <= 0) return 0
      const claimed = yield* Effect.uninterruptible(
        Effect.tap(deliveries.claim(free, limits.lease), (found) =>
          Effect.forEach(found, (delivery) => {
            inFlight++
            return FiberSet.run(sending, carry(delivery))
          })
        )
      )
      if (claimed.length > 0) yield* Metric.update(Metrics.webhooksInFlight, inFlight)
      return fannedOut + claimed.length
    })

    yield* look.pipe(
      Effect.catchCause((cause) => Effect.as(Effect.logDebug("webhooks could not be looked after", cause), 0)),
      Effect.flatMap((found) => (found > 0 ? Effect.yieldNow : Effect.sleep(limits.lookEvery))),
      Effect.forever,
      Effect.forkScoped
    )

    const tidy = Effect.gen(function* () {
      const disabled = yield* deliveries.tidy
      if (disabled.length > 0) yield* bus.publishEvents(disabled)
      yield* deliveries.rest
    })
    yield* placement.singleton(
      "webhooks/tidy",
      tidy.pipe(
        Effect.catchCause((cause) => Effect.logDebug("the log of webhooks could not be tidied", cause)),
        Effect.andThen(Effect.sleep(limits.tidyEvery)),
        Effect.forever
      )
    )
  })
)

const outcomes = { delivered: "delivered", pending: "retried", failed: "failed" } as const
