/**
 * Carries on with graphs where their tasks cannot by themselves: a step whose parents have ended is decided (its condition
 * looked at, its map expanded portion by portion), elements of a map are let go and cancelled, a graph that is to end is
 * cancelled portion by portion, and pauses that nobody carries on are.
 *
 *   a commit makes something due --> work --> read --> decide (pure) --> commit
 *                                     ^
 *   sweep (one node of all) ----------'
 *
 * Invariant: nothing here is remembered. What is due stands in the ledger until the commit that does it, so a crash at any
 * place costs a sweep's interval, and of two nodes that do the same one is heard.
 */
import { Context, Duration, Effect, Layer, Metric, Queue, Result, type Schema } from "effect"
import { comparisonsOf } from "../protocol/Condition.ts"
import { TaskId } from "../protocol/Ids.ts"
import * as Limits from "../protocol/Limits.ts"
import * as Metrics from "../protocol/Metrics.ts"
import type { TaskError } from "../protocol/Task.ts"
import { carryPause, interrupt } from "./CarryPause.ts"
import { holds } from "./Conditions.ts"
import type { StepMap } from "./GraphStep.ts"
import * as MapElements from "./MapElements.ts"
import { Bus } from "./ports/Bus.ts"
import type { DueStep, GraphWork, NewElement } from "./ports/GraphLedger.ts"
import { Ledger } from "./ports/Ledger.ts"
import { Placement } from "./ports/Placement.ts"
import { UuidV7 } from "./UuidV7.ts"

export const GraphRunnerLimits = Context.Reference<{
  /** Steps and graphs that one node carries on with at a time. */
  readonly atATime: number
  /** Most elements that one transaction makes, and most tasks that one cancels. */
  readonly portionTasks: number
  /** Most bytes of payloads that one transaction stores. */
  readonly portionBytes: number
  /** Between two looks for what was made due and not taken up. */
  readonly sweepEvery: Duration.Duration
}>("datamcp/actors/GraphRunnerLimits", {
  defaultValue: () => ({
    atATime: 4,
    portionTasks: 500,
    portionBytes: 2 * 1024 * 1024,
    sweepEvery: Duration.seconds(1)
  })
})

