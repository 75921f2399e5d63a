/**
 * Carries the HTTP contract of webhooks to their use cases. Answers that hold a secret are not to be stored on the way.
 */
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { etag, prefix } from "../../protocol/api/Wire.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { CreateWebhook, ReplayDeliveries, RotateWebhook, UpdateWebhook } from "../../protocol/Webhook.ts"
import { Webhooks } from "../app/Webhooks.ts"
import { addHeaders } from "./answers.ts"
import { makeBodyReader } from "./JsonRequest.ts"

const decodeCreate = inputDecoder(CreateWebhook)
const decodeUpdate = inputDecoder(UpdateWebhook)
const decodeRotate = inputDecoder(RotateWebhook)
const decodeReplay = inputDecoder(ReplayDeliveries)

const versioned = <A extends { readonly version: number }>(webhook: A) =>
  Effect.as(addHeaders({ etag: etag(webhook.version) }), webhook)

const once = { "cache-control": "no-store" }

export const layer = HttpApiBuilder.group(
  Api,
  "webhooks",
  Effect.fnUntraced(function* (handlers) {
    const webhooks = yield* Webhooks
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const webhook = yield* webhooks.create(yield* body.command(decodeCreate))
          yield* addHeaders({ ...once, location: `${prefix}/webhooks/${webhook.id}` })
          return yield* versioned(webhook)
        })
      )
      .handleRaw(
        "update",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeUpdate)
          return yield* Effect.flatMap(webhooks.update(params.id, command, headers["if-match"]), versioned)
        })
      )
      .handleRaw(
        "rotate",
        Effect.fnUntraced(function* ({ params }) {
          const rotated = yield* webhooks.rotate(params.id, yield* body.command(decodeRotate, { whenEmpty: {} }))
          yield* addHeaders(once)
          return rotated
        })
      )
      .handleRaw(
        "replay",
        Effect.fnUntraced(function* ({ params }) {
          return yield* webhooks.replay(params.id, yield* body.command(decodeReplay))
        })
      )
      .handleAll({
        list: ({ query }) => webhooks.list(query),
        get: ({ params }) => Effect.flatMap(webhooks.get(params.id), versioned),
        remove: ({ params }) => webhooks.remove(params.id),
        test: ({ params }) => webhooks.test(params.id),
        enable: ({ params }) => webhooks.enable(params.id),
        disable: ({ params }) => webhooks.disable(params.id),
        deliveries: ({ params, query }) => webhooks.deliveries(params.id, query),
        replayOne: ({ params }) => webhooks.replayOne(params.id, params.delivery)
      })
  })
)
