/** A small part of `npm run faults`, on servers and nodes of its own: killed, frozen, and robbed of answers under load. */
import { describe, expect, inject, it } from "vitest"
import { faults, notRun } from "./catalogue.ts"
import { runFault } from "./Fault.ts"
import { shortSelection } from "./scenarios/short.ts"

describe("a platform under load", () => {
  it("keeps its promises while nodes, NATS and Postgres are killed, a node stands still, and answers are lost", async () => {
    const told: Array<string> = []
    const report = await runFault(shortSelection, {
      ...{ machine: inject("machine"), seed: 1, seconds: undefined, calmSeconds: 2 },
      tell: (line) => told.push(line)
    })
    const broken = report.verdict.checks.filter(({ outcome }) => outcome === "broken")
    expect(broken).toEqual([])
    expect(report.figures.filter(({ ok }) => !ok)).toEqual([])
    expect(report.outcome).toBe("pass")
    expect(report.verdict.figures.acknowledged).toBeGreaterThan(500)
    const kinds = [/kill -9 nats/, /kill -9 of all processes of Postgres/, /is lost/, /kill -9 node/, /SIGSTOP node/]
    expect(kinds.filter((kind) => !told.some((line) => kind.test(line)))).toEqual([])
  }, 180_000)
})

describe("the catalogue of faults", () => {
  it("says of each of 36 whether it is run, or why not", () => {
    const ids = [...faults, ...notRun].map(({ id }) => id).toSorted()
    expect(ids).toEqual(Array.from({ length: 36 }, (_, at) => `F${String(at + 1).padStart(2, "0")}`))
  })
})
