/** How tasks await the ends of their children: each is one call of a function in `sql/functions/children.sql`. */
import { Effect, type Schema } from "effect"
import type { ChildEnd, ChildLedger, ChildrenAnswer } from "../../actors/ports/ChildLedger.ts"
import type { TaskId } from "../../protocol/Ids.ts"
import * as Limits from "../../protocol/Limits.ts"
import type { TaskError, TerminalStatus } from "../../protocol/Task.ts"
import type { Committing } from "./Committing.ts"
import { ledger } from "./LedgerFunctions.ts"
import type * as TaskRows from "./TaskRows.ts"

interface TakenRow {
  readonly outcome: "ended" | "none" | "waiting" | "fenced" | "diverged" | "too_many" | "unknown" | "circular"
  /** Of those outcomes that are about a child. */
  readonly id: TaskId
  readonly status: TerminalStatus | null
  readonly result: { readonly data?: Schema.Json; readonly error?: TaskError } | null
  readonly cut: boolean
  readonly count: number
}

export const make = (committing: Committing): ChildLedger => {
  const { announce, commit, commitUntilKnown, refusedIsDefect, sql } = committing

  const take: ChildLedger["take"] = Effect.fnUntraced(function* (slot, task, { children, position }) {
    const rows = yield* refusedIsDefect(
      commitUntilKnown<TakenRow>("take_children", () =>
        sql.unsafe(
          `select * from ${ledger}.children_take($1::uuid, $2::int, $3::int, $4::int, $5::uuid[], $6::int, $7::bigint)`,
          [
            ...[task.id, task.attempt, slot.epoch, position, children ?? null],
            ...[Limits.awaitedChildrenMax, Limits.awaitedResultBytesMax]
          ]
        )
      )
    )
    return answerOf(rows)
  })

  /** Where the next look begins; undefined at the start. */
  let after: TaskId | undefined
  const heal: ChildLedger["heal"] = Effect.fnUntraced(function* (limit) {
    const rows = yield* refusedIsDefect(
      commit<{ readonly next: TaskId | null; readonly change: TaskRows.ChangeRow | null }>("heal_children", () =>
        sql.unsafe(`select * from ${ledger}.children_heal($1::uuid, $2::int)`, [after ?? null, limit])
      )
    )
    after = rows[0]?.next ?? undefined
    const changed = rows.flatMap(({ change }) => (change === null ? [] : [change]))
    yield* announce(changed)
    return changed.length
  })

  return { take, heal }
}

const answerOf = (rows: ReadonlyArray<TakenRow>): ChildrenAnswer => {
  const [first] = rows
  switch (first?.outcome) {
    case undefined:
    case "fenced":
      return { _tag: "Fenced" }
    case "none":
      return { _tag: "Ended", children: [] }
    case "waiting":
      return { _tag: "Waiting", open: first.count }
    case "diverged":
      return { _tag: "Diverged" }
    case "too_many":
      return { _tag: "Refused", why: "too_many" }
    case "unknown":
    case "circular":
      return { _tag: "Refused", why: first.outcome, child: first.id }
    case "ended": {
      const gone = rows.find(({ status }) => status === null)
      return gone === undefined
        ? { _tag: "Ended", children: rows.map(endOf) }
        : { _tag: "Refused", why: "gone", child: gone.id }
    }
  }
}

const endOf = ({ cut, id, result, status }: TakenRow): ChildEnd => {
  if (status === "completed") {
    return {
      ...{ id, status },
      ...(result?.data !== undefined && { data: result.data }),
      ...(cut && { left_out: true as const })
    }
  }
  return {
    ...{ id, status: status ?? "failed" },
    error: result?.error ?? { code: "unknown", message: "its error cannot be shown here" }
  }
}
