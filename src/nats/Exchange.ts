/**
 * One request and its one answer. Knows what names the request and where its answer goes; counts it once it is answered.
 */
import type { Msg, NatsConnection } from "@nats-io/transport-node"
import { type Cause, Result } from "effect"
import type { MalformedRequest } from "../../protocol/api/TransportProblem.ts"
import { TooLarge } from "../../protocol/Problem.ts"
import type { ServiceProblem } from "../../protocol/service/Endpoints.ts"
import { type Answer, answer, problemAnswer, problemOf } from "./answers.ts"
import type { EndpointCounter } from "./EndpointStats.ts"
import { noHeaders, type RequestHead, requestHead } from "./RequestHead.ts"

/** Room that the server's `max_payload` must leave for our own headers, in bytes. */
const headerBytes = 4_096

let count = 0
const idsOfThisProcess = `n-${Math.random().toString(36).slice(2, 10)}`

export class Exchange {
  readonly subject: string
  readonly body: Uint8Array
  readonly head: RequestHead
  /** Why the headers could not be read. */
  readonly malformed: MalformedRequest | undefined
  /** The caller's X-Request-ID, else one of ours. */
  readonly id: string
  readonly #link: NatsConnection
  readonly #reply: string
  readonly #counter: EndpointCounter | undefined
  readonly #begun = performance.now()

  constructor(link: NatsConnection, message: Msg, counter: EndpointCounter | undefined) {
    const head = requestHead(message)
    this.#link = link
    this.#reply = message.reply ?? ""
    this.#counter = counter
    this.subject = message.subject
    this.body = message.data
    this.head = Result.isSuccess(head) ? head.success : noHeaders
    this.malformed = Result.isFailure(head) ? head.failure : undefined
    this.id = this.head.requestId ?? `${idsOfThisProcess}-${(count++).toString(36)}`
  }

  succeed(value: unknown): void {
    const given = answer(value, this.head.requestId)
    const bytesMax = (this.#link.info?.max_payload ?? defaultPayloadBytesMax) - headerBytes
    // A character is at most three bytes of UTF-8.
    const isTooLarge = given.body.length * 3 > bytesMax && Buffer.byteLength(given.body) > bytesMax
    if (isTooLarge) this.refuse(tooLarge(bytesMax))
    else this.#send(given, undefined)
  }

  refuse(problem: ServiceProblem): void {
    this.#send(
      problemAnswer(problem, { subject: this.subject, id: this.id, ownId: this.head.requestId }),
      problem.title
    )
  }

  fail(cause: Cause.Cause<ServiceProblem>): void {
    this.refuse(problemOf(cause))
  }

  #send(given: Answer, error: string | undefined): void {
    const options = given.headers === undefined ? {} : { headers: given.headers }
    // Fails only when the connection is closed for good: then nobody can be answered.
    const sent = Result.try(() => this.#link.publish(this.#reply, given.body, options))
    const millis = performance.now() - this.#begun
    this.#counter?.count({ code: given.code, millis, error: Result.isFailure(sent) ? "Not sent" : error })
  }
}

/** That of nats-server unless it is configured otherwise. */
const defaultPayloadBytesMax = 1_048_576

const tooLarge = (bytesMax: number) =>
  new TooLarge({
    detail: `The answer is larger than the ${bytesMax} bytes that this NATS server carries; ask for fewer with limit.`,
    field: "limit",
    limit: bytesMax,
    unit: "bytes"
  })
