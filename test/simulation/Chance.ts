/**
 * All chance of a simulation: one generator per purpose, each made from the seed and the purpose's name, so that one more
 * draw in one place does not change what another place draws.
 */

export interface Chance {
  /** Uniform in [0, 1). */
  readonly next: () => number
  /** Uniform in 0 to `count - 1`. */
  readonly below: (count: number) => number
  /** Uniform in `from` to `to`, both included. */
  readonly between: (from: number, to: number) => number
  readonly is: (probability: number) => boolean
  /** One of them; there must be one. */
  readonly of: <A>(all: ReadonlyArray<A>) => A
}

/** sfc32 (PractRand, public domain), seeded by FNV-1a over its name. */
export const make = (seed: number, name: string): Chance => {
  let hash = 0x811c9dc5
  for (const character of `${seed}/${name}`) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
  let a = hash >>> 0
  let b = Math.imul(hash ^ 0x9e3779b9, 0x85ebca6b) >>> 0
  let c = seed >>> 0
  let counter = 1
  const next32 = () => {
    const sum = (((a + b) >>> 0) + counter++) >>> 0
    a = (b ^ (b >>> 9)) >>> 0
    b = (c + (c << 3)) >>> 0
    c = (((c << 21) | (c >>> 11)) + sum) >>> 0
    return sum
  }
  for (let round = 0; round < 12; round++) next32()
  const next = () => next32() / 0x1_0000_0000
  const below = (count: number) => Math.floor(next() * count)
  return {
    next,
    below,
    between: (from, to) => from + below(to - from + 1),
    is: (probability) => next() < probability,
    of: (all) => {
      const one = all[below(all.length)]
      if (one === undefined) throw new Error("there is nothing to choose from")
      return one
    }
  }
}
