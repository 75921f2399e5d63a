/**
 * What the event log says about each task of a graph: how often it was started, and that its end was recorded once.
 *
 * The log is asked over the public API, page by page, as anybody could.
 */
import { Effect, Option, Stream } from "effect"
import { type Event, isEnd } from "../../protocol/Event.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Graph } from "../../protocol/Task.ts"
import { Client } from "../../src/cli/Client.ts"
import { inOrder } from "../../src/cli/GraphView.ts"
import { type Ink, table } from "../../src/cli/Ink.ts"

export interface Evidence {
  readonly task: string
  readonly events: number
  readonly starts: number
  readonly ends: number
  /** Numbers count from 1 without gap or double. */
  readonly gapless: boolean
}

/** One entry for each task of the graph, parents first. */
export const evidenceOf = (graph: Graph) =>
  Effect.forEach(
    inOrder(graph),
    Effect.fnUntraced(function* ({ id, key }) {
      const events = yield* allEvents(id)
      return {
        task: key,
        events: events.length,
        starts: events.filter(({ type }) => type === "TaskStarted").length,
        ends: events.filter(({ type }) => isEnd(type)).length,
        gapless: events.every(({ number }, index) => number === index + 1)
      } satisfies Evidence
    }),
    { concurrency: 4 }
  )

const allEvents = (id: TaskId) =>
  Stream.runCollect(
    Stream.paginate(0, (after) =>
      Effect.gen(function* () {
        const client = yield* Client
        const query = { after, limit: Limits.pageEntriesMax }
        const page = yield* client.tasks.events({ params: { id }, query, headers: { accept: "application/json" } })
        const events: ReadonlyArray<Event> = "data" in page ? page.data : []
        return [events, "data" in page ? Option.fromNullOr(page.next_after) : Option.none()] as const
      })
    )
  )

/** True when each end was recorded exactly once, and no event is missing or doubled. */
export const isOnce = (evidence: ReadonlyArray<Evidence>) =>
  evidence.every(({ ends, gapless }) => ends === 1 && gapless)

export const show = (evidence: ReadonlyArray<Evidence>, ink: Ink): string =>
  [
    isOnce(evidence)
      ? "From the event log: every step's end was recorded once, also of those that were started twice."
      : ink.red("From the event log: not every step's end was recorded once."),
    "",
    entries(evidence, ink)
  ].join("\n")

const entries = (evidence: ReadonlyArray<Evidence>, ink: Ink): string =>
  table(
    ["TASK", "STARTS", "RECORDED ENDS", "EVENTS", "NUMBERS"],
    evidence.map(({ ends, events, gapless, starts, task }) => [
      task,
      starts > 1 ? ink.yellow(String(starts)) : String(starts),
      ends === 1 ? ink.green("1") : ink.red(String(ends)),
      String(events),
      gapless ? "without gap" : ink.red("with gap or double")
    ]),
    ink
  )
