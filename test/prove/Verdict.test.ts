/** The verdict on tallies in which something is wrong: each promise is found broken, and named with its tasks; on a clean one none is. */
import { describe, expect, it } from "@effect/vitest"
import { proofNamedMax } from "../../protocol/Proof.ts"
import type { TaskEvidence } from "../../src/prove/Evidence.ts"
import { judge, type Tally } from "../../src/prove/Verdict.ts"

const idOf = (number: number) => `id-${number}`

/** A task that completed at its first attempt, with its effect. */
const completed = (number: number): TaskEvidence => ({
  id: idOf(number),
  number,
  status: "completed",
  createdAt: 0,
  endedAt: 10,
  starts: 1,
  ends: 1,
  retries: 0,
  cut: [],
  receipt: `${number}/1`
})

const clean = (count: number): Tally => ({
  submitted: count,
  idOf,
  wasCancelled: () => false,
  doubled: [],
  refusals: [],
  tasks: Array.from({ length: count }, (_, number) => completed(number)),
  callsOf: () => 1,
  strangers: 0
})

/** The tally with one task changed. */
const spoilt = (tally: Tally, number: number, change: Partial<TaskEvidence>): Tally => ({
  ...tally,
  tasks: tally.tasks.map((task) => (task.number === number ? { ...task, ...change } : task))
})

const brokenOf = (tally: Tally) =>
  Object.fromEntries(
    judge(tally)
      .promises.filter(({ outcome }) => outcome === "broken")
      .map(({ broken, id, tasks }) => [id, { broken, tasks }])
  )

describe("the verdict", () => {
  it("holds on a run in which all went well, and counts it", () => {
    const cutShort = { node: "a", startedAt: 1, lostAt: 2, resumedAt: 3 }
    const repeated = spoilt(clean(20), 3, { starts: 2, cut: [cutShort], receipt: "3/2" })
    const failed = spoilt(repeated, 4, { status: "failed", receipt: null })
    const tally = {
      ...spoilt(failed, 5, { status: "cancelled", starts: 0, receipt: null }),
      callsOf: (number: number) => (number === 3 ? 2 : number === 5 ? 0 : 1),
      wasCancelled: (number: number) => number === 5
    }
    expect(brokenOf(tally)).toEqual({})
    expect(judge(tally).figures).toEqual({
      accepted: 20,
      ended: { completed: 18, failed: 1, cancelled: 1, timeout: 0 },
      lost: 0,
      effects: { recorded: 18, recorded_twice: 0, calls: 20, repeated: 1 },
      attempts: { started: 20, cut_short: 1, retried: 0 }
    })
  })

  it("names a task that was accepted and is gone", () => {
    const tally = clean(20)
    const gone = { ...tally, tasks: tally.tasks.filter(({ number }) => number !== 7) }
    expect(brokenOf(gone)).toEqual({ "accepted-kept": { broken: 1, tasks: [idOf(7)] } })
    expect(judge(gone).figures).toMatchObject({ accepted: 20, lost: 1, ended: { completed: 19 } })
  })

  it("names a task that was accepted and has not ended", () => {
    const tally = spoilt(clean(20), 7, { status: "running", endedAt: null, ends: 0, receipt: null })
    expect(brokenOf(tally)).toEqual({ "accepted-ended": { broken: 1, tasks: [idOf(7)] } })
  })

  it("names a task whose end was recorded twice, or not at all", () => {
    expect(brokenOf(spoilt(clean(20), 7, { ends: 2 }))).toEqual({ "ended-once": { broken: 1, tasks: [idOf(7)] } })
    expect(judge(spoilt(clean(20), 7, { ends: 2 })).figures.effects.recorded_twice).toBe(1)
    expect(brokenOf(spoilt(clean(20), 7, { ends: 0 }))).toEqual({ "ended-once": { broken: 1, tasks: [idOf(7)] } })
  })

  it("names a completed task without an effect, or with another's", () => {
    for (const receipt of [null, "8/1", "7/2", "7/0", "nonsense"]) {
      expect(brokenOf(spoilt(clean(20), 7, { receipt }))).toEqual({
        "effect-recorded": { broken: 1, tasks: [idOf(7)] }
      })
    }
  })

  it("names an effect that happened again without a further attempt", () => {
    const tally = { ...clean(20), callsOf: (number: number) => (number === 7 ? 3 : 1) }
    expect(brokenOf(tally)).toEqual({ "effect-attempts": { broken: 2, tasks: [idOf(7)] } })
    expect(brokenOf(spoilt(tally, 7, { starts: 3 }))).toEqual({})
  })

  it("names a task that one key made twice, and one whose second submission gave another", () => {
    const tally = clean(20)
    const twice = { ...tally, tasks: [...tally.tasks, { ...completed(7), id: "another" }] }
    expect(brokenOf(twice)).toEqual({ "submitted-once": { broken: 1, tasks: ["another"] } })
    expect(brokenOf({ ...tally, doubled: [idOf(3)] })).toEqual({ "submitted-once": { broken: 1, tasks: [idOf(3)] } })
  })

  it("names a task that ran on although its cancellation was answered", () => {
    const tally = { ...clean(20), wasCancelled: (number: number) => number === 7 }
    expect(brokenOf(tally)).toEqual({ "cancelled-stays": { broken: 1, tasks: [idOf(7)] } })
  })

  it("names what nobody submitted, and what was refused", () => {
    const tally = clean(20)
    const stranger = { ...completed(0), id: "stranger", number: undefined }
    expect(brokenOf({ ...tally, tasks: [...tally.tasks, stranger] })).toEqual({
      "nothing-invented": { broken: 1, tasks: ["stranger"] }
    })
    expect(brokenOf({ ...tally, strangers: 2 })).toEqual({ "nothing-invented": { broken: 2, tasks: ["2 calls"] } })
    expect(brokenOf({ ...tally, refusals: ["prove-3: 409"] })).toEqual({
      "nothing-refused": { broken: 1, tasks: ["prove-3: 409"] }
    })
  })

  it("counts what was stored without an answer as accepted, and misses nothing that was never stored", () => {
    const tally = clean(20)
    const unanswered = { ...tally, idOf: (number: number) => (number === 7 ? undefined : idOf(number)) }
    expect(brokenOf(unanswered)).toEqual({})
    expect(judge(unanswered).figures.accepted).toBe(20)
    const never = { ...unanswered, tasks: tally.tasks.filter(({ number }) => number !== 7) }
    expect(brokenOf(never)).toEqual({})
    expect(judge(never).figures.accepted).toBe(19)
  })

  it("counts all and names a few of many", () => {
    const { promises } = judge({ ...clean(50), tasks: [] })
    const lost = promises.find(({ id }) => id === "accepted-kept")
    expect(lost).toMatchObject({ outcome: "broken", broken: 50 })
    expect(lost?.tasks).toHaveLength(proofNamedMax)
  })
})
