/**
 * How the service answers: JSON, and for problems the same JSON as over HTTP (RFC 9457) with the headers by which NATS
 * tools know an error.
 */
import { headers, type MsgHdrs } from "@nats-io/transport-node"
import { Cause } from "effect"
import { InternalError } from "../../protocol/api/TransportProblem.ts"
import { Unavailable } from "../../protocol/Problem.ts"
import type { ServiceProblem } from "../../protocol/service/Endpoints.ts"

export interface Answer {
  /** 200, or the status of the problem. */
  readonly code: number
  readonly body: string
  readonly headers: MsgHdrs | undefined
}

/** An answer with what was asked for. */
export const answer = (value: unknown, requestId: string | undefined): Answer => ({
  code: 200,
  body: JSON.stringify(value),
  headers: requestId === undefined ? undefined : withRequestId(headers(), requestId)
})

/** An answer that says why not. `subject` stands where HTTP has the path. */
export const problemAnswer = (
  problem: ServiceProblem,
  request: { readonly subject: string; readonly id: string; readonly ownId: string | undefined }
): Answer => {
  const set = headers()
  set.set(
    "Nats-Service-Error",
    oneLine(problem.detail === undefined ? problem.title : `${problem.title}: ${problem.detail}`)
  )
  set.set("Nats-Service-Error-Code", String(problem.status))
  if ("retry_after_seconds" in problem) {
    set.set("Retry-After", String(Math.max(1, Math.ceil(problem.retry_after_seconds))))
  }
  if (request.ownId !== undefined) withRequestId(set, request.ownId)
  return {
    code: problem.status,
    body: JSON.stringify(Object.assign({}, problem, { instance: request.subject, request_id: request.id })),
    headers: set
  }
}

const withRequestId = (set: MsgHdrs, requestId: string) => {
  set.set("X-Request-ID", requestId)
  return set
}

/** Printable ASCII: what a header line of any client can hold. */
const oneLine = (text: string) => text.slice(0, 500).replace(/[^\x20-\x7e]+/gu, "?")

/** What a failed request is answered with. A defect says nothing; its cause belongs in the log. */
export const problemOf = (cause: Cause.Cause<ServiceProblem>): ServiceProblem => {
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure !== undefined) return failure.error
  return Cause.hasInterruptsOnly(cause)
    ? new Unavailable({ detail: "This node is stopping; ask again.", retry_after_seconds: 1 })
    : new InternalError({ detail: "The node's log has the cause under this request's id." })
}
