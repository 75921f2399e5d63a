/**
 * How chunks are written: those of all tasks of this node share transactions of `stream_append`, of their own so that ends
 * and claims do not wait behind them, and go out on the bus after COMMIT. A repeated batch finds by run and sequence what the
 * first one wrote.
 */
import { Effect } from "effect"
import type { RunningTask, Slot } from "../../actors/ports/Ledger.ts"
import type { NewChunks, StreamLedger } from "../../actors/ports/StreamLedger.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"

interface Append {
  readonly slot: Slot
  readonly task: RunningTask
  readonly new: NewChunks
}

interface AppendedRow {
  readonly o: number
  readonly outcome: "written" | "full" | "too_many"
  readonly first: number
  readonly at: Date
}

export const make = Effect.fnUntraced(function* (committing: Committing) {
  const { batch, bus, commitUntilKnown, refusedIsDefect, sql } = committing

  const appendBatch = (appends: ReadonlyArray<Append>) =>
    Effect.gen(function* () {
      const answers = yield* commitUntilKnown<AppendedRow>("append_chunks", () =>
        sql.unsafe(`select * from ${ledger}.stream_append($1::json, $2::bigint, $3::int)`, [
          `[${appends.map(rowOf).join(",")}]`,
          Limits.taskStreamsBytesMax,
          Limits.streamsMax
        ])
      )
      const rows = new Map(answers.map((row) => [row.o, row] as const))
      for (const [ordinal, append] of appends.entries()) {
        const row = rows.get(ordinal)
        if (row?.outcome === "written") yield* publish(append, row)
      }
      return appends.map((_, ordinal) => rows.get(ordinal)?.outcome ?? ("fenced" as const))
    })

  const publish = ({ new: { chunks, run, stream }, task }: Append, { at, first }: AppendedRow) =>
    bus.publishChunks(
      task.namespace,
      chunks.map((text, index) => ({
        task_id: task.id,
        stream,
        number: first + index,
        attempt: task.attempt,
        run,
        at: at.toISOString(),
        data: JSON.parse(text)
      }))
    )

  const appendBatched = yield* batch("append_chunks", (append: Append) => append.new.bytes, appendBatch)
  const streams: StreamLedger = {
    append: (slot, task, chunks) => refusedIsDefect(appendBatched({ slot, task, new: chunks }))
  }
  return streams
})

/** JSON of one row of `stream_append`. Chunks are text already and are put in as they are. */
const rowOf = ({ new: { bytes, chunks, run, sequence, stream }, slot, task }: Append, ordinal: number): string => {
  const { attempt, id } = task
  const row = JSON.stringify({ o: ordinal, id, name: stream, attempt, epoch: slot.epoch, run, sequence, bytes })
  return `${row.slice(0, -1)},"chunks":[${chunks.join(",")}]}`
}
