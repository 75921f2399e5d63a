/** A node's instances: started where there is work, kept to their definition, quarantined, hibernating, moved, given back. */
import { describe, expect, layer } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { AgentDirectory } from "../../actors/AgentDirectory.ts"
import { AgentHost } from "../../actors/AgentHost.ts"
import { InstanceLimits } from "../../actors/Instance.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import type { AgentId } from "../../protocol/Ids.ts"
import { brokenHistories, eventTypes, row, rows } from "../ledger/LedgerHarness.ts"
import {
  agent,
  calledFor,
  change,
  command,
  ended,
  on,
  solo,
  start,
  statusOf,
  submit,
  switchable,
  until,
  untilTrue,
  world
} from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

const times = (count: number) => Array.from({ length: count }, (_, index) => index)

const epochOf = Effect.fnUntraced(function* (agentId: AgentId, index = 0) {
  const sql = yield* SqlClient.SqlClient
  const [lease] = yield* sql<{ epoch: number; status: string; node: string }>`
    select epoch, status, node from agent_instances where agent_id = ${agentId} and index = ${index}
  `
  return lease
})

layer(solo, { excludeTestServices: true, timeout: "60 seconds" })("a host", (it) => {
  describe("when an agent's tasks crash too often", () => {
    it.effect("puts the agent into error; its queue waits, others go on, and resumed it carries on", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const poisoned = yield* agent({ concurrency: 5, retry: { max_attempts: 1 } })
        const healthy = yield* agent({ concurrency: 5 })
        const crashing = yield* submit(times(25).map(() => command(poisoned, { do: "crash" })))
        const waiting = yield* submit(times(10).map(() => command(poisoned)))
        const good = yield* submit(times(50).map(() => command(healthy)))
        yield* until(statusOf(poisoned), (found) => found?.status === "error")
        expect((yield* statusOf(poisoned))?.status_reason).toMatch(
          /crashed 21 times within 60 s; the last: Error: it crashed/
        )
        expect((yield* ended(good)).every(({ status }) => status === "completed")).toBe(true)
        expect((yield* statusOf(healthy))?.status).toBe("active")
        const host = yield* AgentHost
        yield* untilTrue(() => probe.running() === 0 && host.load().waiting === 0)
        // Crashes are not counted against what waits, nor does it run.
        const before = yield* rows([...crashing, ...waiting])
        expect(before.filter(({ status }) => status === "running")).toEqual([])
        expect(before.slice(25).every(({ attempt, status }) => status === "queued" && attempt === 0)).toBe(true)
        const more = yield* submit([command(poisoned)])
        yield* change(poisoned, { status: "active" })
        yield* ended([...waiting, ...more, ...crashing])
        expect((yield* rows(waiting)).every(({ attempt, status }) => status === "completed" && attempt === 1)).toBe(
          true
        )
      })
    )

    it.effect("or its settings do not open, does the same, and says why", () =>
      Effect.gen(function* () {
        const broken = yield* agent({ settings: { broken: "settings" } })
        const [task] = yield* submit([command(broken)])
        yield* until(statusOf(broken), (found) => found?.status === "error")
        expect((yield* statusOf(broken))?.status_reason).toContain("they are broken")
        yield* change(broken, { status: "active", settings: {} })
        yield* ended(task === undefined ? [] : [task])
      })
    )
  })

  describe("when an agent is changed", () => {
    it.effect("paused: what runs goes on and nothing else starts; resumed: the rest starts beside it", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ concurrency: 2 })
        const [long] = yield* submit([command(agentId, { do: "wait", gate: "long" })])
        if (long === undefined) return
        yield* untilTrue(() => probe.of(long).length === 1)
        yield* change(agentId, { status: "maintenance" })
        const waiting = yield* submit(times(5).map(() => command(agentId)))
        yield* calledFor(agentId, 3)
        expect((yield* rows(waiting)).every(({ status }) => status === "queued")).toBe(true)
        yield* change(agentId, { status: "active" })
        yield* ended(waiting, "3 seconds")
        expect(probe.of(long).map(({ how }) => how)).toEqual([undefined])
        yield* probe.gate("long").open
        expect((yield* ended([long]))[0]).toMatchObject({ status: "completed", attempt: 1 })
      })
    )

    it.effect("paused with nothing running: its instance ends; resumed: it comes back", () =>
      Effect.gen(function* () {
        const host = yield* AgentHost
        const probe = yield* Probe
        const before = host.active()
        const agentId = yield* agent()
        yield* ended(yield* submit([command(agentId)]))
        const open = probe.open().now
        yield* change(agentId, { status: "maintenance" })
        yield* untilTrue(() => host.active() <= before && probe.open().now < open)
        const waiting = yield* submit([command(agentId)])
        yield* change(agentId, { status: "active" })
        yield* ended(waiting)
      })
    )

    it.effect(
      "redefined while it runs: attempts end under the definition they began with, others begin under the new one",
      () =>
        Effect.gen(function* () {
          const probe = yield* Probe
          const agentId = yield* agent({ concurrency: 2, settings: { tag: "one" } })
          const [old] = yield* submit([command(agentId, { do: "wait", gate: "old" })])
          if (old === undefined) return
          yield* untilTrue(() => probe.of(old).length === 1)
          const before = probe.open().now
          yield* change(agentId, { settings: { tag: "two" } })
          const news = yield* until(
            Effect.flatMap(submit([command(agentId)]), (ids) => ended(ids)),
            ([found]) => (found?.result?.data as { tag?: string } | undefined)?.tag === "two"
          )
          expect(news[0]?.attempt).toBe(1)
          expect(probe.open().now).toBe(before + 1)
          yield* probe.gate("old").open
          expect((yield* ended([old]))[0]?.result?.data).toMatchObject({ tag: "one" })
          // The old one's resources go with its last attempt.
          yield* untilTrue(() => probe.open().now === before)
        })
    )

    it.effect("twice at once: the newest definition stays, whichever opens last", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const directory = yield* AgentDirectory
        const agentId = yield* agent({ settings: { tag: "first" } })
        yield* ended(yield* submit([command(agentId)]))
        const before = probe.open()
        yield* change(agentId, { settings: { tag: "slow", opening: "slow" } })
        yield* untilTrue(() => directory.byId(agentId)?.version === 2)
        yield* change(agentId, { settings: { tag: "newest" } })
        yield* untilTrue(() => probe.open().ever === before.ever + 1)
        yield* probe.gate("slow").open
        yield* untilTrue(() => probe.open().now === before.now)
        const [found] = yield* ended(yield* submit([command(agentId)]))
        expect(found?.result?.data).toMatchObject({ tag: "newest" })
      })
    )

    it.effect("while its instance is starting: the instance runs under what it has become", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const directory = yield* AgentDirectory
        const agentId = yield* agent({ settings: { tag: "early", opening: "start" } })
        const ever = probe.open().ever
        const early = yield* submit([command(agentId)])
        yield* until(epochOf(agentId), (lease) => lease !== undefined)
        yield* change(agentId, { settings: { tag: "late" } })
        yield* untilTrue(() => directory.byId(agentId)?.version === 2)
        expect(probe.open().ever).toBe(ever)
        yield* probe.gate("start").open
        yield* ended(early)
        const found = yield* until(
          Effect.flatMap(submit([command(agentId)]), (ids) => ended(ids)),
          ([each]) => (each?.result?.data as { tag?: string } | undefined)?.tag === "late",
          "2 seconds"
        )
        expect(found[0]?.status).toBe("completed")
      })
    )

    it.effect("scaled: up to as many instances as it wants, down by giving back what they ran", () =>
      Effect.gen(function* () {
        const probe = yield* Probe
        const agentId = yield* agent({ instances: 1 })
        const ids = yield* submit(
          times(3).map((index) => command(agentId, { do: "wait", gate: `scale-${index}`, times: 5 }))
        )
        yield* untilTrue(() => probe.running() === 1)
        yield* change(agentId, { instances: 3 })
        yield* untilTrue(() => probe.running() === 3)
        yield* change(agentId, { instances: 1 })
        yield* untilTrue(() => probe.running() === 1)
        yield* Effect.forEach(ids, (_, index) => probe.gate(`scale-${index}`).open)
        const found = yield* ended(ids)
        expect(found.map(({ attempt, status }) => [status, attempt])).toEqual(times(3).map(() => ["completed", 1]))
      })
    )
  })

  it.effect("starts as many instances as have work, however many agents have it at once", () =>
    Effect.gen(function* () {
      const agents = yield* Effect.replicateEffect(agent(), 60)
      const ids = yield* submit(agents.flatMap((agentId) => [command(agentId), command(agentId)]))
      expect((yield* ended(ids)).every(({ attempt, status }) => status === "completed" && attempt === 1)).toBe(true)
    })
  )

  it.effect("interrupts nothing because a stranger says so: what the ledger still has running is run again", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const bus = yield* Bus
      const agentId = yield* agent()
      const [id] = yield* submit([command(agentId, { do: "wait", gate: "stranger" })])
      if (id === undefined) return
      yield* untilTrue(() => probe.of(id).length === 1)
      yield* bus.notify({ _tag: "Interrupt", agent: agentId, tasks: [id] })
      yield* probe.gate("stranger").open
      expect((yield* ended([id]))[0]).toMatchObject({ status: "completed", attempt: 1 })
    })
  )

  it.effect("is not held up by an attempt that neither ends nor lets itself be ended", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent({ retry: { max_attempts: 2 } })
      const configuration = { timeout_ms: 30, retry: { max_attempts: 2, delay_ms: 1 } }
      const [stuck, next] = yield* submit([
        command(agentId, { do: "clean-up", gate: "clean-up" }, { configuration }),
        command(agentId)
      ])
      if (stuck === undefined || next === undefined) return
      const found = yield* ended([stuck, next])
      expect(found).toMatchObject([
        { status: "timeout", attempt: 2 },
        { status: "completed", attempt: 1 }
      ])
      yield* probe.gate("clean-up").open
      yield* untilTrue(() => probe.of(stuck).every(({ how }) => how === "interrupted"))
    })
  )

  it.effect("counts a behaviour that interrupts itself as crashing, and does not run it for ever", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent({ retry: { max_attempts: 3 } })
      const [id] = yield* submit([command(agentId, { do: "interrupt" })])
      if (id === undefined) return
      expect((yield* ended([id]))[0]).toMatchObject({
        status: "failed",
        attempt: 3,
        result: { error: { code: "crashed" } }
      })
      expect(probe.of(id)).toHaveLength(3)
    })
  )

  it.effect("events of all of them count without a gap", () =>
    Effect.gen(function* () {
      expect(yield* brokenHistories).toEqual([])
    })
  )
})

