/** One agent on one node: its tasks run once each, in order, within its slots, and whatever happens to them is recorded. */
import { describe, expect, layer } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import { SqlClient } from "effect/sql"
import { AgentHost } from "../../actors/AgentHost.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Ledger } from "../../actors/ports/Ledger.ts"
import { priorities } from "../../protocol/Task.ts"
import { brokenHistories, eventsOf, eventTypes, row, rows } from "../ledger/LedgerHarness.ts"
import { MemoryBusControl } from "../support/MemoryBus.ts"
import { agent, command, ended, home, solo, statusOf, submit, until, untilTrue } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

const times = (count: number) => Array.from({ length: count }, (_, index) => index)

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("an agent on one node", (it) => {
  describe("its tasks", () => {
    it.effect("are carried to their end, each by one attempt, and their messages acknowledged", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const bus = yield* MemoryBusControl
        const agentId = yield* agent({ concurrency: 20 })
        const ids = yield* submit(times(300).map(() => command(agentId)))
        const found = yield* ended(ids)
        for (const { id, result, status } of found) {
          expect({ status, data: result?.data }).toEqual({ status: "completed", data: { tag: null, payload: {} } })
          expect(probe.of(id).map(({ how, number }) => [number, how])).toEqual([[1, "returned"]])
        }
        yield* untilTrue(() => bus.unacknowledged() === 0)
        expect(yield* eventTypes(ids[0] ?? "")).toEqual(["TaskCreated", "TaskStarted", "TaskCompleted"])
      })
    )

    it.effect("run one at a time and in routing order with one slot, also when more come than one commit takes", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent()
        const first = yield* submit(times(200).map(() => command(agentId)))
        const second = yield* submit(times(20).map(() => command(agentId)))
        const ids = [...first, ...second]
        yield* ended(ids, "20 seconds")
        const mine = new Set<string>(ids)
        const order = probe.made.filter(({ taskId }) => mine.has(taskId)).map(({ taskId }) => taskId)
        expect(order).toEqual(ids)
        const sql = yield* SqlClient.SqlClient
        const overlaps = yield* sql`
          select a.id from tasks a join tasks b on a.agent_id = b.agent_id and a.id < b.id and b.started_at < a.completed_at
          where a.agent_id = ${agentId}
        `
        expect(overlaps).toEqual([])
      })
    )

    it.effect("never run more at a time than there are slots, and use them all", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ concurrency: 7 })
        const ids = yield* submit(times(30).map(() => command(agentId, { do: "wait", gate: "slots" })))
        yield* untilTrue(() => probe.running() === 7)
        yield* (yield* Ledger).agentsWithWork(1)
        expect(probe.running()).toBe(7)
        yield* probe.gate("slots").open
        yield* ended(ids)
        expect(probe.made.filter(({ taskId }) => (ids as ReadonlyArray<string>).includes(taskId))).toHaveLength(30)
        expect(probe.peak()).toBeLessThanOrEqual(20)
      })
    )

    it.effect("are served by priority, and none starves", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent()
        const [blocker] = yield* submit([command(agentId, { do: "wait", gate: "priorities" })])
        yield* untilTrue(() => probe.running() > 0)
        const ids = yield* submit(
          times(60).map((index) => command(agentId, {}, { priority: priorities[3 - (index % 4)] ?? "low" }))
        )
        const laneOf = new Map(ids.map((id, index) => [id as string, priorities[3 - (index % 4)]]))
        // Each lane's orders have arrived or lie in the ledger, where a look finds them.
        yield* (yield* Bus).notify({ _tag: "Wake", agents: [{ id: agentId, lanes: [...priorities] }] })
        const host = yield* AgentHost
        yield* untilTrue(() => host.load().waiting >= 60)
        yield* probe.gate("priorities").open
        yield* ended(blocker === undefined ? ids : [blocker, ...ids])
        const order = probe.made.flatMap(({ taskId }) => laneOf.get(taskId) ?? [])
        const first = order.slice(0, 15)
        expect(priorities.map((lane) => first.filter((each) => each === lane).length)).toEqual([8, 4, 2, 1])
        for (const lane of priorities) {
          const mine = ids.filter((id) => laneOf.get(id) === lane)
          expect(probe.made.filter(({ taskId }) => laneOf.get(taskId) === lane).map(({ taskId }) => taskId)).toEqual(
            mine
          )
        }
      })
    )

    it.effect("with results of others in their payload get them, in a graph", () =>
      Effect.gen(function* () {
        const agentId = yield* agent({ concurrency: 5 })
        const [source] = yield* submit([command(agentId, { gate: "x" })])
        if (source === undefined) return
        const [sink, pointed, wrong] = yield* submit([
          { agent: agentId, dependencies: [{ task_id: source }], payload: { got: { $result: source } } },
          {
            agent: agentId,
            dependencies: [{ task_id: source }],
            payload: [{ $result: source, path: "/payload/gate" }]
          },
          { agent: agentId, dependencies: [{ task_id: source }], payload: { $result: source, path: "/nowhere" } }
        ])
        if (sink === undefined || pointed === undefined || wrong === undefined) return
        const [one, two, three] = yield* ended([sink, pointed, wrong])
        expect(one?.result?.data).toMatchObject({ payload: { got: { tag: null, payload: { gate: "x" } } } })
        expect(two?.result?.data).toMatchObject({ payload: ["x"] })
        expect(three).toMatchObject({ status: "failed", attempt: 1, result: { error: { code: "result_reference" } } })
      })
    )
  })

  describe("messages", () => {
    it.effect("delivered three times make one attempt each", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const bus = yield* MemoryBusControl
        const agentId = yield* agent({ concurrency: 4 })
        bus.copies(3)
        const ids = yield* submit(times(200).map(() => command(agentId)))
        yield* ended(ids)
        bus.copies(1)
        expect(ids.every((id) => probe.of(id).length === 1)).toBe(true)
        yield* untilTrue(() => bus.unacknowledged() === 0)
      })
    )

    it.effect("that are lost, before and after an instance is there, are made up for from the ledger", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const bus = yield* MemoryBusControl
        const agentId = yield* agent({ concurrency: 4 })
        bus.cut(true)
        const before = yield* submit(
          times(50).map((index) => command(agentId, {}, { priority: priorities[index % 4] ?? "low" }))
        )
        bus.cut(false)
        yield* ended(before)
        bus.cut(true)
        const after = yield* submit(times(50).map(() => command(agentId)))
        yield* ended(after)
        bus.cut(false)
        const last = yield* submit(times(10).map(() => command(agentId)))
        yield* ended(last)
        expect([...before, ...after, ...last].every((id) => probe.of(id).length === 1)).toBe(true)
      })
    )

    it.effect("of a lane nobody told of are found although another lane is never empty", () =>
      Effect.gen(function* () {
        const bus = yield* MemoryBusControl
        const agentId = yield* agent()
        const many = yield* submit(times(3_000).map(() => command(agentId)))
        yield* until(rows(many.slice(0, 1)), ([each]) => each?.status === "completed")
        bus.cut(true)
        const [urgent] = yield* submit([command(agentId, {}, { priority: "critical" })])
        bus.cut(false)
        if (urgent === undefined) return
        yield* ended([urgent], "4 seconds")
        const [last] = yield* rows(many.slice(-1))
        expect(last?.status).toBe("queued")
        yield* (yield* Ledger).cancel(home, many, { actor: "key:test", reason: undefined })
      })
    )
  })

  describe("what goes wrong", () => {
    it.effect("in one task is retried and then failed with its reason, and its neighbours do not notice", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ concurrency: 3, retry: { max_attempts: 3 } })
        const [crashes, fails, refuses, recovers, ...good] = yield* submit([
          command(agentId, { do: "crash" }),
          command(agentId, { do: "fail" }),
          command(agentId, { do: "refuse" }),
          command(agentId, { do: "crash", times: 2 }),
          ...times(10).map(() => command(agentId))
        ])
        if (crashes === undefined || fails === undefined || refuses === undefined || recovers === undefined) return
        const found = yield* ended([crashes, fails, refuses, recovers, ...good])
        expect(found.slice(0, 4)).toMatchObject([
          { status: "failed", attempt: 3, result: { error: { code: "crashed", message: "Error: it crashed" } } },
          { status: "failed", attempt: 3, result: { error: { code: "told" } } },
          { status: "failed", attempt: 1, result: { error: { code: "told" } } },
          { status: "completed", attempt: 3 }
        ])
        expect(new Set(found.slice(4).map(({ status }) => status))).toEqual(new Set(["completed"]))
        expect(probe.of(crashes).map(({ number }) => number)).toEqual([1, 2, 3])
        expect((yield* statusOf(agentId))?.status).toBe("active")
      })
    )

    it.effect("with an attempt that takes too long is interrupted, retried, and ends as timeout", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ retry: { max_attempts: 2 } })
        const [slow] = yield* submit([
          command(
            agentId,
            { do: "hang" },
            { configuration: { timeout_ms: 40, retry: { max_attempts: 2, delay_ms: 1 } } }
          )
        ])
        if (slow === undefined) return
        const [found] = yield* ended([slow])
        expect(found).toMatchObject({ status: "timeout", attempt: 2, result: { error: { code: "timeout" } } })
        expect(probe.of(slow).map(({ how }) => how)).toEqual(["interrupted", "interrupted"])
      })
    )

    it.effect("by its deadline ends a task that runs, one that waits for a slot, and interrupts the first", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent()
        const deadline = DateTime.formatIso(DateTime.add(yield* DateTime.now, { milliseconds: 400 }))
        const ids = yield* submit(times(2).map(() => command(agentId, { do: "hang" }, { deadline })))
        const found = yield* ended(ids)
        expect(found.map(({ result, status }) => [status, result?.error?.code])).toEqual([
          ["timeout", "deadline"],
          ["timeout", "deadline"]
        ])
        yield* untilTrue(() => probe.running() === 0)
        const [next] = yield* submit([command(agentId)])
        yield* ended(next === undefined ? [] : [next])
      })
    )

    it.effect("when it is cancelled while it runs: it is interrupted at once, and nothing is recorded after", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const ledger = yield* Ledger
        const bus = yield* Bus
        const agentId = yield* agent({ concurrency: 2 })
        const [cancelled, neighbour] = yield* submit([
          command(agentId, { do: "hang" }),
          command(agentId, { do: "wait", gate: "neighbour" })
        ])
        if (cancelled === undefined || neighbour === undefined) return
        yield* untilTrue(() => probe.running() === 2)
        const [ran] = yield* ledger.cancel(home, [cancelled], { actor: "key:test", reason: undefined })
        expect(ran).toEqual({ id: cancelled, ranOn: agentId })
        yield* bus.notify({ _tag: "Interrupt", agent: agentId, tasks: [cancelled] })
        yield* untilTrue(() => probe.of(cancelled)[0]?.how === "interrupted", "100 millis")
        yield* probe.gate("neighbour").open
        expect((yield* ended([neighbour]))[0]?.status).toBe("completed")
        expect(yield* eventTypes(cancelled)).toEqual(["TaskCreated", "TaskStarted", "TaskCancelled"])
      })
    )

    it.effect("when it is cancelled and nobody says so: a check finds it", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const ledger = yield* Ledger
        const agentId = yield* agent()
        const [cancelled] = yield* submit([command(agentId, { do: "hang" })])
        if (cancelled === undefined) return
        yield* untilTrue(() => probe.of(cancelled).length === 1)
        yield* ledger.cancel(home, [cancelled], { actor: "key:test", reason: undefined })
        yield* untilTrue(() => probe.of(cancelled)[0]?.how === "interrupted", "2 seconds")
      })
    )

    it.effect("when it is cancelled before it began: it never runs", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const ledger = yield* Ledger
        const agentId = yield* agent()
        const [first, ...others] = yield* submit([
          command(agentId, { do: "wait", gate: "before" }),
          ...times(20).map(() => command(agentId))
        ])
        yield* untilTrue(() => probe.running() === 1)
        yield* ledger.cancel(home, others.slice(0, 10), { actor: "key:test", reason: undefined })
        yield* probe.gate("before").open
        yield* ended(first === undefined ? others : [first, ...others])
        expect(others.map((id) => probe.of(id).length)).toEqual([...times(10).map(() => 0), ...times(10).map(() => 1)])
      })
    )
  })

  it.effect("progress is recorded, the latest of many reports standing for all", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent()
      const [id] = yield* submit([command(agentId, { do: "report", reports: 5_000, gate: "reported" })])
      if (id === undefined) return
      yield* until(row(id), (found) => found?.progress !== null && found?.progress !== undefined)
      expect((yield* row(id))?.progress).toMatchObject({ completed_steps: 4_999 })
      yield* probe.gate("reported").open
      yield* ended([id])
      const reported = (yield* eventsOf(id)).filter(({ type }) => type === "TaskProgressed")
      expect(reported.length).toBeGreaterThanOrEqual(1)
      expect(reported.length).toBeLessThan(5)
    })
  )

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})
