/**
 * Counts the event streams that each principal holds open on this node, and refuses the one above the limit.
 */
import { Effect } from "effect"
import * as Limits from "../../protocol/Limits.ts"
import { Overloaded } from "../../protocol/Problem.ts"

/** Takes a place for the time of the scope; `Overloaded` when the principal has none left. */
export const make = Effect.sync(() => {
  const open = new Map<string, number>()

  const leave = (actor: string) =>
    Effect.sync(() => {
      const left = (open.get(actor) ?? 1) - 1
      if (left === 0) open.delete(actor)
      else open.set(actor, left)
    })

  const enter = (actor: string) =>
    Effect.suspend(() => {
      const held = open.get(actor) ?? 0
      if (held >= Limits.openStreamsMax) return Effect.fail(tooMany())
      open.set(actor, held + 1)
      return Effect.void
    })

  return (actor: string) => Effect.acquireRelease(enter(actor), () => leave(actor))
})

/** Long enough for a client to close one. */
const retryAfterSeconds = 5

const tooMany = () =>
  new Overloaded({
    detail: `This key holds ${Limits.openStreamsMax} event streams open on this node, which is the limit: close one.`,
    retry_after_seconds: retryAfterSeconds
  })
