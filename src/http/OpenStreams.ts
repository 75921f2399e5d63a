/**
 * Owns the count of open event streams per principal. Each holds a connection and memory for as long as it likes, so
 * one principal gets at most `openStreamsMax` on this node.
 */
import { Context, Effect, Layer, type Scope } from "effect"
import * as Limits from "../../protocol/Limits.ts"
import { Overloaded } from "../../protocol/Problem.ts"

export class OpenStreams extends Context.Service<
  OpenStreams,
  {
    /** Holds a place for a stream of `actor` until the scope closes; `Overloaded` when it has none left. */
    readonly hold: (actor: string) => Effect.Effect<void, Overloaded, Scope.Scope>
  }
>()("datamcp/http/OpenStreams") {
  static readonly layer = Layer.sync(OpenStreams, () => {
    const open = new Map<string, number>()
    const take = (actor: string) =>
      Effect.suspend(() => {
        const count = open.get(actor) ?? 0
        if (count >= Limits.openStreamsMax) return Effect.fail(tooMany)
        open.set(actor, count + 1)
        return Effect.void
      })
    const giveBack = (actor: string) =>
      Effect.sync(() => {
        const count = open.get(actor) ?? 0
        if (count > 1) open.set(actor, count - 1)
        else open.delete(actor)
      })
    return OpenStreams.of({ hold: (actor) => Effect.acquireRelease(take(actor), () => giveBack(actor)) })
  })
}

const tooMany = new Overloaded({
  detail: `This key has ${Limits.openStreamsMax} event streams open on this node, which is the limit. Close one first.`,
  retry_after_seconds: 5
})
