/** Chance from a seed: the same seed gives the same schedule of faults, on any machine (mulberry32). */

export interface Chance {
  /** From 0 up to 1, without 1. */
  readonly next: () => number
  /** From `least` up to `most`, without `most`. */
  readonly between: (least: number, most: number) => number
  /** One of the list, which must not be empty. */
  readonly pick: <A>(list: ReadonlyArray<A>) => A
  /** A source of its own, so that what one part draws does not shift what another gets. */
  readonly fork: (name: string) => Chance
}

export const fromSeed = (seed: number): Chance => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    next,
    between: (least, most) => least + next() * (most - least),
    pick: (list) => list[Math.floor(next() * list.length)] ?? never(),
    fork: (name) => {
      let mixed = seed >>> 0
      for (const character of name) mixed = Math.imul(mixed ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
      return fromSeed(mixed)
    }
  }
}

const never = (): never => {
  throw new Error("nothing to pick from")
}
