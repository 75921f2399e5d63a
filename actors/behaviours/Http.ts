/**
 * The behaviour `http`: one HTTP request per task, its answer as the task's result or as an artifact.
 *
 * It reaches only what GuardedFetch admits. Requests that may change something carry the task's idempotency key, the same
 * on every attempt. It must not keep anything between tasks but idle connections.
 */
import { Duration, Effect, Result, Schema, Stream } from "effect"
import { parseJsonText } from "../../protocol/JsonBody.ts"
import * as Limits from "../../protocol/Limits.ts"
import { type Attempt, type Behaviour, BehaviourFailure } from "../Behaviour.ts"
import { networkPolicy, networkSettings, urlCharactersMax } from "./AddressGuard.ts"
import { parametersOf, payloadDecoder, settingsDecoder } from "./BehaviourInput.ts"
import * as GuardedFetch from "./GuardedFetch.ts"
import { RequestHeaders } from "./RequestHeaders.ts"
import { ArtifactName, saveArtifact } from "./SavedArtifact.ts"
import { storable } from "./Storable.ts"

const defaults = { responseBytesMax: 5 * 1024 * 1024, timeoutMillis: 30_000 }
const TimeoutMillis = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Limits.timeoutMillisMax }))
const ResponseBytes = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Limits.artifactBytesMax }))

const StatusClass = Schema.Literals(["1xx", "2xx", "3xx", "4xx", "5xx"])
const Status = Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 }))

