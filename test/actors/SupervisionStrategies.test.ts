/** What the crash of one instance means for the others of its agent, on this node and on another, and for nobody else. */
import { expect, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { AgentHost } from "../../actors/AgentHost.ts"
import { SupervisorLimits } from "../../actors/AgentSupervisor.ts"
import { Bus } from "../../actors/ports/Bus.ts"
import { Placement } from "../../actors/ports/Placement.ts"
import { type AgentId, NodeName } from "../../protocol/Ids.ts"
import { brokenHistories, rows } from "../ledger/LedgerHarness.ts"
import { agent, change, command, ended, on, start, statusOf, submit, until, untilTrue, world } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

/** Two nodes: the first has instance 0 of every agent, the second the others. */
const shared = (name: "first" | "second") =>
  Layer.succeed(
    Placement,
    Placement.of({
      node: NodeName.make(name),
      takesWork: () => true,
      nodes: Effect.succeed([NodeName.make("first"), NodeName.make("second")]),
      owns: (_, index) => (index === 0) === (name === "first"),
      onChange: () => Effect.void,
      singleton: (_, loop) => (name === "first" ? Effect.asVoid(Effect.forkScoped(loop)) : Effect.void)
    })
  )

const pair = Effect.gen(function* () {
  const first = yield* start("first", shared("first"))
  const second = yield* start("second", shared("second"))
  const load = () => {
    const both = [first, second].map((node) => Context.get(node, AgentHost).load())
    return both.reduce((sum, { running, waiting }) => sum + running + waiting, 0)
  }
  return { first, second, load }
})

const leases = Effect.fnUntraced(function* (agentId: AgentId) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ index: number; node: string; epoch: number; restarts: number }>`
    select index, node, epoch, restarts from agent_instances where agent_id = ${agentId} order by index`
})

const eventsOf = Effect.fnUntraced(function* (agentId: AgentId) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ type: string; actor: string; data: { readonly instances?: ReadonlyArray<number> } }>`
    select type, actor, data from events where aggregate = ${agentId} order by number`
})

