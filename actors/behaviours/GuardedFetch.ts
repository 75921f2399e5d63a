/**
 * HTTP as tasks may use it: every socket goes to an address that the network policy admits, every redirect is judged
 * anew, and time, bytes and connections are bounded. Shared by `http` and by the URL inputs of `sql`.
 *
 * Interruption, a time limit or an end of interest destroys the socket at once. It reads no proxy settings, keeps no
 * cookies, and sends what the caller put in headers to the first origin only.
 */
import { pipeline, type Readable } from "node:stream"
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib"
import { Clock, Duration, Effect, Result, type Scope, Stream } from "effect"
import * as undici from "undici"
import * as Limits from "../../protocol/Limits.ts"
import { BehaviourFailure } from "../Behaviour.ts"
import { HostResolver, type NetworkPolicy, parseUrl, type ResolvedAddress, resolveAdmitted } from "./AddressGuard.ts"
import { failed, failureOf } from "./FetchFailure.ts"
import { storable } from "./Storable.ts"

export const redirectsMax = 3
/** Open sockets of one agent instance to one origin, and origins it keeps sockets to. Others wait for a free one. */
const connectionsPerOriginMax = 32
const originsMax = 256
/** How much of the body of a refused response stands in the failure, in bytes. */
const excerptBytesMax = 2_048
const headerBytesMax = 16 * 1024
const connectTimeoutMillis = 10_000

export interface FetchRequest {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
  /** Most bytes of the body, as sent and as decoded. */
  readonly bytesMax: number
  /** For all of it: redirects, the answer, and what `consume` does. */
  readonly timeout: Duration.Duration
  /** Which statuses are given to `consume`; others fail with `http_status`. */
  readonly accepts: (status: number) => boolean
}

export interface FetchResponse {
  readonly status: number
  /** Where it came from in the end. */
  readonly url: URL
  readonly redirects: number
  /** Names in lower case; repeated ones joined by commas. `set-cookie` is left out. */
  readonly headers: Readonly<Record<string, string>>
  /** Lower case, without parameters; empty when the server gave none. */
  readonly contentType: string
  /** As announced, when the body is sent as it is. */
  readonly lengthBytes: number | undefined
  /** Decoded body. Fails above `bytesMax`. */
  readonly bytes: Stream.Stream<Uint8Array, BehaviourFailure>
}

/**
 * Sends one request and hands its answer over; the socket is let go when `consume` ends. Fails with the codes
 * `http_url`, `http_destination_refused`, `http_redirects`, `http_status`, `http_timeout`, `http_network`, `http_tls`,
 * `http_encoding` and `http_too_large`.
 */
export type GuardedFetch = <A, E, R>(
  request: FetchRequest,
  consume: (response: FetchResponse) => Effect.Effect<A, E, R>
) => Effect.Effect<A, E | BehaviourFailure, Exclude<R, Scope.Scope>>

/** Opens a pool of connections that lives as long as the scope. */
export const open = (policy: NetworkPolicy): Effect.Effect<GuardedFetch, never, Scope.Scope> =>
  Effect.gen(function* () {
    const resolve = yield* HostResolver
    const agent = yield* Effect.acquireRelease(
      Effect.sync(() => agentOf(policy, resolve)),
      (opened) => Effect.promise(() => opened.destroy())
    )
    return (request, consume) =>
      follow(agent, request).pipe(
        Effect.flatMap(consume),
        Effect.scoped,
        Effect.timeoutOrElse({
          duration: request.timeout,
          orElse: () =>
            failed("http_timeout", `${request.url} took longer than ${Duration.format(request.timeout)}`, true)
        })
      )
  })

const agentOf = (policy: NetworkPolicy, resolve: (hostname: string) => Promise<ReadonlyArray<ResolvedAddress>>) =>
  new undici.Agent({
    connections: connectionsPerOriginMax,
    maxOrigins: originsMax,
    maxHeaderSize: headerBytesMax,
    connectTimeout: connectTimeoutMillis,
    // The socket resolves through this function alone and connects to what it answers: nothing can change in between.
    connect: (options, callback) => {
      const { hostname } = options
      const port = Number(options.port) || (options.protocol === "https:" ? 443 : 80)
      const addresses = resolveAdmitted(policy, { hostname, port }, resolve)
      addresses.then(
        (admitted) =>
          undici.buildConnector({
            timeout: connectTimeoutMillis,
            allowH2: false,
            maxCachedSessions: 0,
            autoSelectFamily: true,
            lookup: (_hostname, { all }, answer) => {
              const [first] = admitted
              if (first === undefined) answer(new Error("no address"), "")
              else if (all === true) answer(null, [...admitted])
              else answer(null, first.address, first.family)
            }
          })(options, callback),
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null)
      )
    }
  })

