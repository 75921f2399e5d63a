/** How long work stood still after a kill, from events whose moments are known. */
import { describe, expect, it } from "@effect/vitest"
import { cutAttempts, type TaskEvidence } from "../../src/prove/Evidence.ts"
import { quantiles, recoveryTimes } from "../../src/prove/RecoveryTimes.ts"

const task = (number: number, given: Partial<TaskEvidence>): TaskEvidence => ({
  id: `id-${number}`,
  number,
  status: "completed",
  createdAt: 0,
  endedAt: 100,
  starts: 1,
  ends: 1,
  retries: 0,
  cut: [],
  receipt: null,
  ...given
})

describe("attempts that were lost", () => {
  it("are found in the events of a task, with their node and their successor", () => {
    const event = (type: string, at: number, node = "a", lost = false) => ({ type, at, node, lost })
    const events = [
      event("TaskQueued", 0),
      event("TaskStarted", 10, "a"),
      event("TaskQueued", 40, "b", true),
      event("TaskStarted", 55, "b"),
      event("TaskQueued", 60, "b"),
      event("TaskStarted", 61, "a"),
      event("TaskQueued", 90, "a", true)
    ]
    expect(cutAttempts(events)).toEqual([
      { node: "a", startedAt: 10, lostAt: 40, resumedAt: 55 },
      { node: "a", startedAt: 61, lostAt: 90, resumedAt: null }
    ])
  })
})

describe("recovery times", () => {
  it("count a lost attempt from the last kill of its node, and no other", () => {
    const cut = [{ node: "a", startedAt: 900, lostAt: 4_000, resumedAt: 4_500 }]
    const kills = [
      { fault: "nodes", victim: "a", at: 100 },
      { fault: "nodes", victim: "a", at: 1_000 },
      { fault: "nodes", victim: "b", at: 3_000 },
      { fault: "nodes", victim: "a", at: 9_000 }
    ] as const
    const [nodes] = recoveryTimes(kills, [task(0, { cut, endedAt: 6_000 })])
    expect(nodes).toMatchObject({
      fault: "nodes",
      kills: 4,
      resumed: { count: 1, p50_ms: 3_500, max_ms: 3_500 },
      ended: { count: 1, p50_ms: 5_000 }
    })
  })

  it("count the service from a kill to the first end of what was accepted after it", () => {
    const tasks = [
      task(0, { createdAt: 500, endedAt: 1_100 }),
      task(1, { createdAt: 1_200, endedAt: 5_000 }),
      task(2, { createdAt: 1_300, endedAt: 2_000 }),
      task(3, { createdAt: 1_400, endedAt: null })
    ]
    const kills = [
      { fault: "postgres", victim: "postgres", at: 1_000 },
      { fault: "postgres", victim: "postgres", at: 1_350 }
    ] as const
    const [postgres] = recoveryTimes(kills, tasks)
    // Nothing that was accepted after the second one has ended: it has no figure.
    expect(postgres).toMatchObject({ kills: 2, service: { count: 1, p50_ms: 1_000 }, resumed: null, ended: null })
  })

  it("give the nearest rank, and nothing without samples", () => {
    expect(quantiles([])).toBeNull()
    expect(quantiles(Array.from({ length: 200 }, (_, index) => index + 1))).toEqual({
      count: 200,
      p50_ms: 100,
      p99_ms: 198,
      max_ms: 200
    })
  })
})