/** Orders a restart of an instance, as its use case does. */
const restart = Effect.fnUntraced(function* (agentId: AgentId, index: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update agents set instance_orders = jsonb_build_object(${index}::text, jsonb_build_object('restarts', 1)),
      version = version + 1, updated_at = clock_timestamp() where id = ${agentId}`
  yield* (yield* Bus).notify({ _tag: "AgentChanged", agent: agentId })
})

/** Three instances on two nodes with a task each, which wait at the gate `tag`. */
const threeAtWork = Effect.fnUntraced(function* (
  nodes: Effect.Success<typeof pair>,
  options: { readonly tag: string; readonly broken: ReadonlyArray<number>; readonly all: boolean }
) {
  const { all, broken, tag } = options
  const probe = yield* Probe
  const agentId = yield* agent({
    instances: 3,
    settings: { tag, broken },
    ...(all && { supervision: "one_for_all" as const })
  })
  const tasks = yield* submit([1, 2, 3].map(() => command(agentId, { do: "wait", gate: tag }))).pipe(on(nodes.first))
  yield* untilTrue(() => tasks.every((id) => probe.of(id).length === 1))
  return { agentId, tasks, before: yield* leases(agentId) }
})

/** More than one crash of each is not needed to see who is told, and little more to see who gives up. */
const hasty = Layer.succeed(SupervisorLimits, {
  instance: { crashesMax: 3, windowMillis: 60_000, delayMillis: 20, delayMaxMillis: 100 },
  agent: { crashesMax: 4, windowMillis: 60_000, delayMillis: 20, delayMaxMillis: 100 }
})

layer(Layer.merge(world, hasty), { excludeTestServices: true, timeout: "60 seconds" })(
  "when an instance crashes",
  (it) => {
    it.effect("one_for_one: it starts anew alone, and the tasks of the others go on", () =>
      Effect.gen(function* () {
        const nodes = yield* pair
        const probe = yield* Probe
        // The fourth time that the behaviour is opened is that of the instance which is told to start anew.
        const { agentId, before, tasks } = yield* threeAtWork(nodes, { tag: "alone", broken: [4], all: false })
        yield* restart(agentId, 1)
        const after = yield* until(leases(agentId), (found) => found[1]?.restarts === 1)
        yield* untilTrue(() => tasks.filter((id) => probe.of(id).length === 2).length === 1)
        expect([after[0], after[2]]).toEqual([before[0], before[2]])
        expect(tasks.map((id) => probe.of(id).length).sort((left, right) => left - right)).toEqual([1, 1, 2])
        expect(yield* eventsOf(agentId)).toEqual([])
        yield* probe.gate("alone").open
        for (const task of yield* ended(tasks)) expect(task).toMatchObject({ status: "completed", attempt: 1 })
      })
    )

    it.effect(
      "one_for_all: all of them start anew, those of another node too, each once and without an attempt more",
      () =>
        Effect.gen(function* () {
          const nodes = yield* pair
          const probe = yield* Probe
          const neighbour = yield* agent({ instances: 2, settings: { tag: "neighbour" } })
          const beside = yield* submit([1, 2].map(() => command(neighbour, { do: "wait", gate: "neighbour" }))).pipe(
            on(nodes.second)
          )
          yield* untilTrue(() => beside.every((id) => probe.of(id).length === 1))
          const { agentId, before, tasks } = yield* threeAtWork(nodes, { tag: "together", broken: [4], all: true })
          const everOpened = probe.open().ever
          yield* restart(agentId, 1)
          yield* untilTrue(() => tasks.every((id) => probe.of(id).length === 2))
          const after = yield* until(leases(agentId), (found) => found[1]?.restarts === 1)
          for (const [index, { node }] of before.entries()) {
            expect(after[index]).toMatchObject({ node, restarts: index === 1 ? 1 : 0 })
            expect(after[index]?.epoch).toBeGreaterThan(before[index]?.epoch ?? 0)
          }
          expect(yield* eventsOf(agentId)).toMatchObject([
            {
              type: "AgentInstancesRestarted",
              actor: "node:second",
              data: { instances: [0, 2], strategy: "one_for_all", crashed: 1, crash: { message: "cannot open: 4" } }
            }
          ])
          expect(probe.open().ever - everOpened).toBe(3)
          expect(tasks.map((id) => probe.of(id)[0]?.how)).toEqual(["interrupted", "interrupted", "interrupted"])
          expect(beside.map((id) => probe.of(id).length)).toEqual([1, 1])
          yield* probe.gate("together").open
          yield* probe.gate("neighbour").open
          for (const task of yield* ended([...tasks, ...beside])) {
            expect(task).toMatchObject({ status: "completed", attempt: 1 })
          }
        })
    )

    it.effect(
      "again and again: the agent is given up on both nodes, once; its tasks wait for its resume, others go on",
      () =>
        Effect.gen(function* () {
          const nodes = yield* pair
          const probe = yield* Probe
          const healthy = yield* agent({ instances: 2 })
          const never = Array.from({ length: 100 }, (_, index) => index + 4)
          const { agentId, tasks } = yield* threeAtWork(nodes, { tag: "given up", broken: never, all: true })
          yield* restart(agentId, 2)
          const given = yield* until(statusOf(agentId), (found) => found?.status === "error")
          expect(given?.status_reason).toMatch(/crashed \d times within 60 s; the last: Error: cannot open: /u)
          yield* untilTrue(() => nodes.load() === 0 && probe.running() === 0)
          const good = yield* submit(Array.from({ length: 20 }, () => command(healthy))).pipe(on(nodes.second))
          for (const task of yield* ended(good)) expect(task).toMatchObject({ status: "completed", attempt: 1 })
          expect(tasks.map((id) => probe.of(id).length)).toEqual([1, 1, 1])
          expect((yield* rows(tasks)).map(({ status }) => status)).toEqual(["queued", "queued", "queued"])
          const events = yield* eventsOf(agentId)
          const escalations = events.filter(({ type }) => type === "AgentStatusChanged")
          expect(escalations).toMatchObject([{ actor: expect.stringMatching(/^node:(first|second)$/u) }])
          expect(events.at(-1)?.type).toBe("AgentStatusChanged")

          yield* probe.gate("given up").open
          yield* change(agentId, { status: "active", settings: {} })
          for (const task of yield* ended(tasks)) expect(task).toMatchObject({ status: "completed", attempt: 1 })
          expect((yield* statusOf(agentId))?.status).toBe("active")
        })
    )

    it.effect("events of all of them count without a gap", () =>
      Effect.gen(function* () {
        expect(yield* brokenHistories).toEqual([])
      })
    )
  }
)
