/**
 * Walks over the tasks that a filter means, in the order of an index, a bounded share per call: so many rows are looked at,
 * for so long, and then the walk says where it stands.
 *
 * Invariant: a walk goes by columns that never change while a task is in it (its id; its end), so whatever is added or
 * changed meanwhile, a task that the filter means all along is met exactly once. The walk by priority is the exception: a
 * task that is moved to another lane may be met again, or not at all.
 */
import { Clock, Duration, Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Fragment } from "effect/sql/Statement"
import type { Namespace } from "../../protocol/Ids.ts"
import type { TaskFilter } from "../../protocol/TaskFilter.ts"
import { compile, type Sort } from "./TaskFilter.ts"

export interface ScanLimits {
  /** Most rows of one look along an index that answers only a part of the filter. */
  readonly windowRows: number
  /** Such looks of one call, or more that are shorter. */
  readonly windowsMax: number
  /** After this long no further look begins. */
  readonly within: Duration.Duration
}

/** The order of a walk: its columns, and how a place in it is written. */
interface Order {
  readonly key: string
  /** The place of a row, as text. */
  readonly position: string
  readonly pattern: RegExp
  readonly at: (position: string) => Fragment
  readonly by: (up: boolean) => string
}

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
const moment = String.raw`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z`
const split = (position: string) => {
  const at = position.indexOf("/")
  return [position.slice(0, at), position.slice(at + 1)] as const
}

/** A page of a walk; without `position` it is the last one. */
export interface Scanned<Row> {
  readonly rows: ReadonlyArray<Row>
  readonly position: string | undefined
}

export const make = Effect.fnUntraced(function* (limits: ScanLimits) {
  const sql = yield* SqlClient.SqlClient

  const orders: { readonly [S in Sort]: Order } = {
    created: {
      key: "t.id",
      position: "t.id::text",
      pattern: new RegExp(`^${uuid}$`, "u"),
      at: (position) => sql`${position}::uuid`,
      by: (up) => (up ? "t.id" : "t.id desc")
    },
    completed: {
      key: "(t.completed_at, t.id)",
      position: `to_char(t.completed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '/' || t.id`,
      pattern: new RegExp(`^${moment}/${uuid}$`, "u"),
      at: (position) => sql`(${split(position)[0]}::timestamptz, ${split(position)[1]}::uuid)`,
      by: (up) => (up ? "t.completed_at, t.id" : "t.completed_at desc, t.id desc")
    },
    // Urgent lanes come first in their type's order.
    priority: {
      key: "(t.lane, t.id)",
      position: "t.lane || '/' || t.id",
      pattern: new RegExp(`^(critical|high|normal|low)/${uuid}$`, "u"),
      at: (position) => sql`(${split(position)[0]}::task_lane, ${split(position)[1]}::uuid)`,
      by: (up) => (up ? "t.lane, t.id" : "t.lane desc, t.id desc")
    }
  }

  /** At most `limit` rows of `columns` after `from`. A page may be short, even empty, while the walk goes on. */
  const scan = Effect.fnUntraced(function* <Row extends object>(
    namespace: Namespace,
    filter: TaskFilter,
    options: {
      readonly columns: string
      readonly sort?: Sort
      /** Against the order of `order`: created and completed go down, priority from critical to low. */
      readonly up?: boolean
      readonly from: string | undefined
      readonly limit: number
      /** Further conditions, which no index answers. */
      readonly and?: ReadonlyArray<Fragment>
    }
  ) {
    type Placed = Row & { readonly walk_position: string }
    const order = orders[options.sort ?? "created"]
    const up = options.up ?? false
    const {
      costly,
      from: source,
      narrow,
      nothing,
      place,
      rest: own,
      walk
    } = compile(sql, namespace, filter, options.sort)
    if (nothing) return { rows: [], position: undefined } satisfies Scanned<Row>
    const rest = [...own, ...(options.and ?? [])]
    const windowed = rest.length > 0 && !narrow
    const rowsMax = Math.max(1, costly ? Math.floor(limits.windowRows / 20) : limits.windowRows)
    const key = sql.literal(order.key === "t.id" ? place : order.key)
    const by = sql.literal(order.key === "t.id" ? `${place}${up ? "" : " desc"}` : order.by(up))
    const position = sql.literal(order.position)
    const after = (at: string) => sql`${key} ${sql.literal(up ? ">" : "<")} ${order.at(at)}`
    const until = (at: string) => sql`${key} ${sql.literal(up ? "<=" : ">=")} ${order.at(at)}`

    /** The place that is so many tasks further on; undefined when there are fewer. */
    const edgeAfter = (from: string | undefined, windowRows: number) =>
      Effect.map(
        sql<{ readonly walk_position: string }>`
          select ${position} as walk_position from ${source}
          where ${sql.and([...walk, ...(from === undefined ? [] : [after(from)])])}
          order by ${by} offset ${windowRows - 1} limit 1
        `,
        ([row]) => row?.walk_position
      )

    const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(limits.within)
    const found: Array<Placed> = []
    let from = options.from
    // What most tasks have is found at once: the first look is short, and each further one longer.
    let windowRows = Math.min(rowsMax, Math.max(shortestWindow, options.limit * 4))
    const all = rowsMax * limits.windowsMax
    for (let looked = 0; looked < all; looked += windowRows) {
      if (looked > 0) windowRows = Math.min(rowsMax, windowRows * 4, all - looked)
      if (looked > 0 && (yield* Clock.currentTimeMillis) > deadline) break
      const edge = windowed ? yield* edgeAfter(from, windowRows) : undefined
      const rows = yield* sql<Placed>`
        select ${sql.literal(options.columns)}, ${position} as walk_position from ${source}
        where ${sql.and([
          ...walk,
          ...rest,
          ...(from === undefined ? [] : [after(from)]),
          ...(edge === undefined ? [] : [until(edge)])
        ])}
        order by ${by} limit ${options.limit + 1 - found.length}
      `
      found.push(...rows)
      if (found.length > options.limit) {
        const page = found.slice(0, options.limit)
        return { rows: page.map(withoutPosition<Row>), position: page.at(-1)?.walk_position } satisfies Scanned<Row>
      }
      if (edge === undefined)
        return { rows: found.map(withoutPosition<Row>), position: undefined } satisfies Scanned<Row>
      from = edge
    }
    return { rows: found.map(withoutPosition<Row>), position: from } satisfies Scanned<Row>
  })

  return { scan, patternOf: (sort: Sort | undefined) => orders[sort ?? "created"].pattern }
})

/** Rows of the first look, when few are wanted. */
const shortestWindow = 200

const withoutPosition = <Row extends object>(row: Row & { readonly walk_position: string }): Row => {
  const { walk_position: _, ...rest } = row
  // What is left of a row is the row.
  return rest as unknown as Row
}
