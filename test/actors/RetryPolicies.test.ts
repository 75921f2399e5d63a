/** Retry policies as running tasks meet them: what is tried again, when it is given up, and what remains to be seen. */
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { TaskReader } from "../../src/ledger/TaskReader.ts"
import { agent, command, ended, home, solo, submit } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("a task that fails", (it) => {
  it.effect("leaves the attempt, the error and where it crashed in the event of every attempt", () =>
    Effect.gen(function* () {
      const agentId = yield* agent({ retry: { max_attempts: 2 } })
      const [id] = yield* submit([command(agentId, { do: "crash" })])
      if (id === undefined) return
      yield* ended([id])
      const reader = yield* TaskReader
      const events = yield* reader.events(home, id, { after: 0, limit: 50 })
      const error = {
        code: "crashed",
        message: "Error: it crashed",
        details: { stack: expect.stringContaining("Probe.ts") }
      }
      expect(events).toMatchObject([
        { type: "TaskCreated", data: null },
        { type: "TaskStarted", data: { attempt: 1 } },
        { type: "TaskRetried", data: { attempt: 1, error, delay_ms: 1 } },
        { type: "TaskQueued" },
        { type: "TaskStarted", data: { attempt: 2 } },
        { type: "TaskFailed", data: { attempt: 2, error: { ...error, final: "attempts" } } }
      ])
      expect(JSON.stringify(events)).not.toContain(process.cwd())
    }).pipe(Effect.provide(TaskReader.layer))
  )

  it.effect(
    "is not tried again after an error that its policy names, and is after one that its behaviour gave up",
    () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ concurrency: 3 })
        const retry = (policy: object) => ({ configuration: { retry: { delay_ms: 1, max_attempts: 3, ...policy } } })
        const ids = yield* submit([
          command(agentId, { do: "fail" }, retry({ never_retry_on: ["to*"] })),
          command(agentId, { do: "refuse" }, retry({ retry_on: ["told"] })),
          command(agentId, { do: "crash" }, retry({ retry_on: ["told"] }))
        ])
        expect(yield* ended(ids)).toMatchObject([
          { status: "failed", attempt: 1, result: { error: { code: "told", final: "policy" } } },
          { status: "failed", attempt: 3, result: { error: { code: "told", final: "attempts" } } },
          { status: "failed", attempt: 1, result: { error: { code: "crashed", final: "policy" } } }
        ])
        expect(ids.map((id) => probe.of(id).length)).toEqual([1, 3, 1])
      })
  )

  it.effect("is given up when its next attempt would begin after the time for all of them", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent()
      const retry = { kind: "fixed", delay_ms: 150, jitter: 0, total_ms: 500, max_attempts: 100 } as const
      const [id] = yield* submit([command(agentId, { do: "fail" }, { configuration: { retry } })])
      if (id === undefined) return
      const [found] = yield* ended([id])
      expect(found).toMatchObject({ status: "failed", result: { error: { code: "told", final: "total_time" } } })
      // Each attempt comes at least 150 ms after the last: the first, and at most three that begin within 500 ms.
      expect(probe.of(id).length).toBeGreaterThanOrEqual(2)
      expect(probe.of(id).length).toBeLessThanOrEqual(4)
    })
  )

  it.effect("follows a list of delays to its end", () =>
    Effect.gen(function* () {
      const agentId = yield* agent()
      const retry = { kind: "list", delays_ms: [1, 2], jitter: 0 } as const
      const [id] = yield* submit([command(agentId, { do: "fail" }, { configuration: { retry } })])
      if (id === undefined) return
      expect(yield* ended([id])).toMatchObject([{ status: "failed", attempt: 3 }])
    })
  )
})
