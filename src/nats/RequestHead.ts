/**
 * What stands in the headers of a request over NATS. Their names are compared without regard to case, because clients
 * write them in different ways.
 */
import type { Msg } from "@nats-io/transport-node"
import { Redacted, Result, Schema } from "effect"
import { MalformedRequest } from "../../protocol/api/TransportProblem.ts"
import { type InvalidInput, invalidField, Unauthenticated } from "../../protocol/Problem.ts"
import { IdempotencyKey } from "../../protocol/Task.ts"

export interface RequestHead {
  readonly authorization: string | undefined
  readonly idempotencyKey: string | undefined
  readonly traceparent: string | undefined
  /** The caller's own id of the request, when it is well-formed. */
  readonly requestId: string | undefined
}

export const noHeaders: RequestHead = {
  authorization: undefined,
  idempotencyKey: undefined,
  traceparent: undefined,
  requestId: undefined
}

/** Reads the headers; the client refuses some malformed ones only when they are looked at. */
export const requestHead = (message: Msg): Result.Result<RequestHead, MalformedRequest> =>
  Result.try({
    try: () => {
      const headers = message.headers
      if (headers === undefined) return noHeaders
      const head = { ...noHeaders }
      for (const [name, [value]] of headers) {
        const field = fields.get(name.toLowerCase())
        if (field !== undefined) head[field] = value
      }
      if (head.requestId !== undefined && !requestIdPattern.test(head.requestId)) head.requestId = undefined
      return head
    },
    catch: () => new MalformedRequest({ detail: "The headers cannot be read." })
  })

const fields = new Map<string, keyof RequestHead>([
  ["authorization", "authorization"],
  ["idempotency-key", "idempotencyKey"],
  ["traceparent", "traceparent"],
  ["x-request-id", "requestId"]
])

/** What a caller's own id may look like: it goes into logs and answers as it is. */
const requestIdPattern = /^[A-Za-z0-9._:/+=-]{1,128}$/u

const bearer = /^Bearer +(?<key>[\x21-\x7e]{1,512})$/iu

/** The API key; its form is the use case's business. */
export const bearerKey = (head: RequestHead): Result.Result<Redacted.Redacted, Unauthenticated> => {
  const key = head.authorization === undefined ? undefined : bearer.exec(head.authorization)?.groups?.["key"]
  return key === undefined
    ? Result.fail(new Unauthenticated({ detail: "Send the header Authorization: Bearer <API key>." }))
    : Result.succeed(Redacted.make(key))
}

const isIdempotencyKey = Schema.is(IdempotencyKey)

/** The header's key; refused when no key may look like that. */
export const idempotencyKey = (head: RequestHead): Result.Result<string | undefined, InvalidInput> =>
  head.idempotencyKey === undefined || isIdempotencyKey(head.idempotencyKey)
    ? Result.succeed(head.idempotencyKey)
    : Result.fail(invalidField("Idempotency-Key", "must have 1 to 255 characters"))
