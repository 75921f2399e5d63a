/**
 * How a fetch fails: each fault of network, TLS, time or encoding as a code that programs can tell apart, and whether
 * another attempt can help.
 */
import { Effect, Predicate, Schema } from "effect"
import { BehaviourFailure } from "../Behaviour.ts"
import { DestinationRefused } from "./AddressGuard.ts"
import { storable } from "./Storable.ts"

/** Of what undici, the socket or the decoder rejected with. Its message may hold more than a tenant should see: only codes pass. */
export const failureOf = (cause: unknown, url: URL): BehaviourFailure => {
  if (isRefused(cause)) return failure("http_destination_refused", cause.message, false)
  const code = Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : "unknown"
  const where = `${url.origin}${url.pathname}`
  if (/TIMEOUT|TIMEDOUT/u.test(code)) return failure("http_timeout", `${where} did not answer in time (${code})`, true)
  if (/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO/u.test(code))
    return failure("http_tls", `${where}: TLS failed (${code})`, false)
  if (/^(Z_|ZSTD_|ERR__ERROR|ERR_BROTLI)/u.test(code)) {
    return failure("http_encoding", `the body of ${where} is not what its content-encoding says (${code})`, false)
  }
  return failure("http_network", `${where} could not be reached or broke off (${code})`, true)
}

const isRefused = Schema.is(DestinationRefused)

const failure = (code: string, message: string, retryable: boolean) =>
  new BehaviourFailure({ code, message: storable(message), retryable })

export const failed = (code: string, message: string, retryable: boolean) =>
  Effect.fail(failure(code, message, retryable))
