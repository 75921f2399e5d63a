/**
 * Port to whoever wants to know, or to end this process, at a named place: just before and just after each commit, publish,
 * acknowledgement and run. The test of what a crash there loses (docs/faults.md) kills the process from within; in production
 * nobody listens.
 *
 * It is a plain function that nothing waits for: per batch where work is batched, a call that does nothing per attempt. It must
 * not fail, and cannot change what happens next but by ending the process.
 */
import { Context } from "effect"

export type Moment = "before" | "after"

/**
 * Places, each with both moments:
 *
 *   commit:<operation>  a change of state in the ledger; `accept`, `claim`, `settle`, `take_over`, `queue_due`, ...
 *   publish:events      events of a commit, on their way to followers
 *   dispatch            orders of a commit, on their way to instances
 *   acknowledge         of a message whose orders are all decided
 *   run                 of one attempt: its behaviour, with all effects it has
 */
export const CrashPoints = Context.Reference<(place: string, moment: Moment) => void>(
  "datamcp/actors/ports/CrashPoints",
  { defaultValue: () => () => {} }
)
