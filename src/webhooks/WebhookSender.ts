/**
 * Sends one delivery once: signed, to an admitted address only, without following redirects, within its time, reading a
 * bounded part of the answer. What comes of it is recorded by whoever asked.
 */
import { Clock, Context, Duration, Effect, Layer, Stream } from "effect"
import * as GuardedFetch from "../../actors/behaviours/GuardedFetch.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { ClaimedDelivery } from "../ledger/WebhookDeliveries.ts"
import { type AttemptResult, retryAfterMillis } from "./DeliveryPolicy.ts"
import { signatures } from "./Signature.ts"
import { refusedAddress, WebhookNetwork } from "./WebhookNetwork.ts"

export interface Sent extends AttemptResult {
  readonly durationMillis: number
}

export class WebhookSender extends Context.Service<
  WebhookSender,
  {
    /** Never fails: no answer is a result as well. Interruption breaks the request off. */
    readonly send: (delivery: ClaimedDelivery) => Effect.Effect<Sent>
  }
>()("datamcp/webhooks/WebhookSender") {
  static readonly layer = Layer.effect(
    WebhookSender,
    Effect.gen(function* () {
      const fetch = yield* GuardedFetch.open(yield* WebhookNetwork)

      const send = Effect.fn("WebhookSender.send")(function* (delivery: ClaimedDelivery) {
        const begun = yield* Clock.currentTimeMillis
        const timestamp = String(Math.floor(begun / 1_000))
        const message = { id: delivery.id, timestamp, body: delivery.body }
        const secrets = [delivery.secret, ...(delivery.previous_secret === null ? [] : [delivery.previous_secret])]
        const result: AttemptResult = yield* fetch(
          {
            method: "POST",
            url: delivery.url,
            headers: {
              "content-type": "application/json",
              "user-agent": "datamcp-webhooks",
              "webhook-id": delivery.id,
              "webhook-timestamp": timestamp,
              "webhook-signature": signatures(secrets, message)
            },
            body: delivery.body,
            bytesMax: Limits.webhookAnswerBytesMax,
            timeout: Duration.millis(delivery.timeout_ms),
            // All of them: a redirect is an answer like any other, and never followed.
            accepts: () => true
          },
          (response) => answered(response)
        ).pipe(
          Effect.catch((failure) =>
            Effect.succeed({
              responseStatus: undefined,
              retryAfterMillis: undefined,
              error: failure.code === "http_destination_refused" ? `its URL ${refusedAddress}` : failure.message
            })
          )
        )
        return { ...result, durationMillis: (yield* Clock.currentTimeMillis) - begun }
      })

      return WebhookSender.of({ send })
    })
  )
}

const answered = Effect.fnUntraced(function* ({ bytes, headers, status }: GuardedFetch.FetchResponse) {
  // Read to its end where that is near, so that the connection can be used again. What it says does not matter.
  yield* Stream.runDrain(bytes).pipe(Effect.timeoutOption(drainTime), Effect.ignore)
  const isRight = status >= 200 && status < 300
  return {
    responseStatus: status,
    retryAfterMillis: retryAfterMillis(headers["retry-after"], yield* Clock.currentTimeMillis),
    error: isRight ? undefined : status >= 300 && status < 400 ? `${status}: redirects are not followed` : `${status}`
  } satisfies AttemptResult
})

/** The answer's head decides; its body is waited for no longer than this. */
const drainTime = Duration.seconds(1)