interface Hop {
  readonly url: URL
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

const follow = Effect.fnUntraced(function* (agent: undici.Agent, request: FetchRequest) {
  let hop: Hop = { ...request, url: yield* urlOf(request.url, "") }
  for (let redirects = 0; ; redirects++) {
    const answer = yield* exchange(agent, hop)
    const location = request.accepts(answer.statusCode) ? undefined : redirectOf(answer)
    if (location === undefined) {
      const response = yield* responseOf(answer, { request, url: hop.url, redirects })
      return request.accepts(answer.statusCode) ? response : yield* refusedStatus(response)
    }
    if (redirects === redirectsMax) {
      return yield* failed("http_redirects", `${request.url} redirects more than ${redirectsMax} times`, false)
    }
    answer.body.destroy()
    hop = yield* nextHop(hop, answer.statusCode, location)
  }
})

const exchange = (agent: undici.Agent, hop: Hop) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async (signal) => {
        const answer = await agent.request({
          origin: hop.url.origin,
          path: `${hop.url.pathname}${hop.url.search}`,
          method: hop.method,
          headers: { "user-agent": "datamcp", "accept-encoding": "gzip, deflate, br, zstd", ...hop.headers },
          ...(hop.body !== undefined && { body: hop.body }),
          signal
        })
        answer.body.on("error", nobodyListens)
        return answer
      },
      catch: (cause) => failureOf(cause, hop.url)
    }),
    ({ body }) => Effect.sync(() => body.destroy()),
    { interruptible: true }
  )

/** Whoever reads the body is told of its errors; one that breaks off unread must not become an uncaught exception. */
const nobodyListens = () => {}

const urlOf = (text: string, what: string): Effect.Effect<URL, BehaviourFailure> => {
  const url = parseUrl(text)
  return Result.isSuccess(url)
    ? Effect.succeed(url.success)
    : failed("http_url", `the URL ${what}${url.failure}`, false)
}

const redirectOf = ({ headers, statusCode }: undici.Dispatcher.ResponseData): string | undefined =>
  [301, 302, 303, 307, 308].includes(statusCode) && typeof headers["location"] === "string"
    ? headers["location"]
    : undefined

/** The next request, as fetch.spec.whatwg.org says ("HTTP-redirect fetch"); stricter about headers of the caller. */
const nextHop = Effect.fnUntraced(function* (hop: Hop, status: number, location: string) {
  const target = URL.parse(location, hop.url)
  const url = yield* urlOf(target?.href ?? "", "it redirects to ")
  if (hop.url.protocol === "https:" && url.protocol === "http:") {
    return yield* failed("http_redirects", `${hop.url.origin} redirects from https to http`, false)
  }
  const becomesGet = (status === 303 && hop.method !== "HEAD") || ([301, 302].includes(status) && hop.method === "POST")
  const method = becomesGet ? "GET" : hop.method
  const body = becomesGet ? undefined : hop.body
  const kept = Object.entries(hop.headers).filter(
    ([name]) =>
      (url.origin === hop.url.origin || crossesOrigins.has(name)) && (body !== undefined || !describesBody(name))
  )
  return { url, method, body, headers: Object.fromEntries(kept) } satisfies Hop
})

/** Any other header may be a credential, whatever its name. */
const crossesOrigins: ReadonlySet<string> = new Set([
  "accept",
  "accept-language",
  "content-type",
  "content-language",
  "user-agent",
  "idempotency-key"
])

const describesBody = (name: string) => name.startsWith("content-")

