/**
 * Decides how something numbered without gaps is followed: what was recorded, then what is heard live, each number once and
 * in order. What is heard is a hint: a gap, a double or silence is answered by reading what was recorded.
 */
import { type Duration, Effect, Option, Queue, Stream } from "effect"

interface Numbered {
  readonly number: number
}

export interface Source<A extends Numbered, E> {
  /** Number of the last one that the reader has. */
  readonly after: number
  /** Live ones; may lose, double and reorder. A number that is too high only says that there is something to read. */
  readonly live: Queue.Dequeue<A>
  /** Silence after which what was recorded is read, in case something was lost. */
  readonly silence: Duration.Duration
  /** What was recorded after a number, in order, at most a page. */
  readonly read: (last: number) => Effect.Effect<ReadonlyArray<A>, E>
  /** Whether there may be more behind such a page. */
  readonly hasMore: (read: ReadonlyArray<A>) => boolean
  /** Whether nothing will ever follow. Asked when nothing was read. */
  readonly isOver: (last: number) => Effect.Effect<boolean, E>
  /** Whether nothing follows this one. */
  readonly isLast: (item: A) => boolean
}

/** Listen before this is called: what is recorded in between is then in `live`, or read. */
export const numbered = <A extends Numbered, E>(source: Source<A, E>): Stream.Stream<A, E> => {
  const { hasMore, isLast, isOver, live, read, silence } = source

  const step = Effect.fnUntraced(function* ({ behind, last }: Progress) {
    const heard = behind ? Option.none() : yield* Effect.timeoutOption(Queue.takeAll(live), silence)
    const next = Option.isSome(heard) ? inOrder(heard.value, last) : undefined
    if (next !== undefined) return told(next, last, false)
    const found = yield* read(last)
    const isGone = found.length === 0 && (yield* isOver(last))
    return isGone ? over : told(found, last, hasMore(found))
  })

  const told = (items: ReadonlyArray<A>, last: number, behind: boolean) => {
    const end = items.findIndex(isLast)
    return end >= 0
      ? ([items.slice(0, end + 1), Option.none<Progress>()] as const)
      : ([items, Option.some({ last: items.at(-1)?.number ?? last, behind })] as const)
  }

  const first: Progress = { last: Math.max(0, source.after), behind: true }
  return Stream.paginate(first, step)
}

interface Progress {
  /** Number of the last one told. */
  readonly last: number
  /** More is recorded than was read. */
  readonly behind: boolean
}

const over = [[], Option.none<Progress>()] as const

/** What follows `last` without a gap, each number once; undefined when a number is missing. */
const inOrder = <A extends Numbered>(heard: ReadonlyArray<A>, last: number): ReadonlyArray<A> | undefined => {
  const items: Array<A> = []
  for (const item of [...heard].sort((one, other) => one.number - other.number)) {
    const expected = last + items.length + 1
    if (item.number > expected) return undefined
    if (item.number === expected) items.push(item)
  }
  return items
}
