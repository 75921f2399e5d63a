/** Ends of attempts that were never claimed: claim and end are one, and fenced like both. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Ledger, type NewTask, type RunningTask, type Settlement } from "../../actors/ports/Ledger.ts"
import * as Harness from "./LedgerHarness.ts"

const done: Settlement = { _tag: "Completed", data: { ok: true }, dataBytes: 11, executionMillis: 3 }
const running = (task: NewTask, attempt = 1): RunningTask => ({
  id: task.id,
  namespace: task.namespace,
  attempt,
  trace: undefined
})

layer(Harness.layer, { excludeTestServices: true, timeout: "60 seconds" })("an end without a claim", (it) => {
  describe("is recorded", () => {
    it.effect("once, with the beginning before it, however often it is said", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* Harness.agent
        const slot = yield* Harness.lease(agentId)
        const [task] = yield* Harness.tasks(1, () => ({ agentId }))
        if (task === undefined) return
        yield* ledger.accept([task])
        const said = yield* Effect.forEach([1, 2, 3], () =>
          ledger.settle(slot, running(task), done, { unclaimed: true })
        )
        expect(said.map(({ recorded }) => recorded)).toEqual([true, false, false])
        expect(yield* Harness.eventTypes(task.id)).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
        const [row] = yield* Harness.rows([task.id])
        expect({ attempt: row?.attempt, epoch: row?.epoch, status: row?.status }).toEqual({
          attempt: 1,
          epoch: slot.epoch,
          status: "completed"
        })
      })
    )

    it.effect("for one of those who claim it and those who end it, never for both", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* Harness.agent
        const slot = yield* Harness.lease(agentId)
        const all = yield* Harness.tasks(200, () => ({ agentId }))
        yield* ledger.accept(all)
        const [claims, ends] = yield* Effect.all(
          [
            Effect.forEach(all, (task) => Harness.claim(slot, [task]), { concurrency: "unbounded" }),
            Effect.forEach(all, (task) => ledger.settle(slot, running(task), done, { unclaimed: true }), {
              concurrency: "unbounded"
            })
          ],
          { concurrency: 2 }
        )
        for (const [index, won] of claims.entries()) {
          expect((won.length === 1) !== (ends[index]?.recorded === true)).toBe(true)
        }
        expect(yield* Harness.brokenHistories).toEqual([])
      })
    )
  })

  describe("is refused", () => {
    it.effect("from an instance that was taken over, and counts for its successor", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* Harness.agent
        const old = yield* Harness.lease(agentId)
        const [task] = yield* Harness.tasks(1, () => ({ agentId }))
        if (task === undefined) return
        yield* ledger.accept([task])
        const successor = yield* Harness.lease(agentId)
        expect(successor.epoch).toBe(old.epoch + 1)
        expect(yield* ledger.settle(old, running(task), done, { unclaimed: true })).toEqual({ recorded: false })
        expect(yield* Harness.statuses([task.id])).toEqual(["queued"])
        expect(yield* ledger.settle(successor, running(task), done, { unclaimed: true })).toEqual({ recorded: true })
      })
    )

    it.effect("when the attempt is not the next one, or the task was cancelled", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger
        const agentId = yield* Harness.agent
        const slot = yield* Harness.lease(agentId)
        const [stale, cancelled] = yield* Harness.tasks(2, () => ({ agentId }))
        if (stale === undefined || cancelled === undefined) return
        yield* ledger.accept([stale, cancelled])
        yield* ledger.cancel(cancelled.namespace, [cancelled.id], { actor: "key:test", reason: undefined })
        expect(yield* ledger.settle(slot, running(stale, 2), done, { unclaimed: true })).toEqual({ recorded: false })
        expect(yield* ledger.settle(slot, running(cancelled), done, { unclaimed: true })).toEqual({ recorded: false })
        expect(yield* Harness.statuses([stale.id, cancelled.id])).toEqual(["queued", "cancelled"])
        expect(yield* Harness.brokenHistories).toEqual([])
      })
    )
  })
})