const responseOf = Effect.fnUntraced(function* (
  answer: undici.Dispatcher.ResponseData,
  from: { readonly request: FetchRequest; readonly url: URL; readonly redirects: number }
) {
  const headers = Object.fromEntries(
    Object.entries(answer.headers).flatMap(([name, value]) =>
      value === undefined || name === "set-cookie"
        ? []
        : [[name, storable(Array.isArray(value) ? value.join(", ") : value)]]
    )
  )
  const encodings = encodingsOf(headers["content-encoding"])
  const length = Number(headers["content-length"] ?? Number.NaN)
  const lengthBytes = encodings.length === 0 && Number.isSafeInteger(length) ? length : undefined
  const body = yield* decoded(answer.body, encodings)
  const response: FetchResponse = {
    status: answer.statusCode,
    url: from.url,
    redirects: from.redirects,
    headers,
    contentType: (headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase() ?? "",
    lengthBytes,
    bytes: bounded(body, from.request.bytesMax, from.url)
  }
  return response
})

const encodingsOf = (header: string | undefined): ReadonlyArray<string> =>
  (header ?? "")
    .toLowerCase()
    .split(",")
    .map((encoding) => encoding.trim())
    .filter((encoding) => encoding !== "" && encoding !== "identity")

const decoded = (body: Readable, encodings: ReadonlyArray<string>): Effect.Effect<Readable, BehaviourFailure> => {
  const [encoding, ...more] = encodings
  if (encoding === undefined) return Effect.succeed(body)
  const decoder = decoders.get(encoding)
  return decoder === undefined || more.length > 0
    ? failed("http_encoding", `the response is encoded as ${encodings.join(", ")}, which is not supported`, false)
    : Effect.sync(() => pipeline(body, decoder(), nobodyListens))
}

const decoders = new Map<string, () => NodeJS.ReadWriteStream & Readable>([
  ["gzip", createGunzip],
  ["x-gzip", createGunzip],
  ["deflate", createInflate],
  ["br", createBrotliDecompress],
  ["zstd", createZstdDecompress]
])

/** Counted after decoding, piece by piece: a small body that grows without end stops at the limit. */
const bounded = (body: Readable, bytesMax: number, url: URL): Stream.Stream<Uint8Array, BehaviourFailure> =>
  Stream.suspend(() => {
    let received = 0
    return Stream.fromAsyncIterable<Uint8Array, BehaviourFailure>(body, (cause) => failureOf(cause, url)).pipe(
      Stream.mapEffect((piece) => {
        received += piece.length
        return received <= bytesMax
          ? Effect.succeed(piece)
          : failed("http_too_large", `the body of ${url.origin}${url.pathname} has more than ${bytesMax} bytes`, false)
      })
    )
  })

const refusedStatus = Effect.fnUntraced(function* (response: FetchResponse) {
  const { status, url } = response
  const excerpt = yield* readAtMost(response.bytes, excerptBytesMax)
  const wait = waitOf(response.headers["retry-after"], yield* Clock.currentTimeMillis)
  const retryable = status >= 500 || [408, 425, 429].includes(status)
  return yield* new BehaviourFailure({
    code: "http_status",
    message: `${url.origin}${url.pathname} answered ${status}`,
    retryable,
    ...(retryable && wait !== undefined && { retryAfterMillis: wait }),
    details: { status, url: url.href, content_type: response.contentType, body: storable(excerpt) }
  })
})

const readAtMost = (bytes: Stream.Stream<Uint8Array, BehaviourFailure>, bytesMax: number) => {
  const pieces: Array<Uint8Array> = []
  let received = 0
  return bytes.pipe(
    Stream.takeWhile(() => received < bytesMax),
    Stream.runForEach((piece) => Effect.sync(() => (received += pieces.push(piece) > 0 ? piece.length : 0))),
    Effect.ignore,
    Effect.map(() => new TextDecoder().decode(Buffer.concat(pieces).subarray(0, bytesMax)))
  )
}

/** `Retry-After`: seconds or a date (RFC 9110 section 10.2.3), in milliseconds from now. */
const waitOf = (header: string | undefined, nowMillis: number): number | undefined => {
  if (header === undefined) return undefined
  const millis = /^\d{1,9}$/u.test(header) ? Number(header) * 1_000 : Date.parse(header) - nowMillis
  return Number.isNaN(millis) ? undefined : Math.min(Math.max(0, Math.round(millis)), Limits.retryDelayMillisMax)
}