const Payload = Schema.Struct({
  url: Schema.String.check(Schema.isBetweenLength(1, urlCharactersMax)),
  /** `GET` when absent, `POST` when there is a body. */
  method: Schema.optionalKey(Schema.Literals(["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])),
  headers: Schema.optionalKey(RequestHeaders),
  /** A text is sent as it is; anything else as JSON. */
  body: Schema.optionalKey(Schema.Json),
  /** Statuses that complete the task; all of 2xx when absent. */
  expect: Schema.optionalKey(Schema.Array(Schema.Union([Status, StatusClass])).check(Schema.isBetweenLength(1, 50))),
  /** How the body is read; by its content type when absent. */
  response: Schema.optionalKey(Schema.Literals(["json", "text"])),
  /** Keeps the body as an artifact of this name instead of in the result. */
  save_as: Schema.optionalKey(ArtifactName),
  /** Lowers the agent's limit for this task. */
  timeout_ms: Schema.optionalKey(TimeoutMillis),
  /** Lowers the agent's limit for this task. */
  response_bytes_max: Schema.optionalKey(ResponseBytes)
})
type Payload = typeof Payload.Type

const Settings = Schema.Struct({
  ...networkSettings,
  /** Longest request, redirects and body included; 30 s when absent. */
  timeout_ms: Schema.optionalKey(TimeoutMillis),
  /** Largest body; 5 MiB when absent. */
  response_bytes_max: Schema.optionalKey(ResponseBytes)
})
type Settings = typeof Settings.Type

const decodePayload = payloadDecoder(Payload)
const decodeSettings = settingsDecoder(Settings)

const perform = Effect.fnUntraced(function* (fetch: GuardedFetch.GuardedFetch, settings: Settings, attempt: Attempt) {
  const payload = yield* decodePayload(attempt.payload)
  const method = payload.method ?? (payload.body === undefined ? "GET" : "POST")
  if (payload.body !== undefined && (method === "GET" || method === "HEAD")) {
    return yield* refused("payload_invalid", `the payload is refused: body: a ${method} request has none`)
  }
  const expected = new Set<number | string>(payload.expect ?? ["2xx"])
  const request: GuardedFetch.FetchRequest = {
    method,
    url: payload.url,
    headers: headersOf(payload, method, attempt),
    body: typeof payload.body === "string" || payload.body === undefined ? payload.body : JSON.stringify(payload.body),
    bytesMax: lower(payload.response_bytes_max, settings.response_bytes_max ?? defaults.responseBytesMax),
    timeout: Duration.millis(lower(payload.timeout_ms, settings.timeout_ms ?? defaults.timeoutMillis)),
    accepts: (status) => expected.has(status) || expected.has(`${Math.floor(status / 100)}xx`)
  }
  return yield* fetch(request, (response) => resultOf(response, payload, attempt))
})

const lower = (asked: number | undefined, limit: number) => Math.min(asked ?? limit, limit)

const headersOf = (payload: Payload, method: string, attempt: Attempt): Record<string, string> => {
  const given = Object.entries(payload.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value] as const)
  const changes = !["GET", "HEAD", "OPTIONS"].includes(method)
  return {
    ...(payload.body !== undefined && {
      "content-type": typeof payload.body === "string" ? "text/plain; charset=utf-8" : "application/json"
    }),
    ...(changes && { "idempotency-key": attempt.idempotencyKey }),
    ...Object.fromEntries(given)
  }
}

const resultOf = Effect.fnUntraced(function* (
  response: GuardedFetch.FetchResponse,
  payload: Payload,
  attempt: Attempt
) {
  const about = {
    status: response.status,
    url: response.url.href,
    redirects: response.redirects,
    content_type: response.contentType,
    headers: response.headers
  }
  if (payload.save_as !== undefined) {
    const artifact = yield* saveArtifact({
      namespace: attempt.namespace,
      name: payload.save_as,
      contentType: response.contentType === "" ? "application/octet-stream" : response.contentType,
      content: response.bytes
    })
    return { ...about, size_bytes: artifact.size_bytes, artifact }
  }
  const bytes = Buffer.concat(yield* Stream.runCollect(response.bytes))
  const body = yield* bodyOf(response, payload.response ?? readingOf(response.contentType), bytes)
  const result = { ...about, size_bytes: bytes.length, body }
  const resultBytes = Buffer.byteLength(JSON.stringify(result))
  if (resultBytes > Limits.resultBytesMax) {
    return yield* refused(
      "result_too_large",
      `the answer makes a result of ${resultBytes} bytes; at most ${Limits.resultBytesMax} fit. Ask for save_as to keep it as an artifact.`
    )
  }
  return result
})

type Reading = "json" | "text" | "binary"

const readingOf = (contentType: string): Reading => {
  if (/^application\/(.+\+)?json$/u.test(contentType)) return "json"
  const isText =
    /^(|text\/.+|.+\+xml|application\/(xml|csv|x-ndjson|javascript|yaml|x-yaml|sql|x-www-form-urlencoded))$/u
  return isText.test(contentType) ? "text" : "binary"
}

const bodyOf = (response: GuardedFetch.FetchResponse, reading: Reading, bytes: Buffer) => {
  if (bytes.length === 0) return Effect.succeed(null)
  if (reading === "binary") {
    return refused(
      "http_binary",
      `the answer is ${response.contentType}, which is no text. Ask for save_as to keep it as an artifact, or for response: text.`
    )
  }
  const text = decodeText(bytes, response.headers["content-type"] ?? "")
  if (reading === "text") return Effect.succeed(storable(text))
  const json = parseJsonText(text)
  return Result.isSuccess(json)
    ? Effect.succeed(json.success)
    : refused("http_json", `the answer cannot be read as JSON: ${json.failure.detail}`)
}

/** By the charset that the server names, else UTF-8; what is not of it becomes U+FFFD. */
const decodeText = (bytes: Buffer, contentType: string): string => {
  const charset = /charset="?(?<name>[A-Za-z0-9_.:-]{1,40})/iu.exec(contentType)?.groups?.["name"] ?? "utf-8"
  const decoder = Result.getOrElse(
    Result.try(() => new TextDecoder(charset)),
    () => new TextDecoder()
  )
  return decoder.decode(bytes)
}

const refused = (code: string, message: string) =>
  Effect.fail(new BehaviourFailure({ code, message, retryable: false }))

export const http: Behaviour = {
  type: "http",
  description: "Sends one HTTP request per task; private addresses only when settings.allow_private names them.",
  capabilities: [
    {
      name: "http.fetch",
      version: "1",
      description:
        "Returns {status, url, redirects, content_type, headers, size_bytes} with the body as JSON or text, or with the artifact that save_as asks for.",
      parameters: parametersOf(Payload)
    }
  ],
  check: decodeSettings,
  open: Effect.fnUntraced(function* (given) {
    const settings = yield* decodeSettings(given)
    const fetch = yield* GuardedFetch.open(networkPolicy(settings))
    return (attempt) => perform(fetch, settings, attempt)
  })
}
