/**
 * Numbers that a seed decides: the same seed gives the same numbers on every machine. Pure.
 *
 * SplitMix32 on a counter, so that the n-th number of a stream can be had without those before it.
 */

/** A whole number from 0 to 2^32 - 1: the `index`-th of the stream `stream` of `seed`. */
export const seeded = (seed: number, stream: string, index: number): number => {
  let salt = 0x811c9dc5
  for (let at = 0; at < stream.length; at++) salt = Math.imul(salt ^ stream.charCodeAt(at), 0x01000193)
  return mixed(mixed(seed ^ salt) + Math.imul(index + 1, 0x9e3779b9))
}

/** The same as a fraction: at least 0, less than 1. */
export const fraction = (seed: number, stream: string, index: number): number => seeded(seed, stream, index) / 2 ** 32

const mixed = (value: number): number => {
  let hash = value | 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad)
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a2d97)
  return (hash ^ (hash >>> 15)) >>> 0
}