/** Runs for as long as its scope. */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const { graphs } = yield* Ledger
    const bus = yield* Bus
    const placement = yield* Placement
    const ids = yield* UuidV7
    const limits = yield* GraphRunnerLimits
    const inHand = new Set<string>()

    const decide = Effect.fnUntraced(function* (due: DueStep) {
      const { map, when } = due.step
      const comparisons = when === undefined ? [] : comparisonsOf(when)
      const parents = new Set(comparisons.map(({ $result }) => $result))
      if (map !== undefined) parents.add(map.over.$result)
      const data = yield* graphs.data(due.namespace, [...parents])
      if (due.phase === null && when !== undefined && !holds(when, (parent) => data.get(parent))) {
        return yield* graphs.decide(due.id, { _tag: "Skip", error: conditionFalse })
      }
      if (map === undefined) return yield* graphs.decide(due.id, { _tag: "Run" })
      const list = MapElements.elementsOf(map, data.get(map.over.$result))
      if (Result.isFailure(list)) return yield* graphs.decide(due.id, { _tag: "Fail", error: list.failure })
      const bad = due.phase === null ? problemOf(due.payload, list.success) : undefined
      if (bad !== undefined) return yield* graphs.decide(due.id, { _tag: "Fail", error: bad })
      yield* expand(due, map, list.success)
    })

    const expand = Effect.fnUntraced(function* (due: DueStep, map: StepMap, list: ReadonlyArray<Schema.Json>) {
      const taken =
        map.elements_of === undefined ? undefined : yield* graphs.completedElements(due.namespace, map.elements_of)
      let from = due.made
      while (true) {
        const elements = portion(due.payload, list, { from, taken })
        yield* graphs.expand(due.id, { from, total: list.length, elements })
        const after = yield* graphs.step(due.id)
        // Everything is there, or somebody else carries on, or it has been ended.
        if (after?.phase !== "expanding" || after.made <= from || after.status !== "pending") return
        from = after.made
      }
    })

    const portion = (
      template: Schema.Json | undefined,
      list: ReadonlyArray<Schema.Json>,
      at: { readonly from: number; readonly taken: ReadonlyMap<number, TaskId> | undefined }
    ): ReadonlyArray<NewElement> => {
      const elements: Array<NewElement> = []
      let bytes = 0
      for (let index = at.from; index < list.length; index++) {
        if (elements.length >= limits.portionTasks || bytes >= limits.portionBytes) break
        const earlier = at.taken?.get(index)
        if (earlier !== undefined) {
          elements.push({ index, id: earlier, taken: true })
          continue
        }
        const payload = payloadText(template, list, index)
        bytes += payload?.length ?? 0
        elements.push({ index, id: TaskId.make(ids.next(), { disableChecks: true }), payload })
      }
      return elements
    }

    /** Elements of a map that has ended before them, until none is left. */
    const cancelRest = Effect.fnUntraced(function* (id: TaskId) {
      while (true) {
        const cancelled = yield* graphs.cancelRest(id, limits.portionTasks)
        if (cancelled.length === 0) return
        yield* interrupt(bus, cancelled)
      }
    })

    const cancelGraph = Effect.fnUntraced(function* (work: Extract<GraphWork, { readonly _tag: "Ending" }>) {
      while (true) {
        const { cancelled, more } = yield* graphs.cancelGraph(work.id, limits.portionTasks)
        yield* Metric.update(Metrics.tasksCancelled, cancelled.length)
        yield* interrupt(bus, cancelled)
        if (!more) return
        // What is left is locked by somebody who is about to change it.
        if (cancelled.length === 0) yield* Effect.sleep("20 millis")
      }
    })

    const step = Effect.fnUntraced(function* (id: TaskId) {
      const due = yield* graphs.step(id)
      if (due === undefined) return
      if (due.status !== "pending") return yield* cancelRest(id)
      yield* due.phase === "expanded" ? graphs.advance(id) : decide(due)
    })

    const carry = (work: GraphWork) => {
      switch (work._tag) {
        case "Step":
          return step(work.id)
        case "Ending":
          return cancelGraph(work)
        case "Pause":
          return carryPause({ graphs, bus, portionTasks: limits.portionTasks }, work.id)
      }
    }

    /** Whatever goes wrong stays due, and is found by the sweep. */
    const carryOn = (work: GraphWork) =>
      Effect.suspend(() => {
        if (inHand.has(work.id)) return Effect.void
        inHand.add(work.id)
        return carry(work).pipe(
          Effect.catchTag("LedgerUnavailable", ({ message }) =>
            Effect.logDebug("a graph is left to the next sweep", message)
          ),
          // A mistake of ours must not end the loops that carry on with every other graph.
          Effect.catchDefect((defect) =>
            Effect.annotateLogs(Effect.logError("a graph could not be carried on with", defect), { id: work.id })
          ),
          Effect.ensuring(Effect.sync(() => inHand.delete(work.id)))
        )
      })

    yield* Effect.forEach(
      Array.from({ length: limits.atATime }),
      () => Effect.forkScoped(Effect.forever(Effect.flatMap(Queue.take(graphs.work), carryOn))),
      { discard: true }
    )

    const sweep = Effect.gen(function* () {
      const due = yield* graphs.due(limits.portionTasks)
      yield* Effect.forEach(due, carryOn, { concurrency: limits.atATime, discard: true })
      if (due.length > 0) yield* Metric.update(Metrics.reconciled({ kind: "graphs" }), due.length)
    }).pipe(Effect.catchCause((cause) => Effect.logDebug("graphs could not be swept", cause)))
    yield* placement.singleton("graphs/sweep", Effect.forever(Effect.andThen(Effect.sleep(limits.sweepEvery), sweep)))
  })
)

const conditionFalse: TaskError = { code: "skipped", message: "its condition does not hold" }

const payloadText = (template: Schema.Json | undefined, list: ReadonlyArray<Schema.Json>, index: number) => {
  if (template === undefined) return undefined
  const payload = MapElements.payloadOf(template, { item: list[index] ?? null, index })
  return JSON.stringify(Result.getOrElse(payload, () => null))
}

/** Why elements cannot be made, found before the first one is. */
const problemOf = (template: Schema.Json | undefined, list: ReadonlyArray<Schema.Json>): TaskError | undefined => {
  if (template === undefined) return undefined
  let bytes = 0
  for (const [index, item] of list.entries()) {
    const payload = MapElements.payloadOf(template, { item, index })
    if (Result.isFailure(payload)) return payload.failure
    const size = new TextEncoder().encode(JSON.stringify(payload.success)).length
    if (size > Limits.payloadBytesMax) {
      return tooLarge(`the payload of element ${index} has ${size} bytes`, Limits.payloadBytesMax)
    }
    bytes += size
    if (bytes > Limits.batchBodyBytesMax)
      return tooLarge("the payloads of all elements are too large", Limits.batchBodyBytesMax)
  }
  return undefined
}

const tooLarge = (what: string, limit: number): TaskError => ({
  code: "map_too_large",
  message: `${what}; at most ${limit} bytes are allowed`,
  details: { limit }
})
