/** Postgres goes away and comes back: nothing that was accepted is lost, and nothing runs twice because of it. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { expect, layer } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Result, Schedule } from "effect"
import { HostLimits } from "../../actors/AgentHost.ts"
import { Scheduler } from "../../actors/Scheduler.ts"
import { UuidV7 } from "../../actors/UuidV7.ts"
import type { SubmitTask } from "../../protocol/Task.ts"
import { migrate } from "../../src/ledger/Migrations.ts"
import * as Postgres from "../../src/ledger/Postgres.ts"
import { brokenHistories, rows } from "../ledger/LedgerHarness.ts"
import type { PostgresHandle } from "../support/ServerMakers.ts"
import { ownPostgres } from "../support/Servers.ts"
import * as SoloPlacement from "../support/SoloPlacement.ts"
import { agent, command, ended, node, submit, untilTrue, worldOn } from "./ActorHarness.ts"
import { Probe } from "./Probe.ts"

class Server extends Context.Service<Server, PostgresHandle>()("datamcp/test/Server") {}

const database = Layer.unwrap(
  Effect.map(ownPostgres(), (server) =>
    Layer.effectDiscard(migrate()).pipe(
      Layer.provideMerge(Postgres.layer({ url: server.url(), connectionsMax: 10, applicationName: "outage" })),
      Layer.provideMerge(Layer.mergeAll(NodeServices.layer, UuidV7.layer, Layer.succeed(Server, server)))
    )
  )
)

/** In proportion as usual: silence is looked for more often than heartbeats are sent. */
const proportions = Layer.effect(
  HostLimits,
  Effect.map(HostLimits, (limits) => ({ ...limits, heartbeatEvery: Duration.millis(700) }))
)

const fragile = node("fragile").pipe(
  Layer.provideMerge(SoloPlacement.layer),
  Layer.provideMerge(proportions),
  Layer.provideMerge(worldOn(database))
)

/** Kills Postgres and starts it again; what is left of its processes may keep the next one from starting for a moment. */
const restart = Effect.gen(function* () {
  const server = yield* Server
  yield* server.kill9
  yield* server.start.pipe(
    Effect.catchDefect((defect) => Effect.fail(defect)),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 60 }),
    Effect.orDie
  )
})

/** Submits until it is answered, as a client with an idempotency key would. */
const insist = Effect.fnUntraced(function* (given: SubmitTask) {
  const scheduler = yield* Scheduler
  const answers = yield* Effect.retry(scheduler.submit([given]), Schedule.spaced("50 millis"))
  return answers.map((answer) => Result.getOrThrow(answer).id)
})

layer(fragile, { excludeTestServices: true, timeout: "60 seconds" })("while Postgres goes away", (it) => {
  it.effect("killed twice in the middle of work, each task is accepted once, runs once and ends once", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const agentId = yield* agent({ concurrency: 8 })
      const clients = yield* Effect.forEach(
        Array.from({ length: 4 }, (_, client) => client),
        (client) =>
          Effect.forEach(
            Array.from({ length: 60 }, (_, index) => index),
            (index) => insist(command(agentId, {}, { idempotency_key: `${client}-${index}` }))
          ).pipe(Effect.forkChild)
      )
      for (const made of [30, 120]) {
        yield* untilTrue(() => probe.made.length >= made)
        yield* restart
      }
      const ids = (yield* Effect.forEach(clients, Fiber.join, { concurrency: "unbounded" })).flat(2)
      expect(new Set(ids).size).toBe(240)
      const found = yield* ended(ids, "15 seconds")
      expect(found.every(({ attempt, status }) => status === "completed" && attempt === 1)).toBe(true)
      for (const id of ids) expect(probe.of(id).map(({ how }) => how)).toEqual(["returned"])
      expect(yield* brokenHistories).toEqual([])
    })
  )

  it.effect("for longer than a silent lease is trusted, what runs goes on, and nobody takes it over", () =>
    Effect.gen(function* () {
      const probe = yield* Probe
      const server = yield* Server
      const agentId = yield* agent({ concurrency: 3 })
      const once = { configuration: { delivery: "at_most_once" } } as const
      const ids = yield* submit([
        command(agentId, { do: "wait", gate: "during" }, once),
        command(agentId, { do: "wait", gate: "after" }, once)
      ])
      yield* untilTrue(() => ids.every((id) => probe.of(id).length === 1))
      yield* server.stop
      // One ends while nobody can record it.
      yield* probe.gate("during").open
      yield* untilTrue(() => probe.of(ids[0] ?? "")[0]?.how === "returned")
      // Longer than the reconciler trusts a silent lease.
      yield* Effect.sleep("2 seconds")
      yield* server.start
      yield* ended(ids.slice(0, 1))
      yield* probe.gate("after").open
      yield* ended(ids)
      expect((yield* rows(ids)).map(({ attempt, status }) => [status, attempt])).toEqual([
        ["completed", 1],
        ["completed", 1]
      ])
    })
  )
})
