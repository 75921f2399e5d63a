import { describe, expect, it } from "vitest"
import { fromSeed } from "./Chance.ts"
import { check } from "./Checker.ts"
import { cleanRun, evidenceOf, plantedHistories } from "./plantedHistories.ts"

const seeds = Array.from({ length: 10 }, (_, seed) => seed + 1)
const broken = (verdict: ReturnType<typeof check>) =>
  verdict.checks.filter(({ outcome }) => outcome === "broken").map(({ id }) => id)

describe("the history checker", () => {
  it("finds nothing in runs in which everything went right", () => {
    for (const seed of seeds) {
      const verdict = check(evidenceOf(cleanRun(seed), seed))
      expect(verdict.checks.filter(({ outcome }) => outcome === "broken")).toEqual([])
      expect(verdict.verdict).toBe("pass")
      expect(verdict.figures.effectsRepeated).toBeGreaterThan(0)
    }
  })

  it.each(plantedHistories)("$check finds in ten runs of ten that $bug", ({ check: id, plant }) => {
    for (const seed of seeds) {
      const draft = cleanRun(seed)
      plant(draft, fromSeed(seed).fork("plant"))
      const verdict = check(evidenceOf(draft, seed))
      expect(broken(verdict)).toContain(id)
      expect(verdict.verdict).toBe("violated")
    }
  })

  it("shows the records of one task or key, and no others, as its example", () => {
    const draft = cleanRun(3)
    const planted = plantedHistories.find(({ bug }) => bug.includes("at most once"))
    planted?.plant(draft, fromSeed(3))
    const example = check(evidenceOf(draft, 3)).checks.find(({ id }) => id === "C5")?.example
    const [id] = /task-\d+/.exec(JSON.stringify(example?.records)) ?? []
    expect(example?.found).toBe("2 calls for a task that may run at most once")
    expect(example?.records.length).toBeGreaterThan(5)
    const keys = new Set([id, id?.replace("task", "op")])
    for (const record of example?.records ?? []) {
      const { key, task, taskId, id: own } = record as Record<string, string>
      expect(keys).toContain(task ?? taskId ?? key ?? own)
    }
  })

  it("calls a run void in which calm submissions failed, or no fault was seen, however clean the rest is", () => {
    const slow = cleanRun(1)
    const calm = slow.operations.filter(({ invokedAt, kind }) => kind === "submit" && invokedAt < 15_000)
    for (const operation of calm) Object.assign(operation, { outcome: "info", status: 503 })
    // The same keys were acknowledged later on.
    slow.operations.push(
      ...calm.map((operation) => ({ ...operation, outcome: "ok" as const, status: 202, invokedAt: 30_000 }))
    )
    expect(check(evidenceOf(slow, 1)).verdict).toBe("void")
    const idle = cleanRun(1)
    idle.faultsObserved = 0
    expect(check(evidenceOf(idle, 1)).verdict).toBe("void")
    expect(broken(check(evidenceOf(idle, 1)))).toEqual(["C17"])
  })

  it("takes a hundred thousand operations within six seconds", () => {
    const draft = cleanRun(1, 25_000)
    expect(draft.operations.length).toBeGreaterThan(100_000)
    const began = performance.now()
    const verdict = check(evidenceOf(draft, 1))
    expect(verdict.verdict).toBe("pass")
    expect(performance.now() - began).toBeLessThan(6_000)
  })
})

describe("chance", () => {
  it("gives the same for the same seed, another for another, and parts of its own", () => {
    const draws = (seed: number) => Array.from({ length: 20 }, fromSeed(seed).next)
    expect(draws(7)).toEqual(draws(7))
    expect(draws(7)).not.toEqual(draws(8))
    expect(fromSeed(7).fork("a").next()).not.toBe(fromSeed(7).fork("b").next())
  })
})
