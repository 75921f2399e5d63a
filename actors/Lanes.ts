/**
 * The waiting room of an instance: orders that arrived and have not been claimed, by lane.
 *
 * Invariant: lanes share the slots 8 : 4 : 2 : 1 while all of them have work, so that none starves; within a lane the
 * order is that of ids, which is the routing order (G5), also when a message or a look into the ledger brings an older
 * one late. An order is held once, however often it is offered.
 */
import { priorities, type TaskPriority } from "../protocol/Task.ts"

/** Share of each lane, from critical to low. */
export const weights: { readonly [P in TaskPriority]: number } = { critical: 8, high: 4, normal: 2, low: 1 }

export interface Lanes<A> {
  /** False when the id is held already; what is held then goes on in the lane named last. */
  readonly offer: (id: string, lane: TaskPriority, entry: A) => boolean
  /** At most `count` entries, by weight. They are no longer held. */
  readonly take: (count: number) => ReadonlyArray<A>
  /** Takes all that is left, in no particular order. */
  readonly clear: () => ReadonlyArray<A>
  readonly size: () => number
}

interface Lane<A> {
  readonly weight: number
  /** Smooth weighted round robin: the lane with the most credit is next. */
  credit: number
  /** In routing order while `sorted`. */
  held: Map<string, A>
  sorted: boolean
  /** The last id of `held`, as offered. */
  last: string
}

/** An empty waiting room. Not safe to share between fibers that interleave inside one call; every call is synchronous. */
export const make = <A>(): Lanes<A> => {
  const lanes = new Map<TaskPriority, Lane<A>>(
    priorities.map((priority) => [
      priority,
      { weight: weights[priority], credit: 0, held: new Map(), sorted: true, last: "" }
    ])
  )
  const laneOf = (id: string) => {
    for (const lane of lanes.values()) if (lane.held.has(id)) return lane
    return undefined
  }
  const put = (lane: Lane<A>, id: string, entry: A) => {
    if (lane.held.size > 0 && id < lane.last) lane.sorted = false
    else lane.last = id
    lane.held.set(id, entry)
  }
  /** It was moved while it waited: what is held already goes on in the other lane. */
  const move = (from: Lane<A>, to: Lane<A>, id: string) => {
    const entry = from.held.get(id)
    if (from === to || entry === undefined) return
    from.held.delete(id)
    if (from.held.size === 0) {
      from.credit = 0
      from.sorted = true
    }
    put(to, id, entry)
  }
  const size = () => {
    let total = 0
    for (const lane of lanes.values()) total += lane.held.size
    return total
  }
  const takeOne = (): A | undefined => {
    let best: Lane<A> | undefined
    let total = 0
    for (const lane of lanes.values()) {
      if (lane.held.size === 0) continue
      lane.credit += lane.weight
      total += lane.weight
      if (best === undefined || lane.credit > best.credit) best = lane
    }
    if (best === undefined) return undefined
    best.credit -= total
    if (!best.sorted) sort(best)
    const next = best.held.entries().next()
    if (next.done === true) return undefined
    best.held.delete(next.value[0])
    if (best.held.size === 0) {
      best.credit = 0
      best.sorted = true
    }
    return next.value[1]
  }
  return {
    size,
    offer: (id, priority, entry) => {
      const lane = lanes.get(priority)
      if (lane === undefined) return false
      const held = laneOf(id)
      if (held === undefined) put(lane, id, entry)
      else move(held, lane, id)
      return held === undefined
    },
    take: (count) => {
      const taken: Array<A> = []
      while (taken.length < count) {
        const entry = takeOne()
        if (entry === undefined) break
        taken.push(entry)
      }
      return taken
    },
    clear: () => {
      const all: Array<A> = []
      for (const lane of lanes.values()) {
        all.push(...lane.held.values())
        lane.held.clear()
        lane.credit = 0
        lane.sorted = true
      }
      return all
    }
  }
}

const sort = <A>(lane: Lane<A>) => {
  lane.held = new Map([...lane.held].sort(([left], [right]) => (left < right ? -1 : 1)))
  lane.sorted = true
}
