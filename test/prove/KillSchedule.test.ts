/** The schedule of kills and the work of a proof: decided by the seed alone, and within their bounds whatever it is. */
import { describe, expect, it } from "@effect/vitest"
import type { FaultKind } from "../../protocol/Proof.ts"
import { killSchedule } from "../../src/prove/KillSchedule.ts"
import { pieceOf } from "../../src/prove/Work.ts"

const plan = {
  seed: 7,
  nodes: 3,
  kill: ["nodes", "nats", "postgres"] as ReadonlyArray<FaultKind>,
  kill_every_ms: 2_000
}
const hour = 3_600_000

describe("a schedule of kills", () => {
  it("is the same for the same seed, and another for another", () => {
    expect(killSchedule(plan, hour)).toEqual(killSchedule(plan, hour))
    expect(killSchedule({ ...plan, seed: 8 }, hour)).not.toEqual(killSchedule(plan, hour))
  })

  it("of a shorter run is the begin of that of a longer one", () => {
    const long = killSchedule(plan, hour)
    const short = killSchedule(plan, 60_000)
    expect(short.length).toBeGreaterThan(20)
    expect(long.slice(0, short.length)).toEqual(short)
  })

  it("keeps its mean, reaches every victim, and spares servers that would be given up", () => {
    for (let seed = 0; seed < 50; seed++) {
      const kills = killSchedule({ ...plan, seed }, hour)
      expect(kills.length).toBeGreaterThan(1_700)
      expect(kills.length).toBeLessThan(1_900)
      expect(new Set(kills.filter(({ fault }) => fault === "nodes").map(({ victim }) => victim))).toEqual(
        new Set([0, 1, 2])
      )
      for (const server of ["nats", "postgres"] as const) {
        const moments = kills.filter(({ fault }) => fault === server).map(({ atMillis }) => atMillis)
        expect(moments.length).toBeGreaterThan(50)
        for (const [index, at] of moments.slice(1).entries())
          expect(at - (moments[index] ?? 0)).toBeGreaterThanOrEqual(20_000)
      }
    }
  })

  it("kills nothing that was not asked for", () => {
    const faults = (kill: ReadonlyArray<FaultKind>) =>
      new Set(killSchedule({ ...plan, kill }, hour).map(({ fault }) => fault))
    expect(faults(["nodes"])).toEqual(new Set(["nodes"]))
    expect(faults(["postgres"])).toEqual(new Set(["postgres"]))
    expect(faults(["nats", "nodes"])).toEqual(new Set(["nats", "nodes"]))
  })
})

describe("the work of a proof", () => {
  it("is decided by seed and number, and has a little of everything", () => {
    const pieces = Array.from({ length: 20_000 }, (_, number) => pieceOf(7, number))
    expect(pieces.slice(0, 50)).toEqual(Array.from({ length: 50 }, (_, number) => pieceOf(7, number)))
    const share = (of: (piece: (typeof pieces)[number]) => boolean) => pieces.filter(of).length / pieces.length
    expect(share(({ kind }) => kind === "refused")).toBeCloseTo(0.02, 2)
    expect(share(({ kind }) => kind === "cancelled")).toBeCloseTo(0.02, 2)
    expect(share(({ again }) => again)).toBeCloseTo(0.05, 2)
    expect(share(({ holdMillis }) => holdMillis < 2 || holdMillis > 1_500)).toBe(0)
    expect(share(({ holdMillis }) => holdMillis > 60)).toBeCloseTo(0.048, 2)
  })
})
