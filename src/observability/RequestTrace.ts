/**
 * Owns what names the request that a fiber works for, whatever door it came through: its id for logs and problems, and
 * the `traceparent` that its work continues. The door provides it; everything below may read it and nobody changes it.
 */
import { Context } from "effect"

export interface RequestTrace {
  /** Id of the request: the caller's own, or one that the door made. Undefined outside of requests. */
  readonly requestId: string | undefined
  /** W3C `traceparent` of the request as it came; undefined when it had none. May be malformed. */
  readonly traceparent: string | undefined
}

export const RequestTrace = Context.Reference<RequestTrace>("datamcp/observability/RequestTrace", {
  defaultValue: () => ({ requestId: undefined, traceparent: undefined })
})
