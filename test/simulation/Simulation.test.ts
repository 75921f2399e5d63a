/** Worlds of simulated nodes: nothing that can happen to them breaks a promise, and a broken product is found out. */
import { describe, expect, it } from "vitest"
import { planted, tolerated } from "./planted.ts"
import { regressions } from "./regressions.ts"
import { run, type Settings } from "./Simulation.ts"

const seeds = 200

/** Lets the test runner have its turn between two worlds. */
const turn = () => new Promise((resolve) => setImmediate(resolve))

const range = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

/** What a person needs to see it again. */
const told = (seed: number, settings: Settings) => {
  const { failure, options, trace } = run(seed, settings)
  return failure === undefined
    ? undefined
    : `seed ${seed}: ${failure.message}\n${JSON.stringify(options)}\n${trace.slice(-40).join("\n")}\nnpm run simulate -- --seed ${seed} --trace`
}

describe("a simulated world", () => {
  it("is the same whenever it is made from the same seed, and another from another", () => {
    const hashes = new Set<string>()
    for (const seed of [1, 2, 3, 4, 5]) {
      const first = run(seed)
      const second = run(seed)
      expect(second.hash).toBe(first.hash)
      expect(second.figures).toEqual(first.figures)
      expect(first.figures.runs).toBeGreaterThan(0)
      hashes.add(first.hash)
    }
    expect(hashes.size).toBe(5)
  })

  it(`keeps every promise, with ${seeds} seeds`, { timeout: 240_000 }, async () => {
    const failures: Array<string> = []
    for (const seed of range(seeds)) {
      const failure = told(seed, {})
      if (failure !== undefined) failures.push(failure)
      await turn()
    }
    expect(failures.join("\n\n")).toBe("")
  })

  it.each(regressions)("keeps every promise with seed $seed, which once found: $found", ({ seed }) => {
    expect(told(seed, {})).toBeUndefined()
  })

  it("loses nothing when messages are acknowledged before their claims", { timeout: 60_000 }, async () => {
    for (const seed of range(10)) {
      expect(told(seed, tolerated)).toBeUndefined()
      await turn()
    }
  })
})

describe("a planted mistake is found:", () => {
  it.each(planted)("$name", { timeout: 240_000 }, async ({ breaks, seed: known, settings }) => {
    let found: Error | undefined
    // The one that found it before first; what a world looks like may have changed since.
    for (const seed of [known, ...range(seeds)]) {
      found = run(seed, settings).failure
      if (found !== undefined) break
      await turn()
    }
    expect(found?.message).toMatch(breaks)
  })
})
