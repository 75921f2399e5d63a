/** Who causes a change that the calling fiber was asked for: for the event that records it. */
import { Effect } from "effect"
import type { Principal } from "../../protocol/Permission.ts"
import { currentTraceparent, traceIdOf } from "../../protocol/TraceContext.ts"

export const changedBy = (principal: Principal["Service"]) =>
  Effect.map(currentTraceparent, (trace) => ({ actor: principal.actor, trace: traceIdOf(trace) }))
