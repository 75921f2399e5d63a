/**
 * What each task of a proof does, decided by the seed and its number. Pure.
 *
 * Most have one effect: a call to the counter, which answers after a while with a receipt that becomes the task's result. A few are refused by
 * the counter and fail; a few are cancelled as soon as they are accepted; a few are slow, so that a kill finds them running.
 */
import { fraction } from "./SeededNumbers.ts"

export interface Piece {
  /** From 0; also the name, the idempotency key and the effect. */
  readonly number: number
  readonly kind: "effect" | "refused" | "cancelled"
  /** How long the counter takes to answer. */
  readonly holdMillis: number
  /** Submitted a second time with the same key once it is accepted. */
  readonly again: boolean
}

const shares = { refused: 0.02, cancelled: 0.02, slow: 0.05, again: 0.05 }
const hold = { least: 2, most: 60, slowMost: 1_500 }

export const pieceOf = (seed: number, number: number): Piece => {
  const kind = fraction(seed, "work", number)
  const most = fraction(seed, "slow", number) < shares.slow ? hold.slowMost : hold.most
  return {
    number,
    kind: kind < shares.refused ? "refused" : kind < shares.refused + shares.cancelled ? "cancelled" : "effect",
    holdMillis: Math.round(hold.least + (most - hold.least) * fraction(seed, "hold", number)),
    again: fraction(seed, "again", number) < shares.again
  }
}

export const keyOf = (number: number) => `prove-${number}`

/** The number in a task's name; undefined when the proof made no such task. */
export const numberOf = (name: string): number | undefined => {
  const digits = /^prove-(\d{1,7})$/u.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

export const agentName = "prove-effects"