const drowsy = Layer.effect(
  InstanceLimits,
  Effect.map(InstanceLimits, (limits) => ({ ...limits, idleAfter: Duration.millis(100) }))
)

layer(world, { excludeTestServices: true, timeout: "60 seconds" })("hosts that come and go", (it) => {
  it.effect("an idle instance hibernates, its behaviour closed, and wakes for the next task under a new epoch", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const node = yield* start("drowsy").pipe(Effect.provide(drowsy))
      const agentId = yield* agent()
      let epoch = 0
      for (let round = 0; round < 3; round++) {
        yield* ended(yield* submit([command(agentId)]).pipe(on(node)))
        yield* until(epochOf(agentId), (lease) => lease?.status === "hibernating")
        const lease = yield* epochOf(agentId)
        expect(lease?.epoch).toBeGreaterThan(epoch)
        epoch = lease?.epoch ?? 0
        yield* untilTrue(() => probe.open().now === 0 && Context.get(node, AgentHost).active() === 0)
      }
    })
  )

  it.effect("no task is late or lost that comes just when its instance falls asleep", () =>
    Effect.gen(function* () {
      const node = yield* start("dozing").pipe(Effect.provide(drowsy))
      const agentId = yield* agent()
      for (let round = 0; round < 12; round++) {
        yield* ended(yield* submit([command(agentId)]).pipe(on(node)))
        // Not a wait but the moment itself, from well before it falls asleep to well after.
        yield* Effect.sleep(Duration.millis(70 + 6 * round))
        // Sooner than the reconciler would find it.
        yield* ended(yield* submit([command(agentId)]).pipe(on(node)), "2 seconds")
      }
    })
  )

  it.effect("closing a node gives back what runs, without a further attempt, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const scope = yield* Scope.make()
      const placement = switchable()
      placement.move("a")
      const a = yield* start("a", placement.of("a")).pipe(Scope.provide(scope))
      const b = yield* start("b", placement.of("b"))
      const agentId = yield* agent({ concurrency: 8 })
      const long = yield* submit(times(4).map(() => command(agentId, { do: "wait", gate: "handed-over" }))).pipe(on(a))
      const [once] = yield* submit([
        command(agentId, { do: "hang" }, { configuration: { delivery: "at_most_once" } })
      ]).pipe(on(a))
      const many = yield* submit(times(300).map(() => command(agentId))).pipe(on(b))
      if (once === undefined) return
      yield* untilTrue(() => long.every((id) => probe.of(id).length === 1) && probe.of(once).length === 1)
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      expect(Duration.toMillis(took)).toBeLessThan(1_000)
      expect(probe.running()).toBe(0)
      expect(probe.open().now).toBe(0)
      placement.move("b")
      yield* untilTrue(() => long.every((id) => probe.of(id).length === 2))
      yield* probe.gate("handed-over").open
      const found = yield* ended([...long, ...many])
      expect(found.every(({ attempt, status }) => status === "completed" && attempt === 1)).toBe(true)
      expect((yield* eventTypes(long[0] ?? "")).filter((type) => type === "TaskStarted")).toHaveLength(2)
      // What may run once was cut short: nobody knows what it did.
      expect(yield* row(once)).toMatchObject({ status: "failed", result: { error: { code: "unknown_outcome" } } })
      expect(probe.of(once)).toHaveLength(1)
    })
  )

  it.effect("a takeover fences a node that did not hear of it: its results are refused, its instance ends", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const placement = switchable()
      placement.move("deaf")
      const deaf = yield* start("deaf", placement.of("deaf"))
      const heir = yield* start("heir", placement.of("heir"))
      const agentId = yield* agent({ concurrency: 4 })
      const ids = yield* submit(times(4).map(() => command(agentId, { do: "wait", gate: "fenced", times: 1 }))).pipe(
        on(deaf)
      )
      yield* untilTrue(() => ids.every((id) => probe.of(id).length === 1))
      expect((yield* epochOf(agentId))?.node).toBe("deaf")
      placement.move("heir", ["heir"])
      const found = yield* ended(ids)
      expect(found.every(({ attempt, status }) => status === "completed" && attempt === 2)).toBe(true)
      expect((yield* epochOf(agentId))?.node).toBe("heir")
      // The deaf node's attempts end now; what they say changes nothing.
      yield* probe.gate("fenced").open
      yield* untilTrue(() => ids.every((id) => probe.of(id).every(({ how }) => how !== undefined)))
      yield* untilTrue(() => Context.get(deaf, AgentHost).load().running === 0)
      expect((yield* rows(ids)).map(({ version }) => version)).toEqual(found.map(({ version }) => version))
      yield* ended(yield* submit(times(20).map(() => command(agentId))).pipe(on(deaf)))
      expect(Context.get(heir, AgentHost).active()).toBe(1)
    })
  )

  it.effect("moved forth and back while it works, an agent loses nothing and repeats nothing", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const placement = switchable()
      placement.move("left")
      const left = yield* start("left", placement.of("left"))
      yield* start("right", placement.of("right"))
      const agentId = yield* agent({ concurrency: 6, retry: { max_attempts: 50 } })
      const ids = yield* submit(times(400).map(() => command(agentId))).pipe(on(left))
      const completed = Effect.map(rows(ids), (all) => all.filter(({ status }) => status === "completed").length)
      for (const [move, to] of ["right", "left", "right", "left", "right"].entries()) {
        placement.move(to)
        yield* until(completed, (count) => count >= 60 * (move + 1))
      }
      const found = yield* ended(ids, "15 seconds")
      expect(found.every(({ status }) => status === "completed")).toBe(true)
      for (const id of ids)
        expect(probe.of(id).filter(({ how }) => how === "returned").length).toBeGreaterThanOrEqual(1)
      expect(yield* brokenHistories).toEqual([])
    })
  )
})
