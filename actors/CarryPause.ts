/**
 * Carries a pause of a graph or a tree, or the end of one, through: portion by portion, each a transaction, with what ran
 * interrupted. Of several that carry the same, each does a part.
 */
import { Duration, Effect } from "effect"
import type { AgentId, GraphId, TaskId } from "../protocol/Ids.ts"
import type { Bus } from "./ports/Bus.ts"
import type { GraphLedger, Interrupted } from "./ports/GraphLedger.ts"

/** Until a portion is looked at again of which all was locked, or nothing had to change. */
const again = Duration.millis(20)

export const carryPause = Effect.fnUntraced(function* (
  on: { readonly graphs: GraphLedger; readonly bus: Bus["Service"]; readonly portionTasks: number },
  id: GraphId | TaskId
) {
  while (true) {
    const { changed, interrupted, more } = yield* on.graphs.carryPause(id, on.portionTasks)
    yield* interrupt(on.bus, interrupted)
    if (!more) return
    if (changed === 0) yield* Effect.sleep(again)
  }
})

/** Has the hosts of these tasks stop them, each told once. */
export const interrupt = (bus: Bus["Service"], interrupted: ReadonlyArray<Interrupted>) => {
  const byAgent = new Map<AgentId, Array<TaskId>>()
  for (const { id, ranOn } of interrupted) {
    if (ranOn === undefined) continue
    const tasks = byAgent.get(ranOn)
    if (tasks === undefined) byAgent.set(ranOn, [id])
    else tasks.push(id)
  }
  return Effect.forEach(byAgent, ([agent, tasks]) => bus.notify({ _tag: "Interrupt", agent, tasks }), { discard: true })
}
