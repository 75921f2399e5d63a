/**
 * Carries the HTTP contract of hooks to their use cases: their definition, and the requests of those who use them.
 *
 * A request's body is handed on as the bytes that came, because signatures are made over these.
 */
import { Effect } from "effect"
import { HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../../protocol/api/Api.ts"
import { etag, prefix } from "../../protocol/api/Wire.ts"
import { CreateHook, RotateHook, UpdateHook } from "../../protocol/Hook.ts"
import { inputDecoder } from "../../protocol/InputDecoder.ts"
import { parseJsonBytes } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { withSpanFrom } from "../../protocol/TraceContext.ts"
import { Hooks } from "../app/Hooks.ts"
import { addHeaders } from "./answers.ts"
import { type JsonProblem, json, makeBodyReader } from "./JsonRequest.ts"
import { currentExchange } from "./nodeRequest.ts"

const decodeCreate = inputDecoder(CreateHook)
const decodeUpdate = inputDecoder(UpdateHook)
const decodeRotate = inputDecoder(RotateHook)

const versioned = <A extends { readonly version: number }>(hook: A) =>
  Effect.as(addHeaders({ etag: etag(hook.version) }), hook)

const once = { "cache-control": "no-store" }

export const layer = HttpApiBuilder.group(
  Api,
  "hooks",
  Effect.fnUntraced(function* (handlers) {
    const hooks = yield* Hooks
    const body = yield* makeBodyReader
    return handlers
      .handleRaw(
        "create",
        Effect.fnUntraced(function* () {
          const hook = yield* hooks.create(yield* body.command(decodeCreate))
          yield* addHeaders({ ...once, location: `${prefix}/hooks/${hook.id}` })
          return yield* versioned(hook)
        })
      )
      .handleRaw(
        "update",
        Effect.fnUntraced(function* ({ headers, params }) {
          const command = yield* body.command(decodeUpdate)
          return yield* Effect.flatMap(hooks.update(params.id, command, headers["if-match"]), versioned)
        })
      )
      .handleRaw(
        "rotate",
        Effect.fnUntraced(function* ({ params }) {
          const rotated = yield* hooks.rotate(params.id, yield* body.command(decodeRotate, { whenEmpty: {} }))
          yield* addHeaders(once)
          return rotated
        })
      )
      .handleAll({
        list: ({ query }) => hooks.list(query),
        get: ({ params }) => Effect.flatMap(hooks.get(params.id), versioned),
        remove: ({ params }) => hooks.remove(params.id)
      })
  })
)

export const callLayer = HttpApiBuilder.group(
  Api,
  "hookCalls",
  Effect.fnUntraced(function* (handlers) {
    const hooks = yield* Hooks
    const body = yield* makeBodyReader

    const call = Effect.fnUntraced(function* (id: string, secret: string | undefined) {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      return yield* hooks.call<JsonProblem, HttpServerRequest.HttpServerRequest>({
        id,
        secret,
        headers,
        body: body.bytes(Limits.hookBodyBytesMax, [json]),
        decode: (bytes) => parseJsonBytes(bytes, Limits.hookBodyBytesMax)
      })
    })

    return handlers
      .handleRaw(
        "bySecret",
        Effect.fnUntraced(function* ({ params }) {
          // The server's own span would hold the URL (HttpServer.ts), so this one stands in for it.
          const { route, traceparent } = yield* currentExchange
          const traced = withSpanFrom(traceparent, "http.server POST", {
            kind: "server",
            attributes: { "http.route": route }
          })
          return yield* traced(call(params.id, params.secret))
        })
      )
      .handleRaw("bySignature", ({ params }) => call(params.id, undefined))
  })
)
